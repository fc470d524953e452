"""Score thresholds with a statistical guarantee for new images.

Shapes:
    G: objects of the ground truth
    D: detections
    K: classes

There are two guarantees, both for detections with score >= threshold:
    recall: conformal risk control bounds the expected share of missed
        objects of an image. It requires exchangeable images only.
    precision: learn then test bounds the expected share of false detections
        of an image, with a probability of 1 - delta over the calibration
        images. It requires independent images from one distribution.

The unit is the image, because objects and detections of one image depend on
each other. The guarantees do not hold for images from another distribution
than the calibration images, or if the detector, its NMS or its ``max_dets``
changes.
"""
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError
from .array_checks import as_unit_interval, check_same_length
from .coco_arrays import (Detections, GroundTruth, check_detections,
                          check_ground_truth)
from .learn_then_test import ROUNDING, check_level, fixed_sequence_tests
from .matching import DetectionMatches, check_matches
from .matching_order import is_first_of_run, is_last_of_run

# Number of candidate thresholds of the precision tests; fixed before any data
# is known.
_STEPS = 100


@dataclass(frozen=True)
class GuaranteedThreshold:
    """A score threshold with a guarantee, or the reason why there is none.

    Attributes:
        threshold (float): Detections with score >= it are kept; NaN if no
            threshold has the guarantee.
        empirical (float): Mean loss of the calibration images at the
            threshold; NaN without a threshold.
        num_images (int): Number of calibration images of this mean; without a
            threshold, the number of usable images.
        reason (str, optional): Reason why there is no threshold; None if there
            is one.
    """
    threshold: float
    empirical: float
    num_images: int
    reason: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values; NaN stays NaN."""
        return dict(
            threshold=self.threshold,
            empirical=self.empirical,
            num_images=self.num_images,
            reason=self.reason)


@dataclass(frozen=True)
class ConformalThresholds:
    """Thresholds of each class, and one threshold for all classes.

    Attributes:
        loss (str): Loss whose expectation is bounded, 'missed_objects' or
            'false_detections'.
        alpha (float): Upper bound on the expected loss.
        delta (float, optional): Probability, over calibration images, that
            the expected loss at a threshold exceeds the bound. None if the
            expectation is also over the calibration images.
        iou_thr (float): IoU threshold of a match.
        per_class (tuple[GuaranteedThreshold, ...]): Threshold of each class.
        overall (GuaranteedThreshold): One threshold for all classes and their
            common loss.
    """
    loss: str
    alpha: float
    delta: Optional[float]
    iou_thr: float
    per_class: Tuple[GuaranteedThreshold, ...]
    overall: GuaranteedThreshold

    @property
    def thresholds(self) -> np.ndarray:
        """Threshold of each class, NaN where there is none, shape (K,)."""
        return np.array([threshold.threshold for threshold in self.per_class],
                        dtype=float)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values; NaN stays NaN."""
        return dict(
            loss=self.loss,
            alpha=self.alpha,
            delta=self.delta,
            iou_thr=self.iou_thr,
            per_class=[threshold.to_dict() for threshold in self.per_class],
            overall=self.overall.to_dict())


def recall_thresholds(ground_truth: GroundTruth,
                      matches: DetectionMatches,
                      alpha: float = 0.1) -> ConformalThresholds:
    """Find the highest thresholds that miss at most a share alpha of objects.

    The loss of an image is the share of its objects that no detection with
    score >= t matches; it never decreases with t. For n images that contain
    the class, with mean loss R(t), the threshold is the largest t with

        (n * R(t) + 1) / (n + 1) <= alpha.

    If these images and a new image that contains the class are exchangeable,
    the expected loss of the new image is at most alpha. The expectation is
    also over the calibration images: the loss after a single calibration may
    be somewhat larger. If there is no threshold, the loss counts as 0 in this
    expectation. The guarantee holds for each class separately. 'overall' has
    one threshold; its loss is the share of missed objects of all classes in
    images that contain objects.

    Args:
        ground_truth (GroundTruth): Objects of the calibration images. The
            detector and its calibration must not have been fitted on these
            images.
        matches (DetectionMatches): Matches of the detections at all scores,
            because an earlier threshold cannot be undone.
        alpha (float): Upper bound on the expected loss, in (0, 1). Defaults to
            0.1.

    Returns:
        ConformalThresholds: Thresholds of each class, and overall.

    Raises:
        InvalidTypeError: If ``alpha`` is not a number.
        InvalidValueError: If ``alpha`` is out of range, or the matches do not
            belong to these objects.

    Reference:
        Angelopoulos et al., "Conformal Risk Control", ICLR 2024, theorem 1,
        with the false negative rate as the loss.

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
        >>> matches = match_detections(ground_truth, detections, iou_thr=.5)
        >>> # No object may be missed: (1 image * 0 + 1) / (1 + 1) <= .5
        >>> thresholds = recall_thresholds(ground_truth, matches, alpha=.5)
        >>> thresholds.overall.threshold
        0.6
    """
    check_ground_truth(ground_truth)
    check_matches(matches)
    alpha = check_level('alpha', alpha)
    if not np.array_equal(ground_truth.num_objects, matches.num_objects):
        raise InvalidValueError(
            '`matches` must belong to the objects of `ground_truth`, but its '
            'numbers of objects differ')
    found_at = np.full(len(ground_truth.boxes), -np.inf)
    found_at[matches.object_index[matches.is_tp]] = (
        matches.scores[matches.is_tp])

    is_object = ~ground_truth.iscrowd

    def calibrated(chosen: np.ndarray) -> GuaranteedThreshold:
        return _risk_controlled(found_at[chosen],
                                ground_truth.image_index[chosen], alpha)

    return ConformalThresholds(
        'missed_objects', alpha, None, matches.iou_thr,
        tuple(
            calibrated(members)
            for members in _members(ground_truth.class_index, is_object,
                                    ground_truth.num_classes)),
        calibrated(np.flatnonzero(is_object)))


def precision_thresholds(
    detections: Detections,
    matches: DetectionMatches,
    alpha: float = 0.1,
    delta: float = 0.1,
    starts: Sequence[float] = (0.9, 0.7, 0.5, 0.3, 0.1)
) -> ConformalThresholds:
    """Find the lowest thresholds with at most a share alpha of errors.

    The loss of an image is the share of false positives among its detections
    with score >= t; images without such detections are not used. The
    hypothesis that the expected loss exceeds alpha is tested by
    Hoeffding-Bentkus p-values, for t from each start downwards in steps of
    0.01. Each sequence ends at its first p-value above delta / number of
    starts. The threshold is the lowest t whose hypothesis was rejected. With
    probability >= 1 - delta over the calibration images, the expected loss of
    a new image that has detections at the threshold is at most alpha.
    Precision need not be monotone in t.

    The guarantee holds for each class separately; for all K classes at once
    pass ``delta / K``. Detections matched to crowds are not counted.

    Args:
        detections (Detections): Detections on the calibration images. The
            detector and its calibration must not have been fitted on these
            images.
        matches (DetectionMatches): Matches of these detections.
        alpha (float): Upper bound on the expected loss, in (0, 1): 1 -
            precision. Defaults to 0.1.
        delta (float): Upper bound on the probability of an error, in (0, 1).
            Defaults to 0.1.
        starts (Sequence[float]): Thresholds at which sequences of tests begin,
            in [0, 1], in whole hundredths. They must not be chosen from the
            data. More starts find a threshold for more kinds of detectors, but
            need more images. Defaults to (0.9, 0.7, 0.5, 0.3, 0.1).

    Returns:
        ConformalThresholds: Thresholds of each class, and overall.

    Raises:
        InvalidTypeError: If an option is not a number.
        InvalidValueError: If an option is out of range, or the matches do not
            belong to these detections.

    Reference:
        Angelopoulos et al., "Learn then Test: Calibrating Predictive
        Algorithms to Achieve Risk Control", arXiv 2110.01052, false discovery
        rate and fixed sequence testing with several starts.
    """
    check_detections(detections)
    check_matches(matches)
    alpha = check_level('alpha', alpha)
    delta = check_level('delta', delta)
    first_steps = _checked_starts(starts)
    check_same_length('matches.scores', matches.scores, 'detections',
                      detections)

    def tested(chosen: np.ndarray) -> GuaranteedThreshold:
        return _lowest_passed(matches.scores[chosen], matches.is_tp[chosen],
                              detections.image_index[chosen], alpha, delta,
                              first_steps)

    return ConformalThresholds(
        'false_detections', alpha, delta, matches.iou_thr,
        tuple(
            tested(members) for members in _members(
                matches.class_index, matches.is_counted, matches.num_classes)),
        tested(np.flatnonzero(matches.is_counted)))


def _checked_starts(starts: Sequence[float]) -> List[int]:
    """Convert the starts to hundredths, without repetition."""
    values = as_unit_interval('starts', starts)
    steps = np.rint(values * _STEPS).astype(int)
    if len(steps) == 0 or not np.allclose(
            values, steps / _STEPS, rtol=0, atol=1e-9):
        raise InvalidValueError(
            '`starts` must hold thresholds in whole hundredths, but got '
            f'{list(starts)}')
    return np.unique(steps).tolist()


def _members(class_index: np.ndarray, mask: np.ndarray,
             num_classes: int) -> List[np.ndarray]:
    """Indices of the selected entries of each class."""
    chosen = np.flatnonzero(mask)
    order = chosen[np.argsort(class_index[chosen], kind='stable')]
    cuts = np.searchsorted(class_index[order], np.arange(1, num_classes))
    return np.split(order, cuts) if num_classes else []


def _risk_controlled(found_at: np.ndarray, image_index: np.ndarray,
                     alpha: float) -> GuaranteedThreshold:
    """Conformal risk control of the share of missed objects.

    Args:
        found_at (ndarray): Highest threshold at which each object is matched,
            -inf if there is none, shape (G,).
        image_index (ndarray): Image of each object, shape (G,).
        alpha (float): Upper bound on the expected loss, in (0, 1).
    """
    _, image, num_objects = np.unique(
        image_index, return_inverse=True, return_counts=True)
    num_images = len(num_objects)
    if num_images == 0:
        return _none(0, 'no calibration image has objects')
    if 1 / (num_images + 1) > alpha:
        return _none(
            num_images, f'{num_images} calibration image(s) with objects are '
            f'too few: alpha = {alpha:g} needs '
            f'{math.ceil(1 / alpha - 1 - ROUNDING)}')
    # An object adds its share to the loss if the threshold is above its
    # `found_at`.
    order = np.argsort(found_at, kind='stable')
    scores = found_at[order]
    total = np.append(0.0, np.cumsum(1 / num_objects[image[order]]))
    # Total loss with the threshold at each of these scores.
    total_below = total[np.searchsorted(scores, scores, side='left')]
    allowed = alpha * (num_images + 1) - 1
    is_safe = (total_below <= allowed + ROUNDING) & (scores > -np.inf)
    if not is_safe.any():
        never_found = total[np.searchsorted(scores, -np.inf, side='right')]
        return _none(
            num_images, 'even without a threshold, the share of objects that '
            f'no detection matches is {never_found / num_images:.4g}')
    best = int(np.flatnonzero(is_safe)[-1])
    return GuaranteedThreshold(
        float(scores[best]), float(total_below[best] / num_images), num_images)


def _lowest_passed(scores: np.ndarray, is_tp: np.ndarray,
                   image_index: np.ndarray, alpha: float, delta: float,
                   first_steps: Sequence[int]) -> GuaranteedThreshold:
    """Fixed sequence tests of the share of false detections.

    Args:
        scores (ndarray): Scores of the detections, shape (D,).
        is_tp (ndarray): Whether each detection is a true positive, boolean,
            shape (D,).
        image_index (ndarray): Image of each detection, shape (D,).
        alpha (float): Upper bound on the expected loss, in (0, 1).
        delta (float): Upper bound on the probability of an error, in (0, 1).
        first_steps (Sequence[int]): Starts of the test sequences, in
            hundredths.
    """
    total, count = _loss_by_step(scores, is_tp, image_index)
    if count[0] == 0:
        return _none(0, 'no calibration image has a detection')
    passed = fixed_sequence_tests(total, count, alpha, delta, first_steps)
    if not passed:
        return _none(
            count[0], 'no test at a start shows that the share of false '
            f'detections is at most {alpha:g}: there are too few images or '
            'too many false detections')
    lowest = min(passed)
    return GuaranteedThreshold(lowest / _STEPS, total[lowest] / count[lowest],
                               count[lowest])


def _loss_by_step(scores: np.ndarray, is_tp: np.ndarray,
                  image_index: np.ndarray) -> Tuple[List[float], List[int]]:
    """Compute the losses with the threshold at each hundredth.

    Returns:
        tuple[list[float], list[int]]: Sum over images of the share of false
        detections, and number of images with detections, for each of 101
        thresholds.
    """
    levels = np.arange(_STEPS + 1) / _STEPS
    step = np.searchsorted(levels, scores, side='right') - 1
    order = np.lexsort((-step, image_index))
    step, image, is_false = step[order], image_index[order], ~is_tp[order]
    is_new_image = is_first_of_run(image)
    start = np.flatnonzero(is_new_image)
    num_before = np.repeat(start, np.diff(np.append(start, len(image))))
    num_kept = np.arange(1, len(image) + 1) - num_before
    num_false = np.cumsum(is_false)
    num_false -= (num_false - is_false)[num_before]
    # The loss of an image changes after the last detection of each step.
    change = np.flatnonzero(is_last_of_run(image) | is_last_of_run(step))
    loss = num_false[change] / num_kept[change]
    loss_before = np.append(0.0, loss)[:-1]
    loss_before[is_first_of_run(image[change])] = 0.0
    gained = np.bincount(step[change], loss - loss_before, len(levels))
    joined = np.bincount(step[start], minlength=len(levels))
    return (np.cumsum(gained[::-1])[::-1].tolist(),
            np.cumsum(joined[::-1])[::-1].tolist())


def _none(num_images: int, reason: str) -> GuaranteedThreshold:
    return GuaranteedThreshold(math.nan, math.nan, num_images, reason)
