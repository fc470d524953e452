"""Detections and objects of one image that overlap, whatever their class."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .coco_arrays import Detections, GroundTruth
from .box_pairs import _narrowed, overlapping_pairs


class ImagePairs(NamedTuple):
    """Pairs of a detection and an object, crowds not among them.

    Attributes:
        detection (ndarray): Index in file order, shape (P,).
        object (ndarray): Index in file order, shape (P,).
        iou (ndarray): Above 0, shape (P,).
    """
    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def select(self, which: np.ndarray) -> 'ImagePairs':
        """The pairs of a mask or of indices."""
        return ImagePairs(*(part[which] for part in self))


def image_pairs(ground_truth: GroundTruth, detections: Detections,
                wanted: np.ndarray) -> ImagePairs:
    """All pairs of one image that overlap, of equal and of different class.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes.
        wanted (ndarray): Which detections to pair, boolean, shape (D,).

    Returns:
        ImagePairs: The pairs of a detection stand together, objects in file
        order.
    """
    chosen = np.flatnonzero(wanted)
    order = chosen[np.argsort(
        _narrowed(detections.image_index[chosen]), kind='stable')]
    # As if there were one class only.
    pairs = overlapping_pairs(
        replace(
            ground_truth, class_index=np.zeros_like(ground_truth.class_index)),
        replace(detections, class_index=np.zeros_like(detections.class_index)),
        order,
        keeps_disjoint=False)
    pairs = pairs.select(~ground_truth.iscrowd[pairs.object])
    return ImagePairs(pairs.detection, pairs.object, pairs.iou)
