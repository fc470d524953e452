"""Detections and objects of one image that overlap, whatever their class."""
from dataclasses import replace

import numpy as np

from .box_pairs import BoxPairs, _narrowed, overlapping_pairs
from .coco_arrays import Detections, GroundTruth


def image_pairs(ground_truth: GroundTruth, detections: Detections,
                wanted: np.ndarray) -> BoxPairs:
    """All pairs of one image that overlap, of equal and of different class.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes.
        wanted (ndarray): Which detections to pair, boolean, shape (D,).

    Returns:
        BoxPairs: Without crowds. The pairs of a detection stand together,
        objects in file order.
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
    return pairs.select(~ground_truth.iscrowd[pairs.object])
