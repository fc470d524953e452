"""Localisation Recall Precision (LRP) error and optimal LRP.

Shapes:
    D: detections
    K: classes

For a class with n objects, where tau is the IoU threshold of the matching:
    LRP = (sum over TP of (1 - IoU) / (1 - tau) + FP + FN) / (TP + FP + FN)
    loc = mean over TP of (1 - IoU), not divided by 1 - tau
    fp  = FP / (TP + FP)
    fn  = FN / n
"""
from dataclasses import dataclass
from typing import Any, Dict, Tuple

import numpy as np

from .matching import (FALSE_POSITIVE, TRUE_POSITIVE, DetectionMatches,
                       check_matches)
from .undefined_values import mean_of_defined

# Thresholds whose LRP differs by less are treated as equal, so that rounding
# does not decide between them.
_EQUAL_LRP = 1e-12


@dataclass(frozen=True, eq=False)
class LRPError:
    """LRP or oLRP with its components; arrays have shape (K,).

    All values of a class without objects are NaN. Each mean is over the
    classes where the component is defined, so the four means may cover
    different classes.

    Attributes:
        iou_thr (float): IoU threshold tau of the matching.
        lrp (ndarray): LRP error; 1 for a class with objects and no true
            positive.
        loc (ndarray): Localisation component; NaN without true positives.
        fp (ndarray): False positive component; NaN without counted detections.
        fn (ndarray): False negative component, the share of missed objects.
        num_tp (ndarray): Number of true positives, int64.
        num_fp (ndarray): Number of false positives, int64.
        num_fn (ndarray): Number of missed objects, int64.
        threshold (ndarray): Score threshold. Detections with score >=
            threshold give these figures. NaN where there is no threshold; all
            NaN for plain LRP.
    """
    iou_thr: float
    lrp: np.ndarray
    loc: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    num_tp: np.ndarray
    num_fp: np.ndarray
    num_fn: np.ndarray
    threshold: np.ndarray

    @property
    def mean_lrp(self) -> float:
        """Mean over the classes with objects."""
        return mean_of_defined(self.lrp)

    @property
    def mean_loc(self) -> float:
        """Mean over the classes with true positives."""
        return mean_of_defined(self.loc)

    @property
    def mean_fp(self) -> float:
        """Mean over the classes with objects and counted detections."""
        return mean_of_defined(self.fp)

    @property
    def mean_fn(self) -> float:
        """Mean over the classes with objects."""
        return mean_of_defined(self.fn)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        per_class = {
            name: getattr(self, name).tolist()
            for name in ('lrp', 'loc', 'fp', 'fn', 'num_tp', 'num_fp',
                         'num_fn', 'threshold')
        }
        return dict(
            iou_thr=self.iou_thr,
            lrp=self.mean_lrp,
            loc=self.mean_loc,
            fp=self.mean_fp,
            fn=self.mean_fn,
            per_class=per_class)


def lrp(matches: DetectionMatches) -> LRPError:
    """LRP error of the detections, without choosing a threshold.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold.

    Returns:
        LRPError: LRP error of each class, with means.

    Reference:
        Oksuz et al., "Localization Recall Precision (LRP): A New Performance
        Metric for Object Detection", ECCV 2018; Oksuz et al., "One Metric to
        Measure Them All", TPAMI 2021, Eq. 3.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth, match_detections)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7], class_names={1: 'cell'})
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> matches = match_detections(ground_truth, detections, iou_thr=0.5)
        >>> # ((1-1)/.5 + (1-.8)/.5 + 1 false + 0 missed) / 3
        >>> round(lrp(matches).mean_lrp, 4)
        0.4667
    """
    check_matches(matches)
    num_tp = matches.count_by_class(TRUE_POSITIVE)
    num_fp = matches.count_by_class(FALSE_POSITIVE)
    is_tp = matches.is_tp
    loc_sum = np.bincount(
        matches.class_index[is_tp],
        1 - matches.iou[is_tp],
        minlength=matches.num_classes)
    return _from_counts(matches, num_tp, num_fp, loc_sum,
                        np.full(matches.num_classes, np.nan))


def olrp(matches: DetectionMatches) -> LRPError:
    """Optimal LRP: the smallest LRP error over all score thresholds.

    Thresholds between distinct scores are compared; no threshold can separate
    equal scores. Among equal errors the higher threshold is chosen. A class
    without true positives has oLRP 1 and no threshold.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.

    Returns:
        LRPError: LRP error of each class at its ``.threshold``, with means.

    Reference:
        Oksuz et al., "One Metric to Measure Them All", TPAMI 2021, Eq. 5.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth, match_detections)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7], class_names={1: 'cell'})
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> matches = match_detections(ground_truth, detections, iou_thr=0.5)
        >>> # Without the false positive: ((1-1)/.5 + (1-.8)/.5) / 2
        >>> error = olrp(matches)
        >>> round(error.mean_lrp, 4), error.threshold
        (0.2, array([0.6]))
    """
    check_matches(matches)
    num_tp = matches.count_by_class(TRUE_POSITIVE)
    num_fp = matches.count_by_class(FALSE_POSITIVE)
    loc_sum = np.zeros(matches.num_classes)
    threshold = np.full(matches.num_classes, np.nan)
    counted = np.flatnonzero(matches.is_counted)
    by_class = counted[np.argsort(matches.class_index[counted], kind='stable')]
    ends = np.cumsum(num_tp + num_fp)
    for k in np.flatnonzero((matches.num_objects > 0) & (num_tp > 0)):
        members = by_class[ends[k] - num_tp[k] - num_fp[k]:ends[k]]
        num_tp[k], num_fp[k], loc_sum[k], threshold[k] = _best_cut(
            matches.scores[members], matches.is_tp[members],
            matches.iou[members], int(matches.num_objects[k]), matches.iou_thr)
    return _from_counts(matches, num_tp, num_fp, loc_sum, threshold)


def _best_cut(scores: np.ndarray, is_tp: np.ndarray, iou: np.ndarray,
              num_objects: int,
              iou_thr: float) -> Tuple[int, int, float, float]:
    """TP, FP, sum of 1 - IoU and threshold at the smallest LRP of a class."""
    order = np.argsort(-scores, kind='stable')
    scores, is_tp = scores[order], is_tp[order]
    num_tp = np.cumsum(is_tp)
    loc_sum = np.cumsum(np.where(is_tp, 1 - iou[order], 0.0))
    # A threshold keeps all or none of the detections of equal score. Without
    # true positives LRP is 1, which no other threshold exceeds: such a
    # threshold need not be compared.
    is_cut = np.append(scores[1:] != scores[:-1], True) & (num_tp > 0)
    cut = np.flatnonzero(is_cut)
    num_fp = cut + 1 - num_tp[cut]
    error = _lrp(loc_sum[cut], num_tp[cut], num_fp, num_objects - num_tp[cut],
                 iou_thr)
    best = int(np.argmax(error <= error.min() + _EQUAL_LRP))
    last = cut[best]
    return num_tp[last], num_fp[best], loc_sum[last], scores[last]


def _lrp(loc_sum: np.ndarray, num_tp: np.ndarray, num_fp: np.ndarray,
         num_fn: np.ndarray, iou_thr: float) -> np.ndarray:
    return ((loc_sum / (1 - iou_thr) + num_fp + num_fn) /
            (num_tp + num_fp + num_fn))


def _from_counts(matches: DetectionMatches, num_tp: np.ndarray,
                 num_fp: np.ndarray, loc_sum: np.ndarray,
                 threshold: np.ndarray) -> LRPError:
    num_objects = matches.num_objects
    num_fn = num_objects - num_tp
    undefined = np.where(num_objects > 0, 0.0, np.nan)
    with np.errstate(invalid='ignore', divide='ignore'):
        # 0 / 0 is NaN: undefined. For classes without objects, adding NaN also
        # replaces x / 0.
        error = _lrp(loc_sum, num_tp, num_fp, num_fn, matches.iou_thr)
        loc = loc_sum / num_tp
        fp = num_fp / (num_tp + num_fp)
        fn = num_fn / num_objects
    return LRPError(matches.iou_thr, error + undefined, loc + undefined,
                    fp + undefined, fn + undefined, num_tp, num_fp, num_fn,
                    threshold)
