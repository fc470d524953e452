"""What all losses on feature maps have in common.

Shapes: L levels of a pyramid; N images; D channels; H x W positions.
"""
from typing import Any, List, NamedTuple, Optional, Sequence

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from tcal_det.checks import check_choice, check_count
from tcal_det.errors import InvalidTypeError, InvalidValueError
from ..logits import at_least_float32
from .logit_loss import without_autocast
from .weighted_loss import WeightedLoss

PLACES = ('neck', 'backbone')


class Scene(NamedTuple):
    """What a loss may know of the images beside their feature maps.

    Attributes:
        scores (sequence[Tensor], optional): Teacher's probability of the most
            probable class at each position of each level, without gradient,
            shape (N, 1, H, W) each. Defaults to None, where no loss asks.
        boxes (sequence[Tensor], optional): Objects of each image, corners as
            shares of width and height of what the maps cover, shape (G, 4)
            each. Defaults to None, where no loss asks.
    """
    scores: Optional[Sequence[Tensor]] = None
    boxes: Optional[Sequence[Tensor]] = None


class FeatureLoss(WeightedLoss):
    """Base of the losses between feature maps of student and teacher.

    A loss implements :meth:`level_loss`. The levels are summed up. A student's
    map of another size, at most by a factor of 2, is resized to the teacher's
    (bilinear). A student's map of other channels is projected by a 1x1
    convolution, which is trained with the student and is no part of it.

    Attributes:
        projects (bool): Whether unlike channels are projected; a loss that
            takes them as they are says False.
        needs_channels (bool): Whether ``student_channels`` must be given:
            that of a loss with learnable parts of its own.
        needs_scores (bool): Whether :class:`Scene` must have ``scores``.
        needs_boxes (bool): Whether :class:`Scene` must have ``boxes``.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        student_channels (list[int], optional): Channels of the student's
            levels that are compared, that of the smallest stride first.
            Defaults to None, for a loss without learnable parts on maps of
            equal channels.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None, those of the student.
        features (str): Maps that are compared: 'neck', those that the heads
            are given, or 'backbone'. Defaults to 'neck'.

    Raises:
        InvalidTypeError, InvalidValueError: If an argument is wrong.
    """

    projects = True
    needs_channels = False
    needs_scores = False
    needs_boxes = False

    def __init__(self,
                 loss_weight: float = 1.0,
                 student_channels: Optional[Sequence[int]] = None,
                 teacher_channels: Optional[Sequence[int]] = None,
                 features: str = 'neck') -> None:
        super().__init__(loss_weight)
        self.features = check_choice('features', features, PLACES)
        student: Any = _check_channels('student_channels', student_channels)
        teacher: Any = _check_channels('teacher_channels', teacher_channels)
        if student is None and self.needs_channels:
            raise InvalidTypeError(
                '`student_channels` must be a list with the channels of each '
                f'level, as {type(self).__name__} has parts that learn, but '
                'got None')
        if student is None and teacher is not None:
            raise InvalidValueError(
                '`student_channels` must be given with `teacher_channels`, '
                f'{teacher}, but got None')
        if teacher is not None and len(teacher) != len(student):
            raise InvalidValueError(
                '`student_channels` and `teacher_channels` must have an '
                f'entry for each level, but got {student} and {teacher}')
        # Lists, save for losses that neither project nor need channels.
        self.student_channels: Any = student
        self.teacher_channels: Any = student if teacher is None else teacher
        if self.projects and self.student_channels != self.teacher_channels:
            self.projections = nn.ModuleList(
                nn.Identity() if own == other else nn.Conv2d(own, other, 1)
                for own, other in zip(student, teacher))

    def forward(self,
                student: Sequence[Tensor],
                teacher: Sequence[Tensor],
                scene: Optional[Scene] = None) -> Tensor:
        """Compute the loss.

        Args:
            student (sequence[Tensor]): Maps of L levels, shape (N, D, H, W)
                each.
            teacher (sequence[Tensor]): Maps of the same images and levels, of
                the size that the loss is computed in. No gradient flows into
                them.
            scene (Scene, optional): What else is known. Defaults to None.

        Returns:
            Tensor: A scalar, at least float32.

        Raises:
            InvalidValueError: If the channels are not those of the arguments,
                or differ and no arguments say so.
        """
        scene = scene or Scene()
        self._check_maps(student, teacher)
        total = student[0].new_zeros((),
                                     dtype=at_least_float32(student[0]).dtype)
        with without_autocast(student[0]):
            for level, (own, other) in enumerate(zip(student, teacher)):
                own = at_least_float32(own)
                other = at_least_float32(other.detach())
                if hasattr(self, 'projections'):
                    own = self.projections[level](own)
                if own.shape[-2:] != other.shape[-2:]:
                    own = F.interpolate(
                        own,
                        size=other.shape[-2:],
                        mode='bilinear',
                        align_corners=False)
                total = total + self.level_loss(own, other, level, scene)
        return self.loss_weight * total

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        """Loss of one level, without ``loss_weight``.

        Args:
            student (Tensor): Projected and resized, at least float32, shape
                (N, D, H, W).
            teacher (Tensor): Without gradient, of the same shape.
            level (int): Position of the level among those compared.
            scene (Scene): What else is known.

        Returns:
            Tensor: A scalar.
        """
        raise NotImplementedError

    def _check_maps(self, student: Sequence[Tensor],
                    teacher: Sequence[Tensor]) -> None:
        own, other = ([level.shape[1] for level in maps]
                      for maps in (student, teacher))
        if self.student_channels is None and not self.projects:
            return
        if own == (self.student_channels
                   or other) and other == (self.teacher_channels or other):
            return
        given = ('none' if self.student_channels is None else
                 f'{self.student_channels} and {self.teacher_channels}')
        raise InvalidValueError(
            '`student_channels` and `teacher_channels` must be the channels '
            f'of the {len(own)} levels that are compared, {own} and {other}, '
            f'but got {given}: give student_channels={own}' +
            ('' if own == other else f', teacher_channels={other}'))


def _check_channels(name: str,
                    channels: Optional[Sequence[int]]) -> Optional[List[int]]:
    if channels is None:
        return None
    if not isinstance(channels, (list, tuple)) or not channels:
        raise InvalidTypeError(
            f'`{name}` must be a list with the channels of each level, but '
            f'got {channels!r}')
    return [check_count(name, one) for one in channels]
