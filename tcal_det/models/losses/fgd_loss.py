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

# Tolerance, in cells, for box edges that rounding moved into the next cell.
ROUNDING = 1e-3


def attention(maps: Tensor, temperature: float) -> Tuple[Tensor, Tensor]:
    r"""Compute the attention of maps to positions and to channels.

    The attention to positions is H W times the softmax, over positions, of
    the mean absolute value over channels. The attention to channels is D
    times the softmax, over channels, of the mean absolute value over
    positions. Both have the mean 1.

    Args:
        maps (Tensor): Feature maps, shape (N, D, H, W).
        temperature (float): Divisor of the values before the softmax.

    Returns:
        tuple[Tensor, Tensor]: Attention to positions, shape (N, 1, H, W), and
        to channels, shape (N, D, 1, 1).

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
    """Compute the weights of an image's positions for objects and background.

    An object has all positions that its box touches, at least one. The weight
    of an object's position is one over the number of positions of the object;
    if several objects share a position, the smallest of them determines the
    weight. The weight of a background position is one over the number of
    background positions.

    Args:
        boxes (Tensor): Corners of the objects, relative to width and height,
            shape (G, 4).
        size (tuple[int, int]): Height H and width W of the map.

    Returns:
        tuple[Tensor, Tensor]: Weights for objects and for background, shape
        (H, W) each.

    Example:
        >>> import torch
        >>> objects, rest = object_masks(
        ...     torch.tensor([[0., 0., .5, 1.]]), (1, 4))
        >>> objects, rest
        (tensor([[0.5000, 0.5000, 0.0000, 0.0000]]), tensor([[0.0000, 0.0000, \
0.5000, 0.5000]]))
    """
    height, width = size
    within_x, count_x = _covered_cells(boxes[:, 0], boxes[:, 2], width)
    within_y, count_y = _covered_cells(boxes[:, 1], boxes[:, 3], height)
    share = (1 / (count_x * count_y))[:, None, None]
    weights = share * within_y[:, :, None] * within_x[:, None, :]
    # Append a row of zeros, as a maximum over no objects is not defined.
    objects = nn.functional.pad(weights, (0, 0, 0, 0, 0, 1)).amax(dim=0)
    is_rest = (objects == 0).to(objects)
    return objects, is_rest / is_rest.sum().clamp(min=1)


def _covered_cells(start: Tensor, end: Tensor,
                   count: int) -> Tuple[Tensor, Tensor]:
    """Return a mask of the cells that each object touches, and their count."""
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
    are two global context blocks (GcBlock) of each level, which are trained
    together with the student but are not part of it. They start as the
    identity: equal maps give 0 before the first step of the optimizer.

    These are sums over channels and positions, as in the paper. The default
    weights are the paper's for RetinaNet, GFL and RepPoints; for Faster R-CNN
    they are 5e-5, 2.5e-5, 5e-5 and 5e-7.

    Interpretation: the positions of an object are those that its box touches;
    the authors' code adds a row and a column.

    Args:
        student_channels (list[int]): Channels of the student's levels, see
            :class:`FeatureLoss`.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None: those of the student.
        foreground_weight (float): Weight :math:`\alpha` of the objects'
            positions, >= 0. Defaults to 0.001.
        background_weight (float): Weight :math:`\beta` of the background
            positions, >= 0. Defaults to 0.0005.
        attention_weight (float): Weight :math:`\gamma` of the difference in
            attention, >= 0. Defaults to 0.0005.
        global_weight (float): Weight :math:`\lambda` of the global context,
            >= 0. Defaults to 0.000005.
        temperature (float): Temperature of the attention, > 0. Defaults to
            0.5.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        features (str): Maps that are compared, 'neck' or 'backbone'. Defaults
            to 'neck'.

    Reference:
        Yang et al., "Focal and Global Knowledge Distillation for Detectors",
        CVPR 2022, arXiv 2111.11837.
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
        student_attention, teacher_attention = (
            attention(maps, self.temperature) for maps in (student, teacher))
        # Sum over channels first, as the masks have no channels.
        gaps = (teacher_attention[0] * teacher_attention[1] *
                (teacher - student).square()).sum(dim=1)
        focal: Any = self.attention_weight * sum(  # of tensors
            (student_part - teacher_part).abs().sum() for student_part,
            teacher_part in zip(student_attention, teacher_attention))
        for gap, objects in zip(gaps, boxes):
            foreground, background = object_masks(
                objects.to(gap), tuple(gap.shape))
            focal = focal + (gap *
                             (self.foreground_weight * foreground +
                              self.background_weight * background)).sum()
        return focal

    def _global(self, student: Tensor, teacher: Tensor, level: int) -> Tensor:
        student_context = self.student_contexts[level](student.contiguous())
        teacher_context = self.teacher_contexts[level](teacher.contiguous())
        return (student_context - teacher_context).square().sum()
