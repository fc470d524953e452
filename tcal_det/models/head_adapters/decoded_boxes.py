"""Boxes that a dense head predicts, and labels derived from them.

Some heads choose their positives by their own scores. With their training
labels, such a head would appear better calibrated than it is. The overlap of
the predicted boxes with the objects does not depend on the scores.

Shapes: N images; L levels; P priors of a level in an image, A of a cell; G
objects of an image; C columns of logits.
"""
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
import torch.nn as nn
# yapf: disable
from mmdet.models.dense_heads import (AutoAssignHead, CenterNetUpdateHead,
                                      FCOSHead, FoveaHead, PAAHead,
                                      RepPointsHead, RTMDetInsHead, SSDHead,
                                      TOODHead, VFNetHead, YOLACTHead,
                                      YOLOV3Head, YOLOXHead)
# yapf: enable
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tcal_det.errors import InvalidTypeError

# A box is ignored if more than this share of its area lies in a crowd region
# and its IoU with each object is lower than this number.
CROWD_SHARE = 0.5
# Artificial scores of the first and the last prior, see `_descending_scores`.
HIGHEST, LOWEST = 0.9, 0.1
# A `test_cfg` that keeps every prior, but only for its scored class.
ALL_BOXES = ConfigDict(score_thr=LOWEST / 2, nms_pre=10**9, min_bbox_size=-1)
# A logit whose probability is 0.
LOWEST_LOGIT = -1e4

Maps = List[Tensor]


class PredictedBoxes:
    """Output of a dense head, whose boxes are decoded on demand.

    Only the sizes of the class maps are kept, and by default no graph of the
    other maps. The object therefore needs little memory until the end of a
    step.

    Args:
        head (nn.Module): Head that the adapter of dense heads can read, still
            in the mode (training or testing) that produced ``outputs``.
        outputs (tuple): Return value of the head's forward method.
        keeps_graph (bool): Whether gradients flow from the boxes into
            ``outputs``, whose graph is then kept. Defaults to False.
    """

    def __init__(self,
                 head: nn.Module,
                 outputs: tuple,
                 keeps_graph: bool = False) -> None:
        self._head = head
        self._is_training = head.training
        self._sizes = [level.shape[-2:] for level in outputs[0]]
        if not isinstance(head, YOLOV3Head):
            # Maps of the same shape that need no memory.
            maps = [
                torch.zeros((), device=level.device).expand(level.shape)
                for level in outputs[0]
            ]
            outputs = (maps, *outputs[1:])
        self._keeps_graph = keeps_graph
        self._outputs = outputs if keeps_graph else _detached(outputs)

    def decode(self) -> List[Tensor]:
        """Decode the boxes of all priors, without clipping.

        Returns:
            list[Tensor]: Box corners for each level, in pixels of the
            network's input, float32, shape (N, P, 4), in the order of the
            rows of logits.

        Raises:
            InvalidTypeError: If the head does not predict one box per prior.
        """
        with torch.set_grad_enabled(self._keeps_graph
                                    and torch.is_grad_enabled()):
            return self._decode()

    def _decode(self) -> List[Tensor]:
        head = self._head
        outputs = _to_float32(self._outputs)
        device = outputs[0][0].device
        # Autocast would round GFL's integral to half precision.
        with torch.autocast(device.type, enabled=False):
            if self._is_training:
                outputs = _by_head_class(TEST_CONVERSIONS, head,
                                         _unchanged)(head, outputs)
            return _by_head_class(DECODERS, head,
                                  _boxes_of_detections)(head, outputs,
                                                        self._sizes)


def _detached(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.detach()
    return tuple(map(_detached, part))


def _to_float32(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.float()
    return list(map(_to_float32, part))


def _by_head_class(table: Dict[type, Callable], head: nn.Module,
                   default: Callable) -> Callable:
    """Look up the entry of the head's nearest base class."""
    return next((table[cls] for cls in type(head).__mro__ if cls in table),
                default)


def _unchanged(head: nn.Module, outputs: Sequence[Maps]) -> Sequence[Maps]:
    return outputs


def _in_pixels(head: nn.Module, outputs: Sequence[Maps]) -> Sequence[Maps]:
    """Convert distances from strides (training) to pixels (testing)."""
    boxes = [
        level * stride[0]
        for level, stride in zip(outputs[1], head.prior_generator.strides)
    ]
    return [outputs[0], boxes, *outputs[2:]]


def _in_pixels_if_normed(head: nn.Module,
                         outputs: Sequence[Maps]) -> Sequence[Maps]:
    return _in_pixels(head, outputs) if head.norm_on_bbox else outputs


def _refined(head: nn.Module, outputs: Sequence[Maps]) -> Sequence[Maps]:
    """Leave out the initial boxes: testing uses only the refined ones."""
    return [outputs[0], outputs[-1]]


def _refined_points(head: nn.Module,
                    outputs: Sequence[Maps]) -> Sequence[Maps]:
    return [outputs[0], list(map(head.points2bbox, outputs[-1]))]


# Functions that convert the output of a head in training mode to its output
# in test mode, by class of the head. The entry of the nearest base class is
# used.
TEST_CONVERSIONS: Dict[type, Callable] = {
    FCOSHead: _in_pixels_if_normed,
    AutoAssignHead: _unchanged,
    CenterNetUpdateHead: _in_pixels,
    VFNetHead: _refined,
    RepPointsHead: _refined_points,
}


class _WithoutDetaching(TorchFunctionMode):
    """Context in which ``Tensor.detach`` returns the tensor with its graph.

    mmdet's ``predict_by_feat`` always detaches the maps that it decodes; no
    argument switches this off.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.detach:
            return args[0]
        return func(*args, **(kwargs or {}))


def _boxes_of_detections(head: nn.Module, outputs: Sequence[Maps],
                         sizes: Sequence[torch.Size]) -> List[Tensor]:
    """Decode boxes with the head's own code for detections before NMS.

    The head sorts its detections by descending score. The predicted scores
    are replaced by scores that descend from prior to prior, so that the head
    returns all boxes in the order of the priors.
    """
    num_images = len(outputs[0][0])
    outputs, counts = _scored_by_position(head, outputs)
    with _WithoutDetaching():
        results = head.predict_by_feat(
            *outputs,
            # Coders do not clip if there is no shape.
            batch_img_metas=[dict(img_shape=None)] * num_images,
            cfg=ALL_BOXES,
            rescale=False,
            with_nms=False)
    found = torch.stack([get_box_tensor(result.bboxes) for result in results])
    if found.shape[1:] != (sum(counts), 4):
        raise InvalidTypeError(
            f'the `bbox_head` {type(head).__name__} must predict a box of 4 '
            f'coordinates for each of its {sum(counts)} priors, but predicts '
            f'{found.shape[1]} of {found.shape[2]}: its boxes cannot be read')
    return list(found.split(counts, dim=1))


def _scored_by_position(head: nn.Module,
                        outputs: Sequence[Maps]) -> Tuple[list, List[int]]:
    """Replace class maps by descending scores; count each level's priors."""
    is_joint = isinstance(head, YOLOV3Head)
    columns = head.num_attrib if is_joint else head.cls_out_channels
    counts = [level[0].numel() // columns for level in outputs[0]]
    scores = _descending_scores(sum(counts),
                                outputs[0][0].device).split(counts)
    maps = []
    for level, score in zip(outputs[0], scores):
        height, width = level.shape[-2:]
        if is_joint:
            rows = level.new_full((len(score), columns - 4), LOWEST_LOGIT)
            # Objectness, and the first class.
            rows[:, 0], rows[:, 1] = 0, torch.logit(score)
            rows = rows.expand(len(level), -1, -1)
            boxes = level.permute(0, 2, 3, 1).reshape(len(level), -1,
                                                      columns)[..., :4]
            rows = torch.cat([boxes, rows], dim=2)
        else:
            rows = _score_rows(head, score)[None]
        rows = rows.view(len(rows), height, width, -1).permute(0, 3, 1, 2)
        maps.append(rows.expand(len(level), -1, -1, -1))
    outputs = [maps, *outputs[1:]]
    if isinstance(head, YOLOXHead):
        # YOLOX multiplies the class score by the objectness.
        outputs[2] = [
            torch.full_like(level, -LOWEST_LOGIT) for level in outputs[2]
        ]
    return outputs, counts


def _score_rows(head: nn.Module, score: Tensor) -> Tensor:
    """Make head outputs with this score in the first class, 0 in others."""
    rows = score.new_full((len(score), head.cls_out_channels), LOWEST_LOGIT)
    rows[:, 0] = torch.logit(score)
    if isinstance(head, TOODHead):
        return rows.sigmoid()
    if not getattr(head, 'use_sigmoid_cls', True):
        rows[:, -1] = 0  # background
    return rows


def _descending_scores(count: int, device: torch.device) -> Tensor:
    """Make descending probabilities; up to a million differ in float32."""
    return torch.linspace(
        HIGHEST, LOWEST, count, dtype=torch.float64, device=device).float()


def _decode_by_coder(head: nn.Module, outputs: Sequence[Maps],
                     sizes: Sequence[torch.Size]) -> List[Tensor]:
    """Decode deltas or distances of heads whose detections need NMS or masks.

    The head's own code for detections cannot be used for them.
    """
    return [
        get_box_tensor(
            head.bbox_coder.decode(
                priors.repeat(len(rows), 1), rows.flatten(0, 1))).view_as(rows)
        for rows, priors in _rows_and_priors(head, outputs, sizes)
    ]


def _decode_points(head: nn.Module, outputs: Sequence[Maps],
                   sizes: Sequence[torch.Size]) -> List[Tensor]:
    """Decode RepPoints, which always clips: boxes in strides around points."""
    return [
        rows * stride + priors[:, :2].repeat(1, 2)
        for (rows, priors), stride in zip(
            _rows_and_priors(head, outputs, sizes), head.point_strides)
    ]


def _decode_by_base_edges(head: nn.Module, outputs: Sequence[Maps],
                          sizes: Sequence[torch.Size]) -> List[Tensor]:
    """Decode FoveaBox, which always clips.

    It predicts logarithms of distances, in units of the level's base edge.
    """
    boxes = []
    for (rows, priors), edge in zip(
            _rows_and_priors(head, outputs, sizes), head.base_edge_list):
        distances = edge * rows.exp()
        centres = priors[:, :2]
        boxes.append(
            torch.cat(
                [centres - distances[..., :2], centres + distances[..., 2:]],
                dim=-1))
    return boxes


def _rows_and_priors(head: nn.Module, outputs: Sequence[Maps],
                     sizes: Sequence[torch.Size]) -> List[tuple]:
    """Pair box predictions (N, P, 4) with priors (P, 2 or 4), per level."""
    all_priors = head.prior_generator.grid_priors(
        sizes, dtype=torch.float32, device=outputs[1][0].device)
    return [(level.permute(0, 2, 3, 1).reshape(len(level), -1, 4), priors)
            for level, priors in zip(outputs[1], all_priors)]


# Decoders of heads whose own code for detections does not return all boxes,
# or clips them, by class of the head. The entry of the nearest base class is
# used.
DECODERS: Dict[type, Callable] = {
    SSDHead: _decode_by_coder,
    PAAHead: _decode_by_coder,
    YOLACTHead: _decode_by_coder,
    RTMDetInsHead: _decode_by_coder,
    RepPointsHead: _decode_points,
    FoveaHead: _decode_by_base_edges,
}


def clip_to_images(boxes: Tensor, data_samples: SampleList) -> Tensor:
    """Clip boxes to their images, as for detections.

    Args:
        boxes (Tensor): Boxes of each image, shape (N, P, 4).
        data_samples (list[DetDataSample]): Data samples of the N images,
            with ``img_shape``.

    Returns:
        Tensor: Clipped boxes, shape (N, P, 4).
    """
    limits = boxes.new_tensor([
        sample.img_shape[1::-1] for sample in data_samples
    ]).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), limits)


def label_by_overlap(boxes: Tensor, data_samples: SampleList,
                     num_classes: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Label each box by the object with the highest IoU.

    Args:
        boxes (Tensor): Boxes of one level, shape (N, P, 4).
        data_samples (list[DetDataSample]): Data samples of the N images,
            with ``gt_instances``.
        num_classes (int): Number of classes K.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Class of that object, K for a box that
        overlaps no object; IoU of box and object; weight, 0 for a box in a
        crowd region and 1 otherwise. Shape (N * P,) each.
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
