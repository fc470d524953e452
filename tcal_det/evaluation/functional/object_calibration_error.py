"""Object-level calibration error (OCE), which includes missed objects.

Shapes:
    G: objects of the ground truth
    D: detections
    K: classes
    T: IoU thresholds
"""
import warnings
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from tcal_det.checks import check_iou_thr
from tcal_det.errors import InvalidValueError, TcalDetWarning
from .array_checks import as_unit_interval
from .box_pairs import BoxPairs
from .coco_arrays import (Detections, GroundTruth, check_detections,
                          check_ground_truth)
from .image_pairs import image_pairs
from .undefined_values import mean_of_defined

# Cost of an object without detections: all probability is missing.
_MISSED = 1.0


@dataclass(frozen=True, eq=False)
class ObjectCalibrationError:
    """OCE: the mean Brier score of the class predictions for each object.

    Attributes:
        oce (float): Mean over objects and thresholds, in [0, 2] if the
            probabilities add up to 1; NaN without objects.
        iou_thrs (tuple[float, ...]): IoU thresholds.
        per_iou_thr (tuple[float, ...]): OCE at each threshold.
        missed (tuple[float, ...]): Share of objects without any detection
            at each threshold; each costs 1.
        per_class (ndarray): Mean over the objects of each class, NaN for a
            class without objects, shape (K,).
        per_object (ndarray): Mean cost of each object over thresholds, NaN for
            crowds, shape (G,). Not part of ``to_dict``.
        uses_probs (bool): Whether class probabilities were used, instead of
            one class and score for each detection.
    """
    oce: float
    iou_thrs: Tuple[float, ...]
    per_iou_thr: Tuple[float, ...]
    missed: Tuple[float, ...]
    per_class: np.ndarray
    per_object: np.ndarray
    uses_probs: bool

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            oce=self.oce,
            iou_thrs=list(self.iou_thrs),
            per_iou_thr=list(self.per_iou_thr),
            missed=list(self.missed),
            per_class=self.per_class.tolist(),
            uses_probs=self.uses_probs)


def object_calibration_error(
    ground_truth: GroundTruth,
    detections: Detections,
    probs: Optional[ArrayLike] = None,
    iou_thrs: Sequence[float] = (0.5, 0.75)
) -> ObjectCalibrationError:
    """OCE: how well the detections on each object predict its class.

    For an object of class y, all detections of its image that reach the IoU
    threshold with it are assigned to it, whatever their class. A detection may
    be assigned to several objects. With class probabilities, p is their mean
    over the assigned detections, and the cost of the object is ``sum over c of
    ([c = y] - p_c)^2``. The cost of an object without detections is 1, as if p
    were 0.

    Without ``probs`` only one class and score of each detection is known. Then
    p is the mean score, and the predicted class is the most frequent class of
    the assigned detections (among equally frequent classes the first in the
    order of ``category_ids``). The cost of the object is ``2 (1 - p)^2`` if
    this class is right and ``2 p^2`` if it is wrong: the Brier score of the
    two outcomes "this class" and "another class". This is a different figure,
    and the two must not be compared: a detection of the wrong class with a low
    score costs almost nothing here; with probabilities this is so only if the
    remaining probability is on the right class. Both figures agree if the
    probabilities of each detection add up to 1 and are zero except for its
    predicted class and one other class, the class of the object is one of
    these two, and all detections of an object predict the same class.

    All given detections are used, without a limit for each image. Apply a
    score threshold before calling this function.

    Both figures equal ``uq_detr.oce`` 0.1.1 with ``aggregation='mean'`` (for
    (N, C) scores and for (N,) scores with labels), with three exceptions:
    crowds are left out here; without objects the result is NaN here and 1
    there; a single column is taken as probabilities here and as a plain score
    there.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        probs (Sequence[Sequence[float]], optional): Class probabilities of
            each detection, softmax or sigmoid, in the order of
            ``category_ids``, optionally with the background class as the last
            column; shape (D, K) or (D, K + 1). Defaults to None, which uses
            classes and scores of the detections.
        iou_thrs (Sequence[float]): IoU thresholds, each in [0, 1); at 0 any
            overlap is enough. Defaults to (0.5, 0.75).

    Returns:
        ObjectCalibrationError: OCE overall and for each threshold, class and
        object; NaN, with a warning, if there are no objects.

    Raises:
        InvalidTypeError: If a value is not a number.
        InvalidValueError: If a value is out of range, or ``probs`` has
            another shape.

    Reference:
        Park, Sobolewski and Azizan, "Uncertainty Quantification in Detection
        Transformers: Object-Level Calibration and Image-Level Reliability",
        TPAMI 2026, arXiv 2412.01782.

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
        >>> error = object_calibration_error(ground_truth, detections)
        >>> error.per_object.round(4)  # 2 * (1-.9)^2 and 2 * (1-.6)^2
        array([0.02, 0.32])
    """
    check_ground_truth(ground_truth)
    check_detections(detections)
    iou_thrs = tuple(check_iou_thr('iou_thrs', thr) for thr in iou_thrs)
    if not iou_thrs:
        raise InvalidValueError('`iou_thrs` must hold a threshold, but is '
                                'empty')
    if probs is not None:
        probs = _checked_probs(probs, len(detections),
                               ground_truth.num_classes)
    pairs = image_pairs(ground_truth, detections,
                        np.ones(len(detections), dtype=bool))

    costs, missed = [], []
    for iou_thr in iou_thrs:
        near = pairs.select(pairs.iou >= iou_thr)
        count = np.bincount(near.object, minlength=len(ground_truth.boxes))
        if probs is None:
            cost = _binary_cost(ground_truth, detections, near, count)
        else:
            cost = _full_cost(ground_truth, probs, near, count)
        costs.append(np.where(count > 0, cost, _MISSED))
        missed.append(count == 0)

    is_object = ~ground_truth.iscrowd
    if not is_object.any():
        warnings.warn(
            'there are no objects, so OCE is NaN',
            TcalDetWarning,
            stacklevel=2)
    per_object = np.where(is_object, np.mean(costs, axis=0), np.nan)
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: a class without any
        per_class = np.bincount(
            ground_truth.class_index[is_object],
            per_object[is_object],
            minlength=ground_truth.num_classes) / ground_truth.num_objects
    return ObjectCalibrationError(
        mean_of_defined(per_object), iou_thrs,
        tuple(mean_of_defined(cost[is_object]) for cost in costs),
        tuple(mean_of_defined(is_missed[is_object]) for is_missed in missed),
        per_class, per_object, probs is not None)


def _checked_probs(probs: ArrayLike, num_detections: int,
                   num_classes: int) -> np.ndarray:
    probs = as_unit_interval('probs', probs, ndim=2)
    if (len(probs) != num_detections
            or probs.shape[1] not in (num_classes, num_classes + 1)):
        raise InvalidValueError(
            f'`probs` must have shape ({num_detections}, {num_classes}), one '
            'row for each detection and one column for each class, or one '
            f'more column for the background, but got {probs.shape}')
    return probs


def _full_cost(ground_truth: GroundTruth, probs: np.ndarray, near: BoxPairs,
               count: np.ndarray) -> np.ndarray:
    """Brier score of the mean probabilities of each object, shape (G,)."""
    cost = np.zeros(len(count))
    divisor = np.maximum(count, 1)
    for k in range(probs.shape[1]):  # no (P, K) array
        mean = np.bincount(
            near.object, probs[near.detection, k],
            minlength=len(count)) / divisor
        cost += ((ground_truth.class_index == k) - mean)**2
    return cost


def _binary_cost(ground_truth: GroundTruth, detections: Detections,
                 near: BoxPairs, count: np.ndarray) -> np.ndarray:
    """Brier score of mean score and most frequent class, shape (G,)."""
    mean = np.bincount(
        near.object, detections.scores[near.detection],
        minlength=len(count)) / np.maximum(count, 1)
    num_classes = ground_truth.num_classes
    votes, num_votes = np.unique(
        near.object * num_classes + detections.class_index[near.detection],
        return_counts=True)
    voted_object, label = np.divmod(votes, num_classes)
    # The last assignment is kept: the most votes, and among equally many the
    # smallest label.
    order = np.lexsort((-label, num_votes))
    predicted_class = np.full(len(count), -1)
    predicted_class[voted_object[order]] = label[order]
    return 2 * np.where(predicted_class == ground_truth.class_index, 1 - mean,
                        mean)**2
