"""Score thresholds to deploy a detector with, and what they bring.

Shape shorthand:
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
    """What is left of the detections above a threshold.

    Attributes:
        threshold (float): Detections of lower score are left out; NaN where
            there is none to choose.
        precision (float): Share of true positives among those left.
        recall (float): Share of the objects that they find.
        lrp (float): LRP error there.
    """
    threshold: float
    precision: float
    recall: float
    lrp: float


def overall_operating_point(matches: DetectionMatches) -> OperatingPoint:
    """The one threshold for all classes with the least LRP error.

    All classes are pooled as if they were one, so that frequent classes
    decide, as they do in the use of one threshold.

    Args:
        matches (DetectionMatches): At the IoU threshold wanted.

    Returns:
        OperatingPoint: NaN throughout without objects or detections.

    Reference:
        Oksuz et al., One Metric to Measure Them All, TPAMI 2021, eq. 5.
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
    """The LRP-optimal threshold of each class, K of them.

    Args:
        report (DetectionCalibrationReport): With ``olrp``.
    """
    best = report.olrp
    return [
        OperatingPoint(*map(float, row))
        for row in zip(best.threshold, 1 - best.fp, 1 - best.fn, best.lrp)
    ]


def threshold_curve(matches: DetectionMatches) -> List[Dict[str, Any]]:
    """Precision and recall of all classes together, by threshold.

    Args:
        matches (DetectionMatches): At the IoU threshold wanted.

    Returns:
        List[Dict[str, Any]]: One row for each of T = 101 thresholds, with
        'threshold', 'precision' (NaN where nothing is left), 'recall' and
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
