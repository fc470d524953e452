"""Overlapping pairs of detections and objects of one image, of any class."""
from dataclasses import replace

import numpy as np

from .box_pairs import BoxPairs, _narrowed, overlapping_pairs
from .coco_arrays import Detections, GroundTruth


def image_pairs(ground_truth: GroundTruth, detections: Detections,
                mask: np.ndarray) -> BoxPairs:
    """Find all overlapping pairs within each image, of equal or other class.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        mask (ndarray): Mask of the detections to pair, boolean, shape (D,).

    Returns:
        BoxPairs: Pairs without crowds. The pairs of a detection are adjacent,
        with objects in file order.
    """
    chosen = np.flatnonzero(mask)
    order = chosen[np.argsort(
        _narrowed(detections.image_index[chosen]), kind='stable')]
    # All classes are treated as one.
    pairs = overlapping_pairs(
        replace(
            ground_truth, class_index=np.zeros_like(ground_truth.class_index)),
        replace(detections, class_index=np.zeros_like(detections.class_index)),
        order,
        keeps_disjoint=False)
    return pairs.select(~ground_truth.iscrowd[pairs.object])
