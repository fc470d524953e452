"""Labels from the boxes that a dense head predicts.

Some heads choose their positives by their own scores. Where such a head is
to be measured, its training labels would flatter it; how well its boxes
cover the objects does not depend on the scores.

Shapes: N images; P priors of a level in an image; G objects of an image.
"""
from typing import Callable, Dict, List, Tuple

import torch
import torch.nn as nn
from mmdet.models.dense_heads import RTMDetHead, TOODHead, YOLOXHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmdet.utils import InstanceList
from torch import Tensor

# A box that lies in a crowd region to this share is neither right nor wrong.
CROWD_SHARE = 0.5


def boxes_by_coder(head: nn.Module, level: int, predicted: Tensor,
                   priors: Tensor) -> Tensor:
    """Distances or deltas, which the head's coder decodes."""
    rows = predicted.flatten(0, 1)
    priors = priors.repeat(len(predicted), 1)
    boxes = get_box_tensor(head.bbox_coder.decode(priors, rows))
    return boxes.view(*predicted.shape[:2], 4)


def boxes_in_strides(head: nn.Module, level: int, predicted: Tensor,
                     priors: Tensor) -> Tensor:
    """Boxes in units of the stride."""
    return predicted * head.prior_generator.strides[level][0]


def boxes_of_yolox(head: nn.Module, level: int, predicted: Tensor,
                   priors: Tensor) -> Tensor:
    """Centre offsets and logarithms of the sizes, in strides."""
    stride = head.prior_generator.strides[level][0]
    centres = predicted[..., :2] * stride + priors
    half_sizes = predicted[..., 2:].exp() * stride / 2
    return torch.cat([centres - half_sizes, centres + half_sizes], dim=-1)


# By class; that of the nearest base class is taken. Each takes (head, level,
# predicted (N, P, 4), priors (P, 2 or 4)) to boxes (N, P, 4). All of these
# heads return the map of boxes second, and train their scores on the IoU.
DECODERS: Dict[type, Callable[[nn.Module, int, Tensor, Tensor], Tensor]] = {
    RTMDetHead: boxes_by_coder,
    TOODHead: boxes_in_strides,
    YOLOXHead: boxes_of_yolox,
}


def can_decode(head: nn.Module) -> bool:
    """Whether the boxes of a head can be read.

    Args:
        head (nn.Module): A detector's ``bbox_head``.
    """
    return any(cls in DECODERS for cls in type(head).__mro__)


def decoded_boxes(head: nn.Module, outputs: tuple) -> List[Tensor]:
    """The boxes that a head predicts, not clipped.

    Args:
        head (nn.Module): One that :func:`can_decode`.
        outputs (tuple): What its forward returned.

    Returns:
        list[Tensor]: Of each level, corners in the pixels of the network's
        input, shape (N, P, 4).
    """
    decode = next(DECODERS[cls] for cls in type(head).__mro__
                  if cls in DECODERS)
    maps = outputs[1]
    all_priors = head.prior_generator.grid_priors(
        [level.shape[-2:] for level in maps],
        dtype=maps[0].dtype,
        device=maps[0].device)
    return [
        decode(head, level,
               predicted.permute(0, 2, 3, 1).reshape(len(predicted), -1, 4),
               priors)
        for level, (predicted, priors) in enumerate(zip(maps, all_priors))
    ]


def label_by_overlap(boxes: Tensor, data_samples: SampleList,
                     num_classes: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Give each box the object that it covers best.

    Args:
        boxes (Tensor): Those of a level, shape (N, P, 4).
        data_samples (list[DetDataSample]): Of the N images, with
            ``gt_instances``.
        num_classes (int): Number of classes K.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Class of that object, K for a box that
        touches none; its IoU with the box; weight, 0 for a box that lies in
        a crowd region and 1 otherwise. Shape (N * P,) each.
    """
    labels = boxes.new_full(boxes.shape[:2], num_classes, dtype=torch.long)
    quality = boxes.new_zeros(boxes.shape[:2])
    weight = boxes.new_ones(boxes.shape[:2])
    for index, sample in enumerate(data_samples):
        objects = sample.gt_instances
        if len(objects):
            overlap, best = _overlaps(boxes[index], objects, 'iou')
            quality[index] = overlap
            labels[index] = torch.where(overlap > 0, objects.labels[best],
                                        labels[index])
        ignored = sample.get('ignored_instances')
        if ignored is not None and len(ignored):
            share, _ = _overlaps(boxes[index], ignored, 'iof')
            weight[index] = ((share <= CROWD_SHARE) |
                             (quality[index] >= CROWD_SHARE)).float()
    return labels.flatten(), quality.flatten(), weight.flatten()


def _overlaps(boxes: Tensor, instances: InstanceList,
              mode: str) -> Tuple[Tensor, Tensor]:
    overlaps = bbox_overlaps(
        boxes, get_box_tensor(instances.bboxes).to(boxes), mode=mode)
    return overlaps.max(dim=1)
