"""Rules to read logits and targets of each dense head of mmdet.

A head calls its ``loss_cls`` with logits and targets. Heads differ in the
order of the samples, in the form of the targets, and in the divisor of the
loss; :data:`HEAD_SPECS` has one row for each kind of head.

Shapes: N images; L levels; :math:`P_l` priors of level l in an image; M
samples of all images and levels; C columns of logits; K classes.
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
    """One call of a loss module in a head.

    Attributes:
        module (str): Name of the head's attribute that holds the module.
        prediction (Tensor): First argument.
        target (Any): Second argument.
        weight (Tensor, optional): Third argument, or the keyword ``weight``.
        avg_factor (float | Tensor, optional): Keyword ``avg_factor``.
    """
    module: str
    prediction: Tensor
    target: Any
    weight: Optional[Tensor]
    avg_factor: Any


class Targets(NamedTuple):
    """Targets of the samples of a step, in the head's own order.

    Attributes:
        labels (Tensor): Assigned classes, K for background, int64, shape
            (M,).
        quality (Tensor, optional): Target of the score of the assigned
            class, shape (M,). Defaults to None, a target of 1.
        weight (Tensor, optional): Weights of the samples, shape (M,).
            Defaults to None, a weight of 1.
    """
    labels: Tensor
    quality: Optional[Tensor] = None
    weight: Optional[Tensor] = None


def map_of_logits(head: nn.Module, outputs: tuple, level: int) -> Tensor:
    """Read the logits of a level from the head's output, shape (N, P, C)."""
    return _as_rows(outputs[0][level], head.cls_out_channels)


def logits_of_probabilities(head: nn.Module, outputs: tuple,
                            level: int) -> Tensor:
    """Convert the probabilities that TOOD returns to logits.

    In float32, as half precision has no numbers close to 1.
    """
    probs = _as_rows(outputs[0][level], head.cls_out_channels).float()
    return torch.logit(probs, eps=1e-6)


def joint_logits(classes: Tensor, objectness: Tensor) -> Tensor:
    r"""Logit of :math:`\sigma(z_c)\,\sigma(z_o)`, the score of YOLO heads.

    Args:
        classes (Tensor): Logits of the classes, shape (..., K).
        objectness (Tensor): Logit of the objectness, shape (..., 1).

    Returns:
        Tensor: Logits of the scores, float32, shape (..., K).

    Example:
        >>> joint = joint_logits(torch.tensor([[0.]]), torch.tensor([[0.]]))
        >>> print(f'{joint.sigmoid().item():.4f}')
        0.2500
    """
    classes, objectness = classes.float(), objectness.float()
    log_score = F.logsigmoid(classes) + F.logsigmoid(objectness)
    # Below 0, because at 0 the logarithm of 1 - exp is infinite.
    log_score = log_score.clamp(max=-torch.finfo(log_score.dtype).tiny)
    return log_score - torch.log(-torch.expm1(log_score))


def joint_logits_of_yolox(head: nn.Module, outputs: tuple,
                          level: int) -> Tensor:
    """Join the separate maps of classes and objectness of YOLOX."""
    return joint_logits(
        _as_rows(outputs[0][level], head.cls_out_channels),
        _as_rows(outputs[2][level], 1))


def joint_logits_of_yolov3(head: nn.Module, outputs: tuple,
                           level: int) -> Tensor:
    """Join objectness and classes, which are columns of one YOLOv3 map."""
    rows = _as_rows(outputs[0][level], head.num_attrib)
    return joint_logits(rows[..., 5:], rows[..., 4:5])


def targets_of_classes(calls: List[LossCall], num_classes: int) -> Targets:
    """Read targets given as labels, (label, quality) pairs or quality maps."""
    labels, quality, weight = [], [], []
    for call in calls:
        target = call.target
        if isinstance(target, (tuple, list)):
            labels.append(target[0].reshape(-1))
            quality.append(target[1].reshape(-1))
        elif target.dim() == 2:
            best, column = target.max(dim=1)
            # CenterNetUpdateHead fills a map without objects with K.
            is_object = (best > 0) & (best <= 1)
            labels.append(torch.where(is_object, column, num_classes))
            quality.append(best * is_object)
        else:
            labels.append(target.reshape(-1))
        if call.weight is not None:
            weight.append(call.weight)
    labels = torch.cat(labels)
    weight = torch.cat([values.reshape(-1)
                        for values in weight]) if weight else None
    if weight is not None and len(weight) != len(labels):
        # FSAF gives one weight per class, 0 if another object hides the prior.
        weight = weight.view(len(labels), -1).amin(dim=1)
    return Targets(labels,
                   torch.cat(quality).float() if quality else None, weight)


def targets_of_yolox(calls: List[LossCall], num_classes: int) -> Targets:
    """Read targets of YOLOX: objectness marks the positives.

    Its classification loss receives the positives only.
    """
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
    """Read targets of YOLOv3: one-hot classes with weight 1 for positives.

    The weights of the objectness mark the ignored samples.
    """
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
class DenseHeadSpec:
    """Rule to read one kind of dense head.

    Attributes:
        order (str): Order of the samples in ``loss_cls``: 'level' (one level
            after the other, each with all images) or 'image' (one image
            after the other, each with all levels). Defaults to 'level'.
        divisor (str): Divisor of the head's classification loss:
            'avg_factor', the argument of the call; 'quality', the sum of
            qualities over all ranks; 'positives', the number of positives
            over all ranks; or 'objects', the number of objects over all
            ranks, for heads that have none of the other divisors. Defaults
            to 'avg_factor'.
        loss_modules (tuple[str]): Names of the head's loss modules whose
            calls are recorded. Defaults to ('loss_cls', ).
        logits (callable): Function of ``(head, outputs, level)`` that returns
            logits of shape (N, P, C). Defaults to :func:`map_of_logits`.
        targets (callable, optional): Function of ``(calls, num_classes)``
            that returns :class:`Targets`; None if the head assigns no
            classes. Defaults to :func:`targets_of_classes`.
        takes_loss_input (bool): Whether the first argument of ``loss_cls``
            is used as these logits, which saves a copy. Defaults to True.
        assigns_by_score (bool): Whether the head chooses its positives by
            its own scores. Defaults to False.
        num_attributes (str): Name of the head's attribute that holds the
            number of columns per prior in its map. Defaults to
            'cls_out_channels'.
    """
    order: str = 'level'
    divisor: str = 'avg_factor'
    loss_modules: Tuple[str, ...] = ('loss_cls', )
    logits: Callable = map_of_logits
    targets: Optional[Callable] = targets_of_classes
    takes_loss_input: bool = True
    assigns_by_score: bool = False
    num_attributes: str = 'cls_out_channels'


_BY_OBJECTS = DenseHeadSpec(divisor='objects', targets=None)
# Readings by class of the head; the row of the nearest base class is used. A
# text is the reason why a head cannot be read.
HEAD_SPECS: Dict[type, Any] = {
    AnchorHead:
    DenseHeadSpec(),
    AnchorFreeHead:
    DenseHeadSpec(),
    SABLRetinaHead:
    DenseHeadSpec(),
    PISARetinaHead:
    DenseHeadSpec(order='image', takes_loss_input=False),
    PAAHead:
    DenseHeadSpec(
        order='image', takes_loss_input=False, assigns_by_score=True),
    FreeAnchorRetinaHead:
    _BY_OBJECTS,
    AutoAssignHead:
    _BY_OBJECTS,
    SSDHead:
    DenseHeadSpec(divisor='objects', targets=None, loss_modules=()),
    YOLACTHead:
    DenseHeadSpec(order='image', divisor='positives', takes_loss_input=False),
    RTMDetHead:
    DenseHeadSpec(divisor='quality', assigns_by_score=True),
    TOODHead:
    DenseHeadSpec(
        divisor='quality',
        loss_modules=('initial_loss_cls', 'loss_cls'),
        logits=logits_of_probabilities,
        takes_loss_input=False,
        assigns_by_score=True),
    CenterNetUpdateHead:
    DenseHeadSpec(takes_loss_input=False),
    YOLOXHead:
    DenseHeadSpec(
        order='image',
        divisor='positives',
        loss_modules=('loss_obj', 'loss_cls'),
        logits=joint_logits_of_yolox,
        targets=targets_of_yolox,
        takes_loss_input=False,
        assigns_by_score=True),
    YOLOV3Head:
    DenseHeadSpec(
        divisor='positives',
        loss_modules=('loss_cls', 'loss_conf'),
        logits=joint_logits_of_yolov3,
        targets=targets_of_yolov3,
        takes_loss_input=False,
        num_attributes='num_attrib'),
    CenterNetHead:
    'scores heat maps, of which only the peaks are detections',
    CornerHead:
    'scores corners, which do not belong to a box before they are '
    'grouped',
    GuidedAnchorHead:
    'chooses the positions of its anchors itself, and in '
    'testing computes logits only at these',
    RPNHead:
    'proposes boxes and does not distinguish classes',
    LADHead:
    'has a teacher of its own',
    LDHead:
    'has a teacher of its own',
    ATSSVLFusionHead:
    'scores words of a text, not classes',
}


def head_spec(head: nn.Module) -> Any:
    """Look up the rule to read a head.

    Args:
        head (nn.Module): A detector's ``bbox_head``.

    Returns:
        DenseHeadSpec | str, optional: Rule of the head, or the reason why it
        cannot be read; None if there is no row for its kind.
    """
    return next((HEAD_SPECS[cls]
                 for cls in type(head).__mro__ if cls in HEAD_SPECS), None)


def _as_rows(level: Tensor, columns: int) -> Tensor:
    """Reshape a map (N, A * columns, H, W) to (N, H * W * A, columns)."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, columns)
