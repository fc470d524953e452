"""COCO's average precision and recall of boxes, from checked arrays.

``average_precision(ground_truth, detections)`` returns the twelve figures of
pycocotools' COCOeval for boxes, bit for bit, overall and for each class. For a
bootstrap over images, match once and weight the images anew for each resample:
``table, = precision_tables(ground_truth, detections)`` (any area, 100
detections), then ``interpolated_precision(table, image_counts)`` gives the
precision of each IoU threshold, recall threshold and class, shape
(10, 101, K), when image i occurs ``image_counts[i]`` times, and
``mean_precision(precision)`` its 'mAP', 'AP50' and 'AP75'. Without
``image_counts`` every image occurs once.
"""
from dataclasses import dataclass
from typing import Dict, List, Optional

import numpy as np

from .box_pairs import RankedPairs
from .coco_arrays import Detections, GroundTruth
from .precision_table import (ANY_AREA, AreaRange, interpolated_precision,
                              precision_tables, recall)
from .undefined_values import mean_of_defined

# COCO's area ranges, but without an upper limit: COCO's limit is a box of
# 100,000 x 100,000 pixels, and larger boxes would not be counted.
AREA_RANGES = dict(
    small=AreaRange(0, 32**2),
    medium=AreaRange(32**2, 96**2),
    large=AreaRange(96**2, np.inf))
# Each figure is the mean over these indices of the IoU thresholds .5, .55,
# ..., .95.
_THRESHOLDS = dict(mAP=slice(None), AP50=slice(0, 1), AP75=slice(5, 6))
_MAX_DETS = (1, 10, 100)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures, NaN where there is no object in the area range.

    Keys: 'mAP' (mean over IoU thresholds .5 to .95), 'AP50', 'AP75',
    'AP_small', 'AP_medium', 'AP_large' (by area of the objects, bounds 32 x 32
    and 96 x 96 pixels); 'AR_1', 'AR_10', 'AR_100' (recall with at most 1, 10
    and 100 detections per image and class), 'AR_small', 'AR_medium',
    'AR_large'.

    Attributes:
        overall (dict[str, float]): Figures averaged over classes.
        per_class (list[dict[str, float]]): Figures of each class, in the order
            of ``GroundTruth.category_ids``.
    """
    overall: Dict[str, float]
    per_class: List[Dict[str, float]]


def average_precision(ground_truth: GroundTruth,
                      detections: Detections,
                      pairs: Optional[RankedPairs] = None) -> AveragePrecision:
    """Measure AP and AR as pycocotools' COCOeval does.

    There are two deliberate differences: objects with annotation id 0 can be
    matched, and the area of large boxes has no upper limit.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes; may
            be empty, which ``COCO.loadRes`` does not allow.
        pairs (RankedPairs, optional): Pairs that :func:`rank_pairs` returned
            for the same data, if several functions share them. Defaults to
            None, which computes them.

    Returns:
        AveragePrecision: The figures.

    Reference:
        Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014;
        ``pycocotools.cocoeval``.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7], class_names={1: 'cell'})
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> overall = average_precision(ground_truth, detections).overall
        >>> overall['AP50'], overall['AR_1']  # with one detection: 1 of 2
        (1.0, 0.5)
    """
    any_area, *by_area = precision_tables(ground_truth, detections,
                                          (ANY_AREA, *AREA_RANGES.values()),
                                          pairs)
    of_any = interpolated_precision(any_area)
    # Values of each figure, shape (thresholds, ..., K).
    values = {name: of_any[thrs] for name, thrs in _THRESHOLDS.items()}
    for name, table in zip(AREA_RANGES, by_area):
        values[f'AP_{name}'] = interpolated_precision(table)
    for max_dets in _MAX_DETS:
        values[f'AR_{max_dets}'] = recall(any_area, max_dets)
    for name, table in zip(AREA_RANGES, by_area):
        values[f'AR_{name}'] = recall(table)
    return AveragePrecision(
        {
            name: mean_of_defined(value.ravel())
            for name, value in values.items()
        }, [{
            name: mean_of_defined(value[..., k].ravel())
            for name, value in values.items()
        } for k in range(ground_truth.num_classes)])


def mean_precision(precision: np.ndarray) -> Dict[str, float]:
    """Average 'mAP', 'AP50' and 'AP75' over all classes.

    Args:
        precision (ndarray): Precision from :func:`interpolated_precision`,
            shape (T, R, K).
    """
    return {
        name: mean_of_defined(precision[thrs].ravel())
        for name, thrs in _THRESHOLDS.items()
    }
