"""COCO's matching of detections to objects, for a whole data set at once.

Shapes:
    G: objects of the ground truth
    D: detections
    K: classes
    P: pairs of a detection and an object of its image and class

Names:
    rank: position of a detection in the order (class, image, score descending,
        file order), in which COCO matches detections
"""
from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from tcal_det.checks import (check_choice, check_count, check_iou_thr,
                             check_type)
from .box_pairs import BoxPairs, RankedPairs, rank_pairs
from .coco_arrays import Detections, GroundTruth
from .matching_order import is_first_of_run

FALSE_POSITIVE = 0
TRUE_POSITIVE = 1
IGNORED = 2  # matched to a crowd: not part of any sum
DROPPED = 3  # beyond max_dets or below a score threshold: not used

ZERO_IOU_RULES = ('reject', 'accept')


@dataclass(frozen=True, eq=False)
class DetectionMatches:
    """Matching result of each detection: all that the metrics need.

    Attributes:
        iou_thr (float): IoU threshold of the matching.
        scores (ndarray): Scores in the order of the detections, shape (D,).
        class_index (ndarray): Class of each detection, shape (D,).
        boxes (ndarray): Boxes as x, y, width, height, shape (D, 4).
        image_sizes (ndarray): Width and height of each detection's image,
            shape (D, 2).
        status (ndarray): Result of each detection: FALSE_POSITIVE (0),
            TRUE_POSITIVE (1), IGNORED (2) or DROPPED (3), int8, shape (D,).
        iou (ndarray): IoU with the matched object; 0 unless the detection is a
            true positive. Shape (D,).
        object_index (ndarray): Index of the matched object or crowd, -1 if
            there is none, shape (D,).
        num_objects (ndarray): Number of objects of each class without crowds,
            shape (K,).
    """
    iou_thr: float
    scores: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    image_sizes: np.ndarray
    status: np.ndarray
    iou: np.ndarray
    object_index: np.ndarray
    num_objects: np.ndarray

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.num_objects)

    @property
    def is_tp(self) -> np.ndarray:
        """True positives, boolean, shape (D,)."""
        return self.status == TRUE_POSITIVE

    @property
    def is_counted(self) -> np.ndarray:
        """True and false positives, boolean, shape (D,)."""
        return self.status <= TRUE_POSITIVE

    def count_by_class(self, status: int) -> np.ndarray:
        """Number of detections of each class with one status, shape (K,)."""
        return np.bincount(
            self.class_index[self.status == status],
            minlength=self.num_classes)

    def above(self, score_thr: Union[float, np.ndarray]) -> 'DetectionMatches':
        """Keep only the matches of detections with score >= a threshold.

        COCO matches higher scores first, so detections with lower scores have
        no influence on the kept ones: matching again would give the same
        result.

        Args:
            score_thr (float | ndarray): Score threshold, or a threshold for
                each class, shape (K,). A class with threshold NaN keeps all
                detections.
        """
        thresholds = np.broadcast_to(
            np.asarray(score_thr, dtype=np.float64), self.num_objects.shape)
        # Written so that a NaN threshold keeps everything.
        below = self.scores < thresholds[self.class_index]
        return replace(
            self,
            status=np.where(below, np.int8(DROPPED), self.status),
            iou=np.where(below, 0.0, self.iou),
            object_index=np.where(below, -1, self.object_index))


def check_matches(matches: DetectionMatches) -> None:
    """Raise unless the argument is of this type.

    Args:
        matches (DetectionMatches): Matches of detections.
    """
    check_type('matches', matches, DetectionMatches,
               'match detections by match_detections')


def match_detections(ground_truth: GroundTruth,
                     detections: Detections,
                     iou_thr: float,
                     max_dets: int = 100,
                     zero_iou: str = 'reject') -> DetectionMatches:
    """Match detections to objects as COCOeval does (area range 'all').

    Per image and class, the ``max_dets`` best detections are matched one after
    the other, by score and then by file order. Each detection takes the
    unmatched object with the largest IoU >= ``iou_thr``; among equal IoUs, the
    later object. If there is no such object, the detection is ignored if it
    reaches the threshold with a crowd (intersection over the area of the
    detection; any number of detections can match a crowd). Otherwise it is a
    false positive.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        iou_thr (float): IoU threshold of a match, in [0, 1).
        max_dets (int): Maximum number of detections per image and class, best
            scores first. Defaults to 100.
        zero_iou (str): Rule for disjoint boxes at ``iou_thr=0``: 'reject'
            requires IoU > 0; 'accept' matches disjoint boxes, as COCOeval and
            published LaECE_0 figures do. It has no effect for thresholds > 0.
            Defaults to 'reject'.

    Returns:
        DetectionMatches: Matches in the order of the detections.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.

    Reference:
        Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014;
        ``COCOeval.evaluateImg``.

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
        >>> matches = match_detections(ground_truth, detections, iou_thr=0.5)
        >>> matches.status  # true positive, true positive, false positive
        array([1, 1, 0], dtype=int8)
        >>> matches.iou  # 80 of 100 square pixels
        array([1. , 0.8, 0. ])
    """
    return match_at_thresholds(ground_truth, detections, (iou_thr, ), max_dets,
                               zero_iou)[0]


def match_at_thresholds(
        ground_truth: GroundTruth,
        detections: Detections,
        iou_thrs: Sequence[float],
        max_dets: int = 100,
        zero_iou: str = 'reject',
        pairs: Optional[RankedPairs] = None) -> Tuple[DetectionMatches, ...]:
    """Match detections at several IoU thresholds; compute IoUs once.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        iou_thrs (Sequence[float]): IoU thresholds, each in [0, 1).
        max_dets (int): Maximum number of detections per image and class.
            Defaults to 100.
        zero_iou (str): 'reject' or 'accept', see :func:`match_detections`.
            Defaults to 'reject'.
        pairs (RankedPairs, optional): Pairs that :func:`rank_pairs` returned
            for the same data, if several functions share them. Defaults to
            None, which computes them.

    Returns:
        tuple[DetectionMatches, ...]: Matches at each threshold, in order.
    """
    iou_thrs = tuple(check_iou_thr('iou_thr', thr) for thr in iou_thrs)
    check_count('max_dets', max_dets)
    check_choice('zero_iou', zero_iou, ZERO_IOU_RULES)

    keeps_disjoint = zero_iou == 'accept' and min(iou_thrs, default=1) == 0
    if pairs is None or pairs.max_dets != max_dets or keeps_disjoint:
        pairs = rank_pairs(ground_truth, detections, max_dets, keeps_disjoint)
    order = pairs.matching_order.order
    status_before = np.full(len(detections), FALSE_POSITIVE, dtype=np.int8)
    status_before[order[pairs.matching_order.place >= max_dets]] = DROPPED
    num_objects = ground_truth.num_objects
    image_sizes = ground_truth.image_sizes[detections.image_index]

    matches = []
    for iou_thr in iou_thrs:
        true_positives, on_crowd = match_pairs(
            pairs.pairs.select(reaches(pairs.pairs.iou, iou_thr)),
            ground_truth.iscrowd, ground_truth.iscrowd)
        status = status_before.copy()
        iou = np.zeros(len(detections))
        object_index = np.full(len(detections), -1, dtype=np.int64)
        found = order[true_positives.rank]
        status[found] = TRUE_POSITIVE
        # Rounding may make the IoU of equal boxes slightly larger than 1.
        iou[found] = np.minimum(true_positives.iou, 1.0)
        object_index[found] = true_positives.object
        ignored = order[on_crowd.rank]
        status[ignored] = IGNORED
        object_index[ignored] = on_crowd.object
        matches.append(
            DetectionMatches(iou_thr, detections.scores,
                             detections.class_index, detections.boxes,
                             image_sizes, status, iou, object_index,
                             num_objects))
    return tuple(matches)


def reaches(iou: np.ndarray, iou_thr: float) -> np.ndarray:
    """Whether IoUs suffice for a match, boolean, shape of ``iou``.

    COCOeval starts its search just below 1 if the threshold is 1. Disjoint
    pairs, if there are any, reach a threshold of 0 only.
    """
    return iou >= min(iou_thr, 1 - 1e-10)


def match_pairs(pairs: BoxPairs, is_ignored: np.ndarray,
                iscrowd: np.ndarray) -> Tuple[BoxPairs, BoxPairs]:
    """Match detections, first to counted objects, then to ignored ones.

    Args:
        pairs (BoxPairs): Pairs that reach the threshold, in the order of
            :class:`RankedPairs`.
        is_ignored (ndarray): Mask of the objects that a detection matches only
            if it finds no other object, boolean, shape (G,). It includes all
            crowds.
        iscrowd (ndarray): Mask of the objects that any number of detections
            can match, boolean, shape (G,).

    Returns:
        tuple[BoxPairs, BoxPairs]: Matched pairs by rank: those with counted
        objects, and those with ignored objects.
    """
    ignored = is_ignored[pairs.object]
    counted = pairs.select(~ignored)
    matched = counted.select(
        _deferred_acceptance(counted.rank, counted.object, len(iscrowd)))

    remaining = pairs.select(ignored)
    remaining = remaining.select(~_is_among(remaining.rank, matched.rank))
    # Any number of detections can match a crowd, so each pair gets a crowd of
    # its own.
    object_index = remaining.object.copy()
    on_crowd = np.flatnonzero(iscrowd[object_index])
    object_index[on_crowd] = len(iscrowd) + on_crowd
    on_ignored = remaining.select(
        _deferred_acceptance(remaining.rank, object_index,
                             len(iscrowd) + len(object_index)))
    return matched, on_ignored


def _is_among(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Whether values occur in an ascending array."""
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=bool)
    place = np.searchsorted(ascending, values)
    return ascending[np.minimum(place, len(ascending) - 1)] == values


def _deferred_acceptance(rank: np.ndarray, object_: np.ndarray,
                         num_objects: int) -> np.ndarray:
    """Match each detection, in order of rank, to its best unmatched object.

    This sequential matching is a stable matching in which every object prefers
    the lowest rank. It has exactly one solution, so deferred acceptance (Gale
    and Shapley 1962) finds it for all images and classes at once: all
    unmatched detections propose to their next best object, each object keeps
    the proposal of the lowest rank, and the rejected detections continue. A
    few rounds are enough.

    Args:
        rank (ndarray): Rank of the detection of each pair, ascending; pairs of
            one detection are in its order of preference. Shape (P,).
        object_ (ndarray): Object of each pair, shape (P,).
        num_objects (int): Number of objects.

    Returns:
        ndarray: Indices of the matched pairs, ascending.
    """
    start = np.flatnonzero(is_first_of_run(rank))
    if len(start) == 0:
        return start
    end = np.append(start[1:], len(rank))
    # Detections that have a pair are renumbered; their order is unchanged.
    unheld = len(start)
    holder = np.full(num_objects, unheld)
    proposal = start.copy()
    proposing = np.arange(len(start))
    while len(proposing):
        target = object_[proposal[proposing]]
        previous = holder[target]
        # For repeated indices numpy keeps the last value. That is the lowest
        # rank, as `proposing` is ascending and is reversed here.
        holder[target[::-1]] = np.minimum(proposing, previous)[::-1]
        rejected = proposing[holder[target] != proposing]
        displaced = previous[(previous != unheld)
                             & (holder[target] != previous)]
        # Several detections may have proposed to the object that a detection
        # has lost, hence `unique`.
        proposing = np.concatenate((rejected, np.unique(displaced)))
        proposal[proposing] += 1
        proposing = np.sort(proposing[proposal[proposing] < end[proposing]])
    return np.sort(proposal[holder[holder != unheld]])
