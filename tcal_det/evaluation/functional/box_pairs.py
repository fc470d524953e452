"""Pairs of detections and objects of one image and class, with their IoU.

Shapes:
    G: objects of the ground truth
    D: detections
    P: pairs of a detection and an object of its image and class

Names:
    rank: position of a detection in the order (class, image, score descending,
        file order), in which COCO matches detections
"""
from typing import NamedTuple, Optional

import numpy as np

from .coco_arrays import (Detections, GroundTruth, check_detections,
                          check_ground_truth)
from .matching_order import (MatchingOrder, is_first_of_run, is_last_of_run,
                             make_matching_order)

# Number of pairs whose overlap is computed at a time, to limit memory.
_PAIRS_PER_BLOCK = 2**19


class BoxPairs(NamedTuple):
    """Pairs of a detection and an object of its image and class."""
    rank: np.ndarray  # rank of the detection, shape (P,)
    detection: np.ndarray  # index of the detection, shape (P,)
    object: np.ndarray  # index of the object, shape (P,)
    iou: np.ndarray  # shape (P,)

    def select(self, index: np.ndarray) -> 'BoxPairs':
        """Select pairs by a mask or by indices."""
        if index.dtype == bool:
            # Faster than a mask for each column.
            index = np.flatnonzero(index)
        return BoxPairs(*(part[index] for part in self))


class RankedPairs(NamedTuple):
    """Detections in matching order, with the objects that they may match."""
    matching_order: MatchingOrder
    max_dets: int  # detections per image and class that have pairs
    pairs: BoxPairs  # by rank, IoU descending, the later object first


class _BoxColumns(NamedTuple):
    """Boxes as columns, which are indexed faster than rows of four."""
    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray
    area: np.ndarray

    @classmethod
    def from_boxes(cls, boxes: np.ndarray) -> '_BoxColumns':
        """Create columns from boxes x, y, width, height, shape (D, 4)."""
        x, y, width, height = (np.ascontiguousarray(c) for c in boxes.T)
        return cls(x, y, width + x, height + y, width * height)


def rank_pairs(ground_truth: GroundTruth,
               detections: Detections,
               max_dets: int = 100,
               keeps_disjoint: bool = False) -> RankedPairs:
    """Find the overlapping pairs, in the order in which COCO matches them.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        max_dets (int): Maximum number of detections per image and class, best
            scores first. Defaults to 100.
        keeps_disjoint (bool): Whether to include disjoint pairs. Defaults to
            False.
    """
    check_ground_truth(ground_truth)
    check_detections(detections)
    matching_order = make_matching_order(detections)
    pairs = overlapping_pairs(ground_truth, detections, matching_order.order,
                              keeps_disjoint,
                              np.flatnonzero(matching_order.place < max_dets))
    return RankedPairs(matching_order, max_dets, _by_preference(pairs))


def overlapping_pairs(ground_truth: GroundTruth,
                      detections: Detections,
                      order: np.ndarray,
                      keeps_disjoint: bool,
                      existing: Optional[np.ndarray] = None) -> BoxPairs:
    """Find all overlapping pairs of equal image and class.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Scored boxes.
        order (ndarray): Indices of all detections in matching order, shape
            (D,).
        keeps_disjoint (bool): Whether to include disjoint pairs.
        existing (ndarray, optional): Ranks of the detections to use,
            ascending. Defaults to None, which means all of ``order``.

    Returns:
        BoxPairs: Pairs by rank, then by object in file order.
    """
    if existing is None:
        existing = np.arange(len(order))
    num_images = ground_truth.num_images
    group_of_detection = (detections.class_index * num_images +
                          detections.image_index)[order[existing]]
    group_of_object = (
        ground_truth.class_index * num_images + ground_truth.image_index)
    # Stable, so that objects stay in file order within their group.
    object_order = np.argsort(group_of_object, kind='stable')
    groups: np.ndarray
    groups, object_start, object_count = np.unique(
        group_of_object[object_order], return_index=True, return_counts=True)

    # The image of most detections has no object of their class. So the few
    # groups with objects are looked up, not every detection.
    first = np.searchsorted(group_of_detection, groups, side='left')
    last = np.searchsorted(group_of_detection, groups, side='right')
    rank = existing[_ranges(first, last - first)]
    num_partners = np.repeat(object_count, last - first)
    partner_start = np.repeat(object_start, last - first)

    detection_columns = _BoxColumns.from_boxes(detections.boxes)
    object_columns = _BoxColumns.from_boxes(ground_truth.boxes)
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
        iou = paired_iou(detection_columns, pair_detection, object_columns,
                         pair_object, ground_truth.iscrowd)
        pairs = BoxPairs(pair_rank, pair_detection, pair_object, iou)
        blocks.append(pairs if keeps_disjoint else pairs.select(iou > 0))
    return BoxPairs(*(np.concatenate(parts) for parts in zip(*blocks)))


def paired_iou(detections: _BoxColumns, detection: np.ndarray,
               objects: _BoxColumns, object_: np.ndarray,
               iscrowd: np.ndarray) -> np.ndarray:
    """IoU of each pair; with a crowd, intersection over detection area.

    The operations and their order are those of pycocotools. So the last bit is
    equal, and with it every match at IoU == threshold.

    Args:
        detections (_BoxColumns): All detections.
        detection (ndarray): Index of the detection of each pair, shape (P,).
        objects (_BoxColumns): All objects.
        object_ (ndarray): Index of the object of each pair, shape (P,).
        iscrowd (ndarray): Whether each object is a crowd, boolean, shape (G,).

    Returns:
        ndarray: IoU of each pair, shape (P,); 0 where boxes only touch.
        Rounding may give values slightly above 1, and larger ones far from the
        origin.
    """
    iou = np.zeros(len(detection))
    width = (
        np.minimum(detections.right[detection], objects.right[object_]) -
        np.maximum(detections.left[detection], objects.left[object_]))
    overlapping = np.flatnonzero(width > 0)
    detection, object_, width = detection[overlapping], object_[
        overlapping], width[overlapping]
    height = (
        np.minimum(detections.bottom[detection], objects.bottom[object_]) -
        np.maximum(detections.top[detection], objects.top[object_]))
    overlaps = height > 0
    overlapping, width, height = overlapping[overlaps], width[
        overlaps], height[overlaps]
    detection, object_ = detection[overlaps], object_[overlaps]

    intersection = width * height
    detection_area = detections.area[detection]
    union = np.where(iscrowd[object_], detection_area,
                     detection_area + objects.area[object_] - intersection)
    # Far from the origin, rounding can make the union of equal boxes 0. Such
    # boxes get an infinite overlap, the largest one.
    iou[overlapping] = np.divide(
        intersection,
        union,
        out=np.full(len(overlapping), np.inf),
        where=union > 0)
    return iou


def _by_preference(pairs: BoxPairs) -> BoxPairs:
    """Sort by rank, then by IoU descending, the later object first."""
    # Most detections overlap one object and need no sorting.
    is_single = is_first_of_run(pairs.rank) & is_last_of_run(pairs.rank)
    multiple = np.flatnonzero(~is_single)
    order = np.arange(len(is_single))
    order[multiple] = multiple[np.lexsort(
        (-pairs.object[multiple], -pairs.iou[multiple], pairs.rank[multiple]))]
    return pairs.select(order)


def _ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Concatenated [start, start + 1, ..., start + length - 1]."""
    total = int(length.sum())
    offset = start - (np.cumsum(length) - length)
    return np.arange(total) + np.repeat(offset, length)


def _narrowed(index: np.ndarray) -> np.ndarray:
    """Convert non-negative indices to 16 bits if they fit, for radix sort."""
    if len(index) and index.max() < 2**15:
        return index.astype(np.int16)
    return index
