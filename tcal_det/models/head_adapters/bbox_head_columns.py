"""Meaning of the columns of the logits of a bbox head."""
from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn as nn
from mmdet.models.losses import CrossEntropyCustomLoss, SeesawLoss
from mmdet.models.roi_heads.bbox_heads import MultiInstanceBBoxHead
from torch import Tensor

from ..logits import at_least_float32

UNORDERED = (
    'predicts a set of objects for each RoI, and its loss chooses their '
    'order: rows of teacher and student cannot be paired')


@dataclass(frozen=True)
class BBoxHeadColumns:
    """Columns of the logits of a bbox head with softmax, Seesaw or sigmoid.

    A Seesaw head has K classes and 2 columns of objectness; they become
    K + 1 logits. A sigmoid RoI head of mmdet also has K + 1 columns, or K with
    CrossEntropyCustomLoss.

    Attributes:
        activation (str): 'softmax' or 'sigmoid'.
        num_classes (int): Number of classes K, without background.
        cls_channels (int): Number of columns C of :meth:`as_logits`.
        is_seesaw (bool): Whether the loss is SeesawLoss.
    """
    activation: str
    num_classes: int
    cls_channels: int
    is_seesaw: bool

    @classmethod
    def of(cls, bbox_head: nn.Module) -> 'BBoxHeadColumns':
        """Read the columns of a bbox head.

        Args:
            bbox_head (nn.Module): Head with ``num_classes`` and ``loss_cls``.
        """
        loss_cls = bbox_head.loss_cls
        is_seesaw = isinstance(loss_cls, SeesawLoss)
        # SeesawLoss also has this flag, but uses softmax.
        is_sigmoid = (not is_seesaw
                      and getattr(loss_cls, 'use_sigmoid', False))
        cls_channels = bbox_head.num_classes + 1
        if isinstance(loss_cls, CrossEntropyCustomLoss):
            cls_channels = loss_cls.get_cls_channels(bbox_head.num_classes)
        return cls('sigmoid' if is_sigmoid else 'softmax',
                   bbox_head.num_classes, cls_channels, is_seesaw)

    def as_logits(self, cls_score: Tensor) -> Tensor:
        """Convert the head's output so that the activation gives its scores.

        Args:
            cls_score (Tensor): Output of the head, shape (S, C), or (S, K + 2)
                of a Seesaw head.

        Returns:
            Tensor: Logits, shape (S, C); at least float32 of a Seesaw head.
        """
        if not self.is_seesaw:
            return cls_score
        cls_score = at_least_float32(cls_score)
        objectness = cls_score[:, -2:].log_softmax(dim=1)
        classes = cls_score[:, :-2].log_softmax(dim=1)
        return torch.cat([classes + objectness[:, :1], objectness[:, 1:]],
                         dim=1)


def reason_against_bbox_head(bbox_head: nn.Module) -> Optional[str]:
    """Explain why the classification of a bbox head cannot be read.

    Args:
        bbox_head (nn.Module): Head of a stage.

    Returns:
        str, optional: Reason for a message; None if it can be read.
    """
    kind = f'has the `bbox_head` {type(bbox_head).__name__}'
    loss_cls = getattr(bbox_head, 'loss_cls', None)
    if isinstance(bbox_head, MultiInstanceBBoxHead):
        return f'{kind}, which {UNORDERED}'
    # The bbox head of SABL always classifies and has no such flag.
    if loss_cls is None or not getattr(bbox_head, 'with_cls', True):
        return f'{kind}, which does not classify'
    if (getattr(loss_cls, 'custom_cls_channels', False)
            and not isinstance(loss_cls,
                               (CrossEntropyCustomLoss, SeesawLoss))):
        return (f'{kind} with {type(loss_cls).__name__}, which defines its '
                'own meaning of the columns of the logits')
    return None
