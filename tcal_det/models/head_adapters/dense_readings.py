"""How each dense head of mmdet tells what it classified.

A head calls its ``loss_cls`` with logits and targets. Heads differ in the
order of the samples, in what a target is, and in what the loss is divided
by; :data:`READINGS` has a row for each that differs.

Shapes: N images, L levels, :math:`P_l` priors of level l in an image, C
columns of logits, K classes.
"""
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
# yapf: disable
from mmdet.models.dense_heads import (AnchorFreeHead, AnchorHead,
                                      AutoAssignHead, CenterNetHead,
                                      CenterNetUpdateHead, CornerHead,
                                      FreeAnchorRetinaHead, GuidedAnchorHead,
                                      LADHead, LDHead, PAAHead, PISARetinaHead,
                                      RPNHead, RTMDetHead, SABLRetinaHead,
                                      SSDHead, TOODHead, YOLACTHead,
                                      YOLOV3Head, YOLOXHead)
# yapf: enable
from mmdet.models.dense_heads.atss_vlfusion_head import ATSSVLFusionHead
from torch import Tensor


class LossCall(NamedTuple):
    """A call of a loss module in the head.

    Attributes:
        module (str): The head's attribute.
        prediction (Tensor): First argument.
        target (Any): Second argument.
        weight (Tensor, optional): Third argument, or the keyword.
        avg_factor (float | Tensor, optional): The keyword.
    """
    module: str
    prediction: Tensor
    target: Any
    weight: Optional[Tensor]
    avg_factor: Any


class Targets(NamedTuple):
    """What the samples of a step were to be, in the head's own order.

    Attributes:
        labels (Tensor): Assigned classes, K for background, int64, shape
            (M,).
        quality (Tensor, optional): Target of the assigned class where it is
            not 1, shape (M,).
        weight (Tensor, optional): Weights, shape (M,).
    """
    labels: Tensor
    quality: Optional[Tensor] = None
    weight: Optional[Tensor] = None


def map_of_logits(head: nn.Module, outputs: tuple, level: int) -> Tensor:
    """Logits of a level, from what the head returned, shape (N, P, C)."""
    return _as_rows(outputs[0][level], head.cls_out_channels)


def logits_of_probabilities(head: nn.Module, outputs: tuple,
                            level: int) -> Tensor:
    """TOOD returns probabilities. Half precision has none next to 1."""
    probs = _as_rows(outputs[0][level], head.cls_out_channels).float()
    return torch.logit(probs, eps=1e-6)


def joint_logits(classes: Tensor, objectness: Tensor) -> Tensor:
    r"""Logit of :math:`\sigma(z_c)\,\sigma(z_o)`, the score of YOLO heads.

    Args:
        classes (Tensor): Logits of the classes, shape (..., K).
        objectness (Tensor): Logit of an object, shape (..., 1).

    Returns:
        Tensor: At least float32, shape (..., K).

    Example:
        >>> joint = joint_logits(torch.tensor([[0.]]), torch.tensor([[0.]]))
        >>> print(f'{joint.sigmoid().item():.4f}')
        0.2500
    """
    classes, objectness = classes.float(), objectness.float()
    log_score = F.logsigmoid(classes) + F.logsigmoid(objectness)
    # Below 0, where the logarithm of 1 - exp would be infinite.
    log_score = log_score.clamp(max=-torch.finfo(log_score.dtype).tiny)
    return log_score - torch.log(-torch.expm1(log_score))


def joint_logits_of_yolox(head: nn.Module, outputs: tuple,
                          level: int) -> Tensor:
    """Class and objectness come as maps of their own."""
    return joint_logits(
        _as_rows(outputs[0][level], head.cls_out_channels),
        _as_rows(outputs[2][level], 1))


def joint_logits_of_yolov3(head: nn.Module, outputs: tuple,
                           level: int) -> Tensor:
    """Box, objectness and classes are columns of one map."""
    rows = _as_rows(outputs[0][level], head.num_attrib)
    return joint_logits(rows[..., 5:], rows[..., 4:5])


def targets_of_classes(calls: List[LossCall], num_classes: int) -> Targets:
    """Labels, pairs of label and quality, or a map of qualities."""
    labels, quality, weight = [], [], []
    for call in calls:
        target = call.target
        if isinstance(target, (tuple, list)):
            labels.append(target[0].reshape(-1))
            quality.append(target[1].reshape(-1))
        elif target.dim() == 2:
            best, column = target.max(dim=1)
            # A map without objects is filled with K in CenterNetUpdateHead.
            is_object = (best > 0) & (best <= 1)
            labels.append(torch.where(is_object, column, num_classes))
            quality.append(best * is_object)
        else:
            labels.append(target.reshape(-1))
        if call.weight is not None:
            weight.append(call.weight)
    labels = torch.cat(labels)
    weight = torch.cat([one.reshape(-1) for one in weight]) if weight else None
    if weight is not None and len(weight) != len(labels):
        # FSAF's: one for each class, 0 where another object hides the prior.
        weight = weight.view(len(labels), -1).amin(dim=1)
    return Targets(labels,
                   torch.cat(quality).float() if quality else None, weight)


def targets_of_yolox(calls: List[LossCall], num_classes: int) -> Targets:
    """The class loss sees positives only: objectness tells which they are."""
    is_positive = next(call.target for call in calls
                       if call.module == 'loss_obj').reshape(-1) > 0
    labels = is_positive.new_full(
        is_positive.shape, num_classes, dtype=torch.long)
    quality = torch.zeros(
        is_positive.shape, dtype=torch.float32, device=labels.device)
    for call in calls:
        if call.module == 'loss_cls':
            best, column = call.target.max(dim=1)
            labels[is_positive] = column
            quality[is_positive] = best.float()
    return Targets(labels, quality)


def targets_of_yolov3(calls: List[LossCall], num_classes: int) -> Targets:
    """One-hot classes, weighted 1 at positives; objectness ignores some."""
    labels, weight = [], []
    for call in calls:
        if call.module == 'loss_cls':
            column = call.target.argmax(dim=-1)
            is_positive = call.weight[..., 0] > 0
            labels.append(
                torch.where(is_positive, column, num_classes).reshape(-1))
        else:
            weight.append(call.weight.reshape(-1))
    return Targets(torch.cat(labels), None, torch.cat(weight))


@dataclass(frozen=True)
class DenseReading:
    """How to read one kind of dense head.

    Attributes:
        order (str): How ``loss_cls`` is given the samples: 'level', the
            images of a level after each other, or 'image', the levels of an
            image.
        divisor (str): What the head's classification loss is divided by:
            'avg_factor', that of the call; 'quality', the sum of qualities
            over all ranks; 'positives', the number of positives over all
            ranks; 'objects', stands in where the head has none of these:
            the number of objects over all ranks.
        loss_modules (tuple[str]): Attributes of the head to listen to.
        logits (Callable): ``(head, outputs, level)`` to logits of the shape
            (N, P, C).
        targets (Callable, optional): ``(calls, num_classes)`` to
            :class:`Targets`; None where the head assigns no classes.
        takes_loss_input (bool): Whether the first argument of ``loss_cls``
            is those logits: a copy less.
        assigns_by_score (bool): Whether the head chooses its positives by
            its own scores.
        num_attributes (str): The head's attribute with the number of
            columns of a prior in its map.
    """
    order: str = 'level'
    divisor: str = 'avg_factor'
    loss_modules: Tuple[str, ...] = ('loss_cls', )
    logits: Callable = map_of_logits
    targets: Optional[Callable] = targets_of_classes
    takes_loss_input: bool = True
    assigns_by_score: bool = False
    num_attributes: str = 'cls_out_channels'


_BY_OBJECTS = DenseReading(divisor='objects', targets=None)
# By class; that of the nearest base class is taken. A text is the reason why
# a head cannot be read.
READINGS: Dict[type, Any] = {
    AnchorHead:
    DenseReading(),
    AnchorFreeHead:
    DenseReading(),
    SABLRetinaHead:
    DenseReading(),
    PISARetinaHead:
    DenseReading(order='image', takes_loss_input=False),
    PAAHead:
    DenseReading(order='image', takes_loss_input=False, assigns_by_score=True),
    FreeAnchorRetinaHead:
    _BY_OBJECTS,
    AutoAssignHead:
    _BY_OBJECTS,
    SSDHead:
    DenseReading(divisor='objects', targets=None, loss_modules=()),
    YOLACTHead:
    DenseReading(order='image', divisor='positives', takes_loss_input=False),
    RTMDetHead:
    DenseReading(divisor='quality', assigns_by_score=True),
    TOODHead:
    DenseReading(
        divisor='quality',
        loss_modules=('initial_loss_cls', 'loss_cls'),
        logits=logits_of_probabilities,
        takes_loss_input=False,
        assigns_by_score=True),
    CenterNetUpdateHead:
    DenseReading(takes_loss_input=False),
    YOLOXHead:
    DenseReading(
        order='image',
        divisor='positives',
        loss_modules=('loss_obj', 'loss_cls'),
        logits=joint_logits_of_yolox,
        targets=targets_of_yolox,
        takes_loss_input=False,
        assigns_by_score=True),
    YOLOV3Head:
    DenseReading(
        divisor='positives',
        loss_modules=('loss_cls', 'loss_conf'),
        logits=joint_logits_of_yolov3,
        targets=targets_of_yolov3,
        takes_loss_input=False,
        num_attributes='num_attrib'),
    CenterNetHead:
    'scores heat maps, of which only the peaks are detections',
    CornerHead:
    'scores corners, which belong to no box before they are '
    'grouped',
    GuidedAnchorHead:
    'chooses the places of its anchors itself, and in '
    'testing computes logits only there',
    RPNHead:
    'proposes boxes and tells no classes apart',
    LADHead:
    'has a teacher of its own',
    LDHead:
    'has a teacher of its own',
    ATSSVLFusionHead:
    'scores words of a text, not classes',
}


def reading_of(head: nn.Module) -> Any:
    """The row of a head.

    Args:
        head (nn.Module): A detector's ``bbox_head``.

    Returns:
        DenseReading | str | None: A text says why it cannot be read; None
        where no row is of its kind.
    """
    return next(
        (READINGS[cls] for cls in type(head).__mro__ if cls in READINGS), None)


def _as_rows(level: Tensor, columns: int) -> Tensor:
    """A map (N, A * columns, H, W) as rows (N, H * W * A, columns)."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, columns)
