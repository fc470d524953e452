"""Score thresholds for deployment, with their precision and recall.

Shapes:
    D: detections
    K: classes
    T: thresholds of a curve
"""
from dataclasses import dataclass, replace
from typing import Any, Dict, List

import numpy as np

from tcal_det.evaluation.functional import (DetectionCalibrationReport,
                                            DetectionMatches, olrp)

# Thresholds 0, 0.01, ..., 1.
_CURVE = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold with the quality of the detections above it.

    Attributes:
        threshold (float): Score threshold; detections with a lower score are
            left out. NaN if no threshold can be chosen.
        precision (float): Share of true positives among the other
            detections.
        recall (float): Share of the objects that these detections find.
        lrp (float): LRP error of these detections.
    """
    threshold: float
    precision: float
    recall: float
    lrp: float


def overall_operating_point(matches: DetectionMatches) -> OperatingPoint:
    """Find the threshold for all classes with the least LRP error.

    All classes are pooled as if they were one. So frequent classes have more
    influence, as they also have where the threshold is used.

    Args:
        matches (DetectionMatches): Matches at the IoU threshold of interest.

    Returns:
        OperatingPoint: Threshold with its figures; all are NaN if there is no
        object or no detection.

    Reference:
        Oksuz et al., "One Metric to Measure Them All", TPAMI 2021, Eq. 5.
    """
    pooled = replace(
        matches,
        class_index=np.zeros_like(matches.class_index),
        num_objects=matches.num_objects.sum(keepdims=True))
    best = olrp(pooled)
    return OperatingPoint(
        float(best.threshold[0]), float(1 - best.fp[0]), float(1 - best.fn[0]),
        float(best.lrp[0]))


def class_operating_points(
        report: DetectionCalibrationReport) -> List[OperatingPoint]:
    """List the LRP-optimal threshold of each class, with its figures.

    Args:
        report (DetectionCalibrationReport): Report with ``olrp``.

    Returns:
        list[OperatingPoint]: Operating points, length K.
    """
    best = report.olrp
    return [
        OperatingPoint(*map(float, row))
        for row in zip(best.threshold, 1 - best.fp, 1 - best.fn, best.lrp)
    ]


def threshold_curve(matches: DetectionMatches) -> List[Dict[str, Any]]:
    """Precision and recall of all classes together, by threshold.

    Args:
        matches (DetectionMatches): Matches at the IoU threshold of interest.

    Returns:
        list[dict[str, Any]]: One row for each of T = 101 thresholds, with
        'threshold', 'precision' (NaN if no detection remains), 'recall' and
        'detections'.
    """
    is_counted = matches.is_counted
    counted = np.sort(matches.scores[is_counted])
    right = np.sort(matches.scores[matches.is_tp])
    left = len(counted) - np.searchsorted(counted, _CURVE, side='left')
    num_tp = len(right) - np.searchsorted(right, _CURVE, side='left')
    with np.errstate(invalid='ignore', divide='ignore'):
        # 0 / 0 is NaN: undefined
        precision = num_tp / left
        recall = num_tp / matches.num_objects.sum()
    return [
        dict(threshold=threshold, precision=p, recall=r, detections=n)
        for threshold, p, r, n in zip(_CURVE.tolist(), precision.tolist(),
                                      recall.tolist(), left.tolist())
    ]
