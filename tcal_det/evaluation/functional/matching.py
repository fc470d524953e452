"""COCO's matching of detections to objects, for a whole data set at once.

Shape shorthand:
    G: objects of the ground truth
    D: detections
    K: classes
    P: pairs of a detection and an object of its image and class

Names:
    rank: a detection's place in the order (class, image, score descending,
        file order), in which COCO takes the detections in turn
"""
from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from tcal_det.checks import check_choice, check_count, check_iou_thr
from .box_pairs import BoxPairs, RankedPairs, rank_pairs
from .coco_arrays import Detections, GroundTruth
from .serving_order import is_first_of_run

FALSE_POSITIVE = 0
TRUE_POSITIVE = 1
IGNORED = 2  # matched to a crowd: in no sum at all
DROPPED = 3  # beyond max_dets or under a score threshold: does not exist

ZERO_IOU_RULES = ('reject', 'accept')


@dataclass(frozen=True, eq=False)
class DetectionMatches:
    """Detections with what became of each: all that the metrics need.

    Attributes:
        iou_thr (float): The IoU that a match needed.
        scores (ndarray): Shape (D,), in the order of the detections.
        class_index (ndarray): Shape (D,).
        boxes (ndarray): x, y, width, height, shape (D, 4).
        image_sizes (ndarray): Width and height of each detection's image,
            shape (D, 2).
        status (ndarray): FALSE_POSITIVE (0), TRUE_POSITIVE (1), IGNORED (2)
            or DROPPED (3), int8, shape (D,).
        iou (ndarray): With the matched object; 0 unless a true positive.
            Shape (D,).
        object_index (ndarray): The object or crowd that was matched, -1 if
            none, shape (D,).
        num_objects (ndarray): Objects of each class, crowds not among them,
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
        """Detections of one status in each class, shape (K,)."""
        return np.bincount(
            self.class_index[self.status == status],
            minlength=self.num_classes)

    def above(self, score_thr: Union[float, np.ndarray]) -> 'DetectionMatches':
        """The matches of the detections with score >= a threshold alone.

        COCO serves higher scores first, so the others never had a say in
        what became of these: matching them anew gives the same.

        Args:
            score_thr (float | ndarray): One threshold, or one for each
                class, shape (K,). A class of threshold NaN keeps all.
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


def match_detections(ground_truth: GroundTruth,
                     detections: Detections,
                     iou_thr: float,
                     max_dets: int = 100,
                     zero_iou: str = 'reject') -> DetectionMatches:
    """Match detections to objects as COCOeval does (area range 'all').

    Per image and class the ``max_dets`` best detections, by score and then
    file order, are taken in turn. Each takes the free object of largest
    IoU >= ``iou_thr``, the later one among equals. If there is none, it is
    ignored when it reaches the threshold with a crowd (intersection over
    the detection's own area; a crowd serves any number), else it is a false
    positive.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes.
        iou_thr (float): In [0, 1).
        max_dets (int): Detections per image and class that exist. Defaults
            to 100.
        zero_iou (str): 'reject' if a match needs IoU > 0; 'accept' if at
            ``iou_thr=0`` disjoint boxes match, which is what COCOeval does
            there and what published LaECE_0 figures rest on. Without effect
            for thresholds > 0. Defaults to 'reject'.

    Returns:
        DetectionMatches: In the order of the detections.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.

    Reference:
        Lin et al., Microsoft COCO, ECCV 2014; ``COCOeval.evaluateImg``.
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
    """:func:`match_detections` at several thresholds; IoUs computed once.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes.
        iou_thrs (Sequence[float]): Each in [0, 1).
        max_dets (int): Defaults to 100.
        zero_iou (str): 'reject' or 'accept'. Defaults to 'reject'.
        pairs (RankedPairs, optional): From :func:`rank_pairs` of the same
            data, so that several functions share them. Defaults to None.

    Returns:
        Tuple[DetectionMatches, ...]: One for each threshold, in order.
    """
    iou_thrs = tuple(check_iou_thr('iou_thr', thr) for thr in iou_thrs)
    check_count('max_dets', max_dets)
    check_choice('zero_iou', zero_iou, ZERO_IOU_RULES)

    keeps_disjoint = zero_iou == 'accept' and min(iou_thrs, default=1) == 0
    if pairs is None or pairs.max_dets != max_dets or keeps_disjoint:
        pairs = rank_pairs(ground_truth, detections, max_dets, keeps_disjoint)
    order = pairs.turns.order
    status_before = np.full(len(detections), FALSE_POSITIVE, dtype=np.int8)
    status_before[order[pairs.turns.place >= max_dets]] = DROPPED
    num_objects = ground_truth.num_objects
    image_sizes = ground_truth.image_sizes[detections.image_index]

    matches = []
    for iou_thr in iou_thrs:
        won, on_crowd = serve(
            pairs.pairs.select(reaches(pairs.pairs.iou, iou_thr)),
            ground_truth.iscrowd, ground_truth.iscrowd)
        status = status_before.copy()
        iou = np.zeros(len(detections))
        object_index = np.full(len(detections), -1, dtype=np.int64)
        found = order[won.rank]
        status[found] = TRUE_POSITIVE
        # Rounding may leave the IoU of equal boxes a hair above 1.
        iou[found] = np.minimum(won.iou, 1.0)
        object_index[found] = won.object
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


def serve(pairs: BoxPairs, is_ignored: np.ndarray,
          iscrowd: np.ndarray) -> Tuple[BoxPairs, BoxPairs]:
    """Find what each detection matches, first among the objects that count.

    Args:
        pairs (BoxPairs): Those that reach the threshold, in the order of
            :class:`RankedPairs`.
        is_ignored (ndarray): Objects that are taken by detections which
            find no other, boolean, shape (G,). All crowds are.
        iscrowd (ndarray): Objects that any number can take, boolean, shape
            (G,).

    Returns:
        Tuple[BoxPairs, BoxPairs]: The pairs that match, by rank: with
        objects that count, and with ignored ones.
    """
    ignored = is_ignored[pairs.object]
    real = pairs.select(~ignored)
    won = real.select(_serve_in_turn(real.rank, real.object, len(iscrowd)))

    rest = pairs.select(ignored)
    rest = rest.select(~_is_among(rest.rank, won.rank))
    # A crowd turns nobody away, as if each pair had a crowd of its own.
    wanted = rest.object.copy()
    on_crowd = np.flatnonzero(iscrowd[wanted])
    wanted[on_crowd] = len(iscrowd) + on_crowd
    on_ignored = rest.select(
        _serve_in_turn(rest.rank, wanted,
                       len(iscrowd) + len(wanted)))
    return won, on_ignored


def _is_among(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Whether values are among others, which ascend."""
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=bool)
    place = np.searchsorted(ascending, values)
    return ascending[np.minimum(place, len(ascending) - 1)] == values


def _serve_in_turn(rank: np.ndarray, object_: np.ndarray,
                   num_objects: int) -> np.ndarray:
    """Give each detection, in turn of rank, its best object still free.

    Taking turns is a stable matching in which every object prefers the
    lowest rank, and that has one solution only; so deferred acceptance
    (Gale and Shapley 1962) finds it for all images and classes together:
    all unserved detections ask for their next best object, each object
    keeps the lowest rank that has asked, the others go on. A few rounds do.

    Args:
        rank (ndarray): Detection of each pair that may match, ascending and
            by preference of the detection, shape (P,).
        object_ (ndarray): Object of each pair, shape (P,).
        num_objects (int): Number of objects.

    Returns:
        ndarray: Indices of the pairs that match, ascending.
    """
    start = np.flatnonzero(is_first_of_run(rank))
    if len(start) == 0:
        return start
    end = np.append(start[1:], len(rank))
    # Numbered anew over detections that have any pair; order unchanged.
    nobody = len(start)
    keeper = np.full(num_objects, nobody)
    wish = start.copy()
    asking = np.arange(len(start))
    while len(asking):
        wanted = object_[wish[asking]]
        previous = keeper[wanted]
        # Of repeated indices numpy stores the last: the lowest rank, as
        # `asking` ascends.
        keeper[wanted[::-1]] = np.minimum(asking, previous)[::-1]
        turned_away = asking[keeper[wanted] != asking]
        ousted = previous[(previous != nobody) & (keeper[wanted] != previous)]
        # Several may have asked for the object that one was ousted from.
        asking = np.concatenate((turned_away, np.unique(ousted)))
        wish[asking] += 1
        asking = np.sort(asking[wish[asking] < end[asking]])
    return np.sort(wish[keeper[keeper != nobody]])
