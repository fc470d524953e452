"""Orders in which COCO processes detections."""
from typing import NamedTuple

import numpy as np

from .coco_arrays import Detections


class MatchingOrder(NamedTuple):
    """Detections in the order in which they are matched to objects.

    Shapes:
        D: detections
    """
    # Indices by (class, image, score descending, file order), shape (D,).
    order: np.ndarray
    # Position of each entry of `order` within its image and class, shape (D,).
    place: np.ndarray
    # Indices by (class, score descending, image, file order), shape (D,).
    by_score: np.ndarray


def make_matching_order(detections: Detections) -> MatchingOrder:
    """Sort detections as COCOeval does, ties in file order.

    Args:
        detections (Detections): Detections.
    """
    image_index, class_index = detections.image_index, detections.class_index
    # One sort by score is enough for both orders.
    order = _sorted_by(image_index, np.arange(len(detections)))
    order = order[np.argsort(-detections.scores[order], kind='stable')]
    by_score = _sorted_by(class_index, order)
    order = _sorted_by(class_index, _sorted_by(image_index, order))
    is_first = (
        is_first_of_run(image_index[order])
        | is_first_of_run(class_index[order]))
    start = np.flatnonzero(is_first)
    length = np.diff(np.append(start, len(order)))
    place = np.arange(len(order)) - np.repeat(start, length)
    return MatchingOrder(order, place, by_score)


def is_first_of_run(values: np.ndarray) -> np.ndarray:
    """Whether a value differs from the one before it."""
    is_first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return is_first


def is_last_of_run(values: np.ndarray) -> np.ndarray:
    """Whether a value differs from the one after it."""
    is_last = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_last[:-1])
    return is_last


def _sorted_by(index: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Sort an order by indices; ties keep their order.

    The indices are sorted 16 bits at a time, the lowest bits first, because
    numpy sorts 16-bit numbers by radix, several times faster than wider
    numbers.

    Args:
        index (ndarray): Sort keys, whole numbers >= 0, shape (D,).
        order (ndarray): Indices into ``index``, shape (D,).

    Returns:
        ndarray: Sorted order, shape (D,).
    """
    largest = int(index.max()) if len(index) else 0
    for shift in range(0, largest.bit_length(), 16):
        digit = (index >> shift).astype(np.uint16)  # its lowest 16 bits
        order = order[np.argsort(digit[order], kind='stable')]
    return order
