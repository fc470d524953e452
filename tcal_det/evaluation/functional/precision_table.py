"""Precision and recall as COCOeval computes them, for weighted images.

A :class:`PrecisionTable` holds the matches of detections and objects of one
area range at ten IoU thresholds, by class and score. It is computed once
(:func:`precision_tables`). :func:`interpolated_precision` and :func:`recall`
compute curves from it, for the original images or for a resample, in which
every image occurs a whole number of times. The boxes are not needed again.

Shapes:
    T: IoU thresholds, .5, .55, ..., .95
    R: recall thresholds, 0, .01, ..., 1
    I: images
    K: classes
    G: objects of the ground truth
    N: candidates, which are the detections in the area range
    M: matches, over all thresholds
"""
from dataclasses import dataclass
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .box_pairs import BoxPairs, RankedPairs, rank_pairs
from .coco_arrays import Detections, GroundTruth
from .matching import match_pairs, reaches
from .matching_order import MatchingOrder, is_first_of_run

# The expressions of COCOeval: the second value of this linspace is not exactly
# 0.55.
IOU_THRS = np.linspace(.5, .95, 10)
RECALL_THRS = np.linspace(0, 1, 101)
MAX_DETS = 100
# Matching results of a detection.
_TRUE = 1
_IGNORED = 2


class AreaRange(NamedTuple):
    """Range of object areas in square pixels, including both ends."""
    lowest: float
    highest: float

    def contains(self, area: np.ndarray) -> np.ndarray:
        """Whether areas lie in the range, boolean, shape of ``area``."""
        return (area >= self.lowest) & (area <= self.highest)


ANY_AREA = AreaRange(0, np.inf)


@dataclass(frozen=True, eq=False)
class PrecisionTable:
    """Matches at all IoU thresholds, by class and score.

    Order of the candidates: class, score descending, image, file order.
    Order of the matches: threshold, class, and then that of the candidates.

    Attributes:
        num_classes (int): Number of classes K.
        num_images (int): Number of images I.
        candidate_image (ndarray): Image of each candidate, shape (N,).
            Candidates are the detections in the area range.
        candidate_start (ndarray): Index of the first candidate of each class,
            then N, shape (K + 1,).
        match_start (ndarray): Index of the first match of each threshold and
            class, then M, shape (T * K + 1,).
        match_image (ndarray): Image of each match, shape (M,).
        is_true (ndarray): Whether the matched object is counted; a match with
            an ignored object only removes the detection from the sums.
            Boolean, shape (M,).
        is_candidate (ndarray): Whether the matched detection is among the
            candidates. Boolean, shape (M,).
        candidates_so_far (ndarray): Number of candidates of all classes up to
            and including the matched detection, shape (M,).
        place (ndarray): Position of the matched detection among those of its
            image and class, 0 for the best score, shape (M,).
        object_image (ndarray): Image of each counted object, shape (G,).
        object_class (ndarray): Class of each counted object, shape (G,).
    """
    num_classes: int
    num_images: int
    candidate_image: np.ndarray
    candidate_start: np.ndarray
    match_start: np.ndarray
    match_image: np.ndarray
    is_true: np.ndarray
    is_candidate: np.ndarray
    candidates_so_far: np.ndarray
    place: np.ndarray
    object_image: np.ndarray
    object_class: np.ndarray


def precision_tables(
        ground_truth: GroundTruth,
        detections: Detections,
        area_ranges: Sequence[AreaRange] = (ANY_AREA, ),
        pairs: Optional[RankedPairs] = None) -> Tuple[PrecisionTable, ...]:
    """Match detections to objects at all IoU thresholds and area ranges.

    As in COCOeval, only the 100 best detections of each image and class are
    used. Objects outside the area range are ignored: a detection matches one
    of them only if it finds no other object. It is then neither a true nor a
    false positive, like an unmatched detection outside the range.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        area_ranges (Sequence[AreaRange]): Area ranges of the objects. Defaults
            to any area.
        pairs (RankedPairs, optional): Pairs that :func:`rank_pairs` returned
            for the same data, if several functions share them. Defaults to
            None, which computes them.

    Returns:
        tuple[PrecisionTable, ...]: One table for each area range.
    """
    if pairs is None or pairs.max_dets != MAX_DETS:
        pairs = rank_pairs(ground_truth, detections, MAX_DETS)
    rows = _rows(ground_truth, detections, pairs.matching_order)
    close = pairs.pairs.select(reaches(pairs.pairs.iou, IOU_THRS[0]))
    iscrowd = ground_truth.iscrowd
    of_any_area = [
        match_pairs(
            close.select(reaches(close.iou, iou_thr)), iscrowd, iscrowd)
        for iou_thr in IOU_THRS
    ]
    tables = []
    for area_range in area_ranges:
        is_outside = ~area_range.contains(ground_truth.area)
        is_ignored = iscrowd | is_outside
        # Only for these few pairs the matches differ from those of any area.
        dependent = close.select(
            _depends_on_area(close, is_outside & ~iscrowd))
        outcomes = []
        for iou_thr, matched in zip(IOU_THRS, of_any_area):
            outcome = np.zeros(len(rows.place), dtype=np.int8)
            for part in matched:
                outcome[rows.of_rank[part.rank]] = np.where(
                    is_ignored[part.object], _IGNORED, _TRUE)
            outcome[rows.of_rank[dependent.rank]] = 0
            true_positives, on_ignored = match_pairs(
                dependent.select(reaches(dependent.iou, iou_thr)), is_ignored,
                iscrowd)
            outcome[rows.of_rank[true_positives.rank]] = _TRUE
            outcome[rows.of_rank[on_ignored.rank]] = _IGNORED
            outcomes.append(outcome)
        tables.append(
            _table(ground_truth, rows, area_range.contains(rows.area),
                   outcomes, np.flatnonzero(~is_ignored)))
    return tuple(tables)


class _Rows(NamedTuple):
    """Detections in use, sorted by class, score, image and file order."""
    of_rank: np.ndarray  # row of the detection of each rank, shape (D,)
    class_start: np.ndarray  # first row of each class, shape (K + 1,)
    image: np.ndarray
    place: np.ndarray  # position within the image and class
    area: np.ndarray


def _rows(ground_truth: GroundTruth, detections: Detections,
          matching_order: MatchingOrder) -> _Rows:
    place = np.empty_like(matching_order.place)
    place[matching_order.order] = matching_order.place
    index = matching_order.by_score[place[matching_order.by_score] < MAX_DETS]
    row_of = np.zeros_like(matching_order.order)
    row_of[index] = np.arange(len(index))
    width, height = detections.boxes[index, 2:].T
    return _Rows(
        of_rank=row_of[matching_order.order],
        class_start=np.searchsorted(detections.class_index[index],
                                    np.arange(ground_truth.num_classes + 1)),
        image=detections.image_index[index],
        place=place[index],
        area=width * height)


def _depends_on_area(pairs: BoxPairs, is_outside: np.ndarray) -> np.ndarray:
    """Find the pairs whose matches depend on the area range.

    A detection that reaches objects inside and outside the range may match
    another object than without a range. So may every detection that reaches
    one of these objects, and so on. Where all reached objects are inside, or
    all are outside, the matches are the same as without a range.

    Args:
        pairs (BoxPairs): Pairs at the lowest threshold, in the order of
            :class:`RankedPairs`.
        is_outside (ndarray): Mask of the objects outside the range that are
            not crowds, boolean, shape (G,).

    Returns:
        ndarray: Mask of the pairs, boolean, shape (P,).
    """
    is_first = is_first_of_run(pairs.rank)
    start = np.flatnonzero(is_first)
    run = np.cumsum(is_first) - 1
    outside = is_outside[pairs.object]
    if not outside.any():
        return outside
    depends = (
        np.logical_or.reduceat(outside, start)
        & ~np.logical_and.reduceat(outside, start))
    num_before = -1
    while np.count_nonzero(depends) > num_before:
        num_before = np.count_nonzero(depends)
        reached = np.zeros(len(is_outside), dtype=bool)
        reached[pairs.object[depends[run]]] = True
        depends = np.logical_or.reduceat(reached[pairs.object], start)
    return depends[run]


def _table(ground_truth: GroundTruth, rows: _Rows, is_candidate: np.ndarray,
           outcomes: Sequence[np.ndarray],
           objects: np.ndarray) -> PrecisionTable:
    """Assemble the table of one area range.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        rows (_Rows): Sorted detections.
        is_candidate (ndarray): Whether a detection is in the area range.
        outcomes (Sequence[ndarray]): Matching result of each row, one array
            for each threshold; 0 for rows without a match.
        objects (ndarray): Indices of the counted objects.
    """
    candidates_so_far = _running_sum(is_candidate)
    matched = [np.flatnonzero(outcome != 0) for outcome in outcomes]
    ends = [0] + [len(index) for index in matched]
    match_start = np.concatenate([
        np.searchsorted(index, rows.class_start[:-1]) + before
        for index, before in zip(matched, np.cumsum(ends))
    ] + [[sum(ends)]])
    is_true = np.concatenate(
        [outcome[index] == _TRUE for outcome, index in zip(outcomes, matched)])
    any_matched = np.concatenate(matched)
    return PrecisionTable(
        num_classes=ground_truth.num_classes,
        num_images=ground_truth.num_images,
        candidate_image=rows.image[is_candidate],
        candidate_start=candidates_so_far[rows.class_start],
        match_start=match_start,
        match_image=rows.image[any_matched],
        is_true=is_true,
        is_candidate=is_candidate[any_matched],
        candidates_so_far=candidates_so_far[any_matched + 1],
        place=rows.place[any_matched],
        object_image=ground_truth.image_index[objects],
        object_class=ground_truth.class_index[objects])


def interpolated_precision(
        table: PrecisionTable,
        image_counts: Optional[np.ndarray] = None) -> np.ndarray:
    """Largest precision at each recall threshold or above it.

    A class without detections has precision 0, one without objects NaN.

    Args:
        table (PrecisionTable): Table from :func:`precision_tables`.
        image_counts (ndarray, optional): Number of times that each image
            occurs, whole numbers, shape (I,). The result is that of a data set
            in which each image and its boxes are repeated this many times,
            with the copies of a detection one after the other. Defaults to
            None, which means once.

    Returns:
        ndarray: Precision, float64, shape (T, R, K).
    """
    counts = _counts_or_ones(image_counts, table)
    num_thrs, num_classes = len(IOU_THRS), table.num_classes
    num_objects = _num_objects(table, counts)
    candidates = _running_sum(counts[table.candidate_image])
    of_match = counts[table.match_image]
    true = _running_sum(of_match * table.is_true)
    matched = _running_sum(of_match * table.is_candidate)

    # Sums within a threshold and class: running sums minus their value at its
    # start.
    start, end = table.match_start[:-1], table.match_start[1:]
    length = end - start
    true_before = true[start]
    num_true = true[end] - true_before
    true_here = true[1:] - np.repeat(true_before, length)
    # Candidates that match nothing are false positives.
    before = (
        np.tile(candidates[table.candidate_start[:-1]], num_thrs) -
        matched[start])
    false_here = (
        candidates[table.candidates_so_far] - matched[1:] -
        np.repeat(before, length))
    # Between two true positives precision only falls, so the values at true
    # positives are enough.
    precision = true_here / (false_here + true_here + np.spacing(1))

    # Index of the match that reaches each number of true positives.
    reached_by = np.repeat(np.arange(len(of_match)), of_match * table.is_true)
    needed = np.tile(_needed(num_objects), (num_thrs, 1))
    is_reached = needed <= num_true[:, None]
    place = np.minimum(true_before[:, None] + needed - 1, len(reached_by) - 1)
    first = np.broadcast_to(end[:, None], needed.shape).copy()
    if len(reached_by):
        first[is_reached] = reached_by[place[is_reached]]
    # Maximum between adjacent recall thresholds, then running maximum from the
    # right.
    best = np.maximum.reduceat(np.append(precision, 0.0), first.ravel())
    best = np.where(is_reached, best.reshape(first.shape), 0.0)
    best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
    best = best.reshape(num_thrs, num_classes, len(RECALL_THRS))
    best[:, num_objects == 0] = np.nan
    return np.ascontiguousarray(best.transpose(0, 2, 1))


def recall(table: PrecisionTable,
           max_dets: int = MAX_DETS,
           image_counts: Optional[np.ndarray] = None) -> np.ndarray:
    """Share of the objects that are matched, at any score.

    Args:
        table (PrecisionTable): Table from :func:`precision_tables`.
        max_dets (int): Maximum number of detections per image and class, at
            most 100. Defaults to 100.
        image_counts (ndarray, optional): Number of times that each image
            occurs, see :func:`interpolated_precision`. Defaults to None.

    Returns:
        ndarray: Recall, NaN for a class without objects, shape (T, K).
    """
    counts = _counts_or_ones(image_counts, table)
    found = _running_sum(counts[table.match_image] * table.is_true *
                         (table.place < max_dets))
    num_true = np.diff(found[table.match_start])
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: no objects
        return (num_true.reshape(len(IOU_THRS), -1) /
                _num_objects(table, counts))


def _counts_or_ones(image_counts: Optional[np.ndarray],
                    table: PrecisionTable) -> np.ndarray:
    if image_counts is None:
        return np.ones(table.num_images, dtype=np.int64)
    return np.asarray(image_counts).astype(np.int64)


def _num_objects(table: PrecisionTable, counts: np.ndarray) -> np.ndarray:
    """Number of counted objects of each class, shape (K,)."""
    return np.bincount(table.object_class, counts[table.object_image],
                       table.num_classes).astype(np.int64)


def _running_sum(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... values, shape (len(values) + 1,)."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def _needed(num_objects: np.ndarray) -> np.ndarray:
    """Number of true positives for each recall threshold, shape (K, R).

    This is the smallest n >= 1 with n / objects >= threshold in float64.
    COCOeval compares rounded numbers, so the product alone may be wrong by
    one.
    """
    objects = np.maximum(num_objects, 1)[:, None]
    needed = np.ceil(RECALL_THRS * objects)
    needed -= (needed - 1) / objects >= RECALL_THRS
    needed += needed / objects < RECALL_THRS
    return np.maximum(needed, 1).astype(np.int64)
