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
from typing import NamedTuple, Sequence, Tuple, Union

import numpy as np

from tcal_det.checks import check_choice, check_count, check_iou_thr
from .coco_arrays import Detections, GroundTruth

FALSE_POSITIVE = 0
TRUE_POSITIVE = 1
IGNORED = 2  # matched to a crowd: in no sum at all
DROPPED = 3  # beyond max_dets or under a score threshold: does not exist

ZERO_IOU_RULES = ('reject', 'accept')
# Pairs whose overlap is computed at a time: bounds the memory.
_PAIRS_PER_BLOCK = 2**19


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
        zero_iou: str = 'reject') -> Tuple[DetectionMatches, ...]:
    """:func:`match_detections` at several thresholds; IoUs computed once.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes.
        iou_thrs (Sequence[float]): Each in [0, 1).
        max_dets (int): Defaults to 100.
        zero_iou (str): 'reject' or 'accept'. Defaults to 'reject'.

    Returns:
        Tuple[DetectionMatches, ...]: One for each threshold, in order.
    """
    iou_thrs = tuple(check_iou_thr('iou_thr', thr) for thr in iou_thrs)
    check_count('max_dets', max_dets)
    check_choice('zero_iou', zero_iou, ZERO_IOU_RULES)

    order, is_dropped = _serving_order(detections, max_dets)
    keeps_disjoint = zero_iou == 'accept' and min(iou_thrs, default=1) == 0
    pairs = _overlapping_pairs(ground_truth, detections, order[~is_dropped],
                               keeps_disjoint)
    pairs = _by_preference(pairs)
    pair_is_crowd = ground_truth.iscrowd[pairs.object]
    status_before = np.full(len(detections), FALSE_POSITIVE, dtype=np.int8)
    status_before[order[is_dropped]] = DROPPED
    num_objects = ground_truth.num_objects
    image_sizes = ground_truth.image_sizes[detections.image_index]

    matches = []
    for iou_thr in iou_thrs:
        # COCOeval starts its search at this value. Disjoint pairs, if there
        # are any, reach a threshold of 0 only.
        reaches = pairs.iou >= min(iou_thr, 1 - 1e-10)
        won = _serve_in_turn(
            pairs.select(reaches & ~pair_is_crowd), len(ground_truth.boxes))
        is_served = np.zeros(len(order), dtype=bool)
        is_served[won.rank] = True
        on_crowd = pairs.select(reaches & pair_is_crowd
                                & ~is_served[pairs.rank])
        on_crowd = on_crowd.select(_is_first_of_run(on_crowd.rank))

        status = status_before.copy()
        iou = np.zeros(len(detections))
        object_index = np.full(len(detections), -1, dtype=np.int64)
        status[won.detection] = TRUE_POSITIVE
        # Rounding may leave the IoU of equal boxes a hair above 1.
        iou[won.detection] = np.minimum(won.iou, 1.0)
        object_index[won.detection] = won.object
        status[on_crowd.detection] = IGNORED
        object_index[on_crowd.detection] = on_crowd.object
        matches.append(
            DetectionMatches(iou_thr, detections.scores,
                             detections.class_index, detections.boxes,
                             image_sizes, status, iou, object_index,
                             num_objects))
    return tuple(matches)


class _Pairs(NamedTuple):
    """Pairs of a detection and an object of its image and class."""
    rank: np.ndarray  # of the detection, shape (P,)
    detection: np.ndarray  # its index in file order, shape (P,)
    object: np.ndarray  # index in file order, shape (P,)
    iou: np.ndarray  # shape (P,)

    def select(self, which: np.ndarray) -> '_Pairs':
        """The pairs of a mask or of indices."""
        return _Pairs(*(part[which] for part in self))


class _BoxColumns(NamedTuple):
    """Boxes as columns: gathered faster than rows of four."""
    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray
    area: np.ndarray

    @classmethod
    def of(cls, boxes: np.ndarray) -> '_BoxColumns':
        """From x, y, width, height, shape (D, 4)."""
        x, y, width, height = (np.ascontiguousarray(c) for c in boxes.T)
        return cls(x, y, width + x, height + y, width * height)


def _serving_order(detections: Detections,
                   max_dets: int) -> Tuple[np.ndarray, np.ndarray]:
    """Detections by (class, image, score descending, file order).

    Returns:
        Tuple[ndarray, ndarray]: The order, indices of shape (D,), and which
        of its entries lie beyond ``max_dets``, boolean, shape (D,).
    """
    image_index = _narrowed(detections.image_index)
    class_index = _narrowed(detections.class_index)
    order = np.lexsort((-detections.scores, image_index, class_index))
    is_first = (
        _is_first_of_run(image_index[order])
        | _is_first_of_run(class_index[order]))
    start = np.flatnonzero(is_first)
    length = np.diff(np.append(start, len(order)))
    place = np.arange(len(order)) - np.repeat(start, length)
    return order, place >= max_dets


def _overlapping_pairs(ground_truth: GroundTruth, detections: Detections,
                       order: np.ndarray, keeps_disjoint: bool) -> _Pairs:
    """All pairs of one image and class that overlap.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Detections.
        order (ndarray): Detections that exist, in serving order.
        keeps_disjoint (bool): Whether disjoint pairs are wanted as well.

    Returns:
        _Pairs: By rank, then by object in file order.
    """
    num_images = ground_truth.num_images
    group_of_detection = (
        detections.class_index[order] * num_images +
        detections.image_index[order])
    group_of_object = (
        ground_truth.class_index * num_images + ground_truth.image_index)
    # Stable, so that objects stay in file order within their group.
    object_order = np.argsort(group_of_object, kind='stable')
    groups, object_start, object_count = np.unique(
        group_of_object[object_order], return_index=True, return_counts=True)

    # Most detections are of a class that their image does not show, so
    # the few groups with objects are looked up, not every detection.
    first = np.searchsorted(group_of_detection, groups, side='left')
    last = np.searchsorted(group_of_detection, groups, side='right')
    rank = _ranges(first, last - first)
    num_partners = np.repeat(object_count, last - first)
    partner_start = np.repeat(object_start, last - first)

    detection_columns = _BoxColumns.of(detections.boxes)
    object_columns = _BoxColumns.of(ground_truth.boxes)
    blocks = []
    num_pairs_so_far = np.cumsum(num_partners)
    total = int(num_pairs_so_far[-1]) if len(rank) else 0
    cuts = np.searchsorted(
        num_pairs_so_far, np.arange(_PAIRS_PER_BLOCK, total, _PAIRS_PER_BLOCK))
    for low, high in zip(np.append(0, cuts), np.append(cuts, len(rank))):
        pair_rank = np.repeat(rank[low:high], num_partners[low:high])
        pair_object = object_order[_ranges(partner_start[low:high],
                                           num_partners[low:high])]
        pair_detection = order[pair_rank]
        iou = _paired_iou(detection_columns, pair_detection, object_columns,
                          pair_object, ground_truth.iscrowd)
        pairs = _Pairs(pair_rank, pair_detection, pair_object, iou)
        blocks.append(pairs if keeps_disjoint else pairs.select(iou > 0))
    return _Pairs(*(np.concatenate(parts) for parts in zip(*blocks)))


def _paired_iou(detections: _BoxColumns, detection: np.ndarray,
                objects: _BoxColumns, object_: np.ndarray,
                iscrowd: np.ndarray) -> np.ndarray:
    """IoU of each pair; over the detection's area alone with a crowd.

    The operations and their order are those of pycocotools, so that the
    last bit, and with it a match at IoU == threshold, is the same.

    Args:
        detections (_BoxColumns): All detections.
        detection (ndarray): Their index in each pair, shape (P,).
        objects (_BoxColumns): All objects.
        object_ (ndarray): Their index in each pair, shape (P,).
        iscrowd (ndarray): Boolean, shape (G,).

    Returns:
        ndarray: Shape (P,); 0 where boxes only touch, and a hair (far from
        the origin more) above 1 where rounding makes it so.
    """
    iou = np.zeros(len(detection))
    width = (
        np.minimum(detections.right[detection], objects.right[object_]) -
        np.maximum(detections.left[detection], objects.left[object_]))
    some = np.flatnonzero(width > 0)
    detection, object_, width = detection[some], object_[some], width[some]
    height = (
        np.minimum(detections.bottom[detection], objects.bottom[object_]) -
        np.maximum(detections.top[detection], objects.top[object_]))
    overlaps = height > 0
    some, width, height = some[overlaps], width[overlaps], height[overlaps]
    detection, object_ = detection[overlaps], object_[overlaps]

    intersection = width * height
    detection_area = detections.area[detection]
    union = np.where(iscrowd[object_], detection_area,
                     detection_area + objects.area[object_] - intersection)
    # Rounding far from the origin can leave equal boxes no union: they
    # overlap more than any others.
    iou[some] = np.divide(
        intersection, union, out=np.full(len(some), np.inf), where=union > 0)
    return iou


def _by_preference(pairs: _Pairs) -> _Pairs:
    """Sort by rank, then by IoU descending, the later object first."""
    # Most detections overlap one object and need no sorting.
    is_alone = _is_first_of_run(pairs.rank) & _is_last_of_run(pairs.rank)
    several = np.flatnonzero(~is_alone)
    order = np.arange(len(is_alone))
    order[several] = several[np.lexsort(
        (-pairs.object[several], -pairs.iou[several], pairs.rank[several]))]
    return pairs.select(order)


def _serve_in_turn(pairs: _Pairs, num_objects: int) -> _Pairs:
    """Give each detection, in turn of rank, its best object still free.

    Taking turns is a stable matching in which every object prefers the
    lowest rank, and that has one solution only; so deferred acceptance
    (Gale and Shapley 1962) finds it for all images and classes together:
    all unserved detections ask for their next best object, each object
    keeps the lowest rank that has asked, the others go on. A few rounds do.

    Args:
        pairs (_Pairs): Those that may match, by rank and preference.
        num_objects (int): Number of objects.

    Returns:
        _Pairs: Those that match.
    """
    start = np.flatnonzero(_is_first_of_run(pairs.rank))
    end = np.append(start[1:], len(pairs.rank))
    # Numbered anew over detections that have any pair; order unchanged.
    nobody = len(start)
    keeper = np.full(num_objects, nobody)
    wish = start.copy()
    asking = np.arange(len(start))
    while len(asking):
        wanted = pairs.object[wish[asking]]
        previous = keeper[wanted]
        # Of repeated indices numpy stores the last: the lowest rank, as
        # `asking` ascends.
        keeper[wanted[::-1]] = np.minimum(asking, previous)[::-1]
        turned_away = asking[keeper[wanted] != asking]
        ousted = previous[(previous != nobody) & (keeper[wanted] != previous)]
        # Several may have asked for the object that one was ousted from.
        asking = np.unique(np.concatenate((turned_away, ousted)))
        wish[asking] += 1
        asking = asking[wish[asking] < end[asking]]
    kept_by = keeper[keeper != nobody]
    return _Pairs(*(part[np.sort(wish[kept_by])] for part in pairs))


def _ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Concatenated [start, start + 1, ..., start + length - 1]."""
    total = int(length.sum())
    offset = start - (np.cumsum(length) - length)
    return np.arange(total) + np.repeat(offset, length)


def _is_first_of_run(values: np.ndarray) -> np.ndarray:
    """Whether a value differs from the one before it."""
    is_first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return is_first


def _is_last_of_run(values: np.ndarray) -> np.ndarray:
    """Whether a value differs from the one after it."""
    is_last = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_last[:-1])
    return is_last


def _narrowed(index: np.ndarray) -> np.ndarray:
    """Non-negative indices in 16 bits where they fit: sorted by radix."""
    if len(index) and index.max() < 2**15:
        return index.astype(np.int16)
    return index
