"""Errors of a detector by box size, score and position in the image.

Shapes:
    G: objects of the ground truth
    D: detections
"""
from typing import Any, Dict, List, Optional

import numpy as np

from tcal_det.evaluation.functional import (DetectionCalibrationReport,
                                            DetectionMatches, GroundTruth,
                                            bin_index, relative_box_features)

# Upper limits of small and medium boxes in COCO, as areas in pixels.
SIZE_LIMITS = (32**2, 96**2)
SIZE_NAMES = ('small', 'medium', 'large')
_SCORE_BINS = 20
_POSITION_BINS = 8
# A cell with fewer objects has no reliable share.
_FEWEST_OBJECTS = 5


def is_missed(ground_truth: GroundTruth,
              matches: DetectionMatches) -> np.ndarray:
    """Mask of the objects without a true positive, crowds excluded.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        matches (DetectionMatches): Matched detections, all or those above a
            threshold.

    Returns:
        ndarray: Whether each object is missed, boolean, shape (G,).
    """
    found = np.zeros(len(ground_truth.boxes), dtype=bool)
    found[matches.object_index[matches.is_tp]] = True
    return ~found & ~ground_truth.iscrowd


def errors_by_size(ground_truth: GroundTruth, matches: DetectionMatches,
                   threshold: float) -> List[Dict[str, Any]]:
    """Missed objects and false detections of small, medium and large boxes.

    The size of an object is that of its own box, the size of a detection that
    of the predicted box.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        matches (DetectionMatches): Matches of all detections.
        threshold (float): Score threshold; detections with a lower score are
            left out, NaN keeps all.

    Returns:
        list[dict[str, Any]]: One row per size with 'size', 'objects',
        'missed' (share of the objects), 'detections', 'false' (share of the
        detections), 'score' (mean score) and 'gap' (mean score minus
        precision); NaN where undefined.
    """
    kept = matches.above(threshold)
    missed = is_missed(ground_truth, kept)
    size_of_object = _size_index(ground_truth.boxes)
    size_of_detection = _size_index(matches.boxes)
    rows = []
    for size, name in enumerate(SIZE_NAMES):
        objects = (size_of_object == size) & ~ground_truth.iscrowd
        members = (size_of_detection == size) & kept.is_counted
        score = _mean(kept.scores[members])
        precision = _mean(kept.is_tp[members])
        rows.append(
            dict(
                size=name,
                objects=int(objects.sum()),
                missed=_mean(missed[objects]),
                detections=int(members.sum()),
                false=1 - precision,
                score=score,
                gap=score - precision))
    return rows


def detections_by_score(matches: DetectionMatches) -> List[Dict[str, Any]]:
    """True and false positives in 20 bins of the score.

    Args:
        matches (DetectionMatches): Matches of all detections.

    Returns:
        list[dict[str, Any]]: Two rows per bin, with 'low', 'high', 'kind'
        ('right' or 'wrong') and 'count'.
    """
    rows = []
    for kind, members in (('right', matches.is_tp),
                          ('wrong', matches.is_counted & ~matches.is_tp)):
        counts = np.bincount(
            bin_index(matches.scores[members], _SCORE_BINS),
            minlength=_SCORE_BINS)
        rows += [
            dict(
                low=index / _SCORE_BINS,
                high=(index + 1) / _SCORE_BINS,
                kind=kind,
                count=count) for index, count in enumerate(counts.tolist())
        ]
    return rows


def misses_by_position(ground_truth: GroundTruth, matches: DetectionMatches,
                       threshold: float) -> Optional[List[Dict[str, Any]]]:
    """Share of the objects that are missed, by the position of their centre.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        matches (DetectionMatches): Matches of all detections.
        threshold (float): Score threshold; detections with a lower score are
            left out, NaN keeps all.

    Returns:
        list[dict[str, Any]], optional: One row for each cell of an 8 x 8 grid
        with at least 5 objects: 'x', 'x2', 'y', 'y2' (fractions of the
        image, y downwards), 'value' and 'count'. None if an image size is
        unknown.
    """
    kept = ~ground_truth.iscrowd
    sizes = ground_truth.image_sizes[ground_truth.image_index[kept]]
    if np.isnan(sizes).any():
        return None
    centre = relative_box_features(ground_truth.boxes[kept], sizes,
                                   ('cx', 'cy'))
    missed = is_missed(ground_truth, matches.above(threshold))[kept]
    column, row = (bin_index(part, _POSITION_BINS) for part in centre.T)
    cell = row * _POSITION_BINS + column
    num_cells = _POSITION_BINS**2
    count = np.bincount(cell, minlength=num_cells)
    total = np.bincount(cell, missed, minlength=num_cells)
    return [
        _grid_cell(*divmod(index, _POSITION_BINS), _POSITION_BINS,
                   total[index] / count[index], count[index])
        for index in np.flatnonzero(count >= _FEWEST_OBJECTS).tolist()
    ]


def gaps_by_position(
        report: DetectionCalibrationReport) -> Optional[List[Dict[str, Any]]]:
    """Mean score minus precision, by the position of the predicted centre.

    Args:
        report (DetectionCalibrationReport): Report with ``d_ece_position``.

    Returns:
        list[dict[str, Any]], optional: Rows as in :func:`misses_by_position`
        for the cells with at least ``position_min_samples`` detections. None
        if ``d_ece_position`` is None.
    """
    if report.d_ece_position is None:
        return None
    grid = report.d_ece_position.bins
    count = grid.count.sum(axis=0)
    # The gap of an empty bin is NaN.
    gap = np.where(grid.count > 0, grid.count * grid.gap, 0).sum(axis=0)
    num_bins = len(count)
    fewest = report.settings['position_min_samples']
    return [
        _grid_cell(row, column, num_bins,
                   gap[column, row] / count[column, row], count[column, row])
        for column, row in np.argwhere(count >= fewest).tolist()
    ]


def _grid_cell(row: int, column: int, num_bins: int, value: float,
               count: int) -> Dict[str, Any]:
    return dict(
        x=column / num_bins,
        x2=(column + 1) / num_bins,
        y=row / num_bins,
        y2=(row + 1) / num_bins,
        value=float(value),
        count=int(count))


def _size_index(boxes: np.ndarray) -> np.ndarray:
    """Size of each box: 0 for small, 1 for medium, 2 for large."""
    return np.searchsorted(SIZE_LIMITS, boxes[:, 2] * boxes[:, 3], 'right')


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float('nan')
