"""Focal and global distillation of feature maps.

Shapes: N images; D channels; H x W positions; G objects of an image.
"""
from typing import Any, Optional, Sequence, Tuple

import torch.nn as nn
from mmcv.cnn import ContextBlock
from torch import Tensor

from tcal_det.checks import check_non_negative, check_positive
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene

# Of a position: edges that rounding moved across a cell's.
ROUNDING = 1e-3


def attention(maps: Tensor, temperature: float) -> Tuple[Tensor, Tensor]:
    r"""Where, and in which channels, a map is active.

    Softmax over positions of the mean absolute value over channels, times H
    W; softmax over channels of the mean over positions, times D. Both have
    the mean 1.

    Args:
        maps (Tensor): Shape (N, D, H, W).
        temperature (float): Divides the values before the softmax.

    Returns:
        tuple[Tensor, Tensor]: Of positions, shape (N, 1, H, W), and of
        channels, shape (N, D, 1, 1).

    Example:
        >>> import torch
        >>> of_positions, _ = attention(torch.tensor([[[[0., 2.]]]]), 2.0)
        >>> print([round(one, 3) for one in of_positions.flatten().tolist()])
        [0.538, 1.462]
    """
    num_images, channels, height, width = maps.shape
    sizes = maps.abs()
    of_positions = (sizes.mean(dim=1).flatten(1) / temperature).softmax(dim=1)
    of_channels = (sizes.mean(dim=(2, 3)) / temperature).softmax(dim=1)
    return (height * width * of_positions.view(num_images, 1, height, width),
            channels * of_channels.view(num_images, channels, 1, 1))


def object_masks(boxes: Tensor, size: Tuple[int,
                                            int]) -> Tuple[Tensor, Tensor]:
    """Weights of the positions of an image, of objects and of background.

    A position of an object weighs one over the object's number of positions,
    of several that of the smallest; one of none weighs one over the number of
    those. An object has the positions that its box touches, at least one.

    Args:
        boxes (Tensor): Corners as shares of width and height, shape (G, 4).
        size (tuple[int, int]): H and W.

    Returns:
        tuple[Tensor, Tensor]: Of objects and of background, shape (H, W)
        each.

    Example:
        >>> import torch
        >>> objects, rest = object_masks(
        ...     torch.tensor([[0., 0., .5, 1.]]), (1, 4))
        >>> objects, rest
        (tensor([[0.5000, 0.5000, 0.0000, 0.0000]]), tensor([[0.0000, 0.0000, \
0.5000, 0.5000]]))
    """
    height, width = size
    within_x, count_x = _touched(boxes[:, 0], boxes[:, 2], width)
    within_y, count_y = _touched(boxes[:, 1], boxes[:, 3], height)
    share = (1 / (count_x * count_y))[:, None, None]
    weights = share * within_y[:, :, None] * within_x[:, None, :]
    # A row of zeros, as without objects there is no largest.
    objects = nn.functional.pad(weights, (0, 0, 0, 0, 0, 1)).amax(dim=0)
    is_rest = (objects == 0).to(objects)
    return objects, is_rest / is_rest.sum().clamp(min=1)


def _touched(start: Tensor, end: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """Which of the cells of a side an object touches, and how many."""
    first = (start * count + ROUNDING).floor().clamp(0, count - 1)
    last = (end * count - ROUNDING).ceil().clamp(max=count) - 1
    last = last.maximum(first)
    cells = start.new_ones(count).cumsum(dim=0) - 1
    is_within = (cells >= first[:, None]) & (cells <= last[:, None])
    return is_within.to(start), last - first + 1


@MODELS.register_module()
class FGDLoss(FeatureLoss):
    r"""Focal and global distillation.

    .. math::
        \frac{1}{N} \Big[ \sum_{d,h,w} (\alpha M^{fg} + \beta M^{bg})\,
        A^S_t A^C_t\,(F_t - F_s)^2
        + \gamma \big(\lVert A^S_t - A^S_s \rVert_1
        + \lVert A^C_t - A^C_s \rVert_1\big)
        + \lambda \sum_{d,h,w} (R_t(F_t) - R_s(F_s))^2 \Big]

    summed over levels and images. A is the :func:`attention` to positions
    and channels, M are the :func:`object_masks` of the annotated boxes, and R
    two global context blocks (GcBlock) of each level, which are trained with
    the student and are no part of it. They start as the identity: equal maps
    give 0 before the first step of the optimizer.

    These are sums over channels and positions, as in the paper, and its
    weights are the defaults: those for RetinaNet, GFL and RepPoints; for
    Faster R-CNN 5e-5, 2.5e-5, 5e-5 and 5e-7.

    Reading taken: an object's positions are those that its box touches; the
    authors' code adds a row and a column.

    Args:
        student_channels, teacher_channels: As in :class:`FeatureLoss`;
            ``student_channels`` is needed.
        foreground_weight (float): :math:`\alpha`, >= 0. Defaults to 0.001.
        background_weight (float): :math:`\beta`, >= 0. Defaults to 0.0005.
        attention_weight (float): :math:`\gamma`, >= 0. Defaults to 0.0005.
        global_weight (float): :math:`\lambda`, >= 0. Defaults to 0.000005.
        temperature (float): Of the attention, > 0. Defaults to 0.5.
        loss_weight, features: As in :class:`FeatureLoss`.

    Reference: Yang et al., "Focal and Global Knowledge Distillation for
    Detectors", CVPR 2022, arXiv 2111.11837.
    """

    needs_boxes = True
    needs_channels = True

    def __init__(self,
                 student_channels: Sequence[int],
                 teacher_channels: Optional[Sequence[int]] = None,
                 foreground_weight: float = 1e-3,
                 background_weight: float = 5e-4,
                 attention_weight: float = 5e-4,
                 global_weight: float = 5e-6,
                 temperature: float = 0.5,
                 loss_weight: float = 1.0,
                 features: str = 'neck') -> None:
        super().__init__(loss_weight, student_channels, teacher_channels,
                         features)
        self.foreground_weight = check_non_negative('foreground_weight',
                                                    foreground_weight)
        self.background_weight = check_non_negative('background_weight',
                                                    background_weight)
        self.attention_weight = check_non_negative('attention_weight',
                                                   attention_weight)
        self.global_weight = check_non_negative('global_weight', global_weight)
        self.temperature = check_positive('temperature', temperature)
        self.student_contexts, self.teacher_contexts = (
            nn.ModuleList(
                ContextBlock(channels, ratio=0.5)
                for channels in self.teacher_channels) for _ in range(2))

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        boxes: Any = scene.boxes  # never None, by needs_boxes
        return (self._focal(student, teacher, boxes) + self.global_weight *
                self._global(student, teacher, level)) / len(student)

    def _focal(self, student: Tensor, teacher: Tensor,
               boxes: Sequence[Tensor]) -> Tensor:
        own, other = (
            attention(maps, self.temperature) for maps in (student, teacher))
        # Summed over channels before it meets the masks, which have none.
        gaps = (other[0] * other[1] * (teacher - student).square()).sum(dim=1)
        focal: Any = self.attention_weight * sum(  # of tensors
            (one - its).abs().sum() for one, its in zip(own, other))
        for gap, objects in zip(gaps, boxes):
            foreground, background = object_masks(
                objects.to(gap), tuple(gap.shape))
            focal = focal + (gap *
                             (self.foreground_weight * foreground +
                              self.background_weight * background)).sum()
        return focal

    def _global(self, student: Tensor, teacher: Tensor, level: int) -> Tensor:
        own = self.student_contexts[level](student.contiguous())
        other = self.teacher_contexts[level](teacher.contiguous())
        return (own - other).square().sum()
