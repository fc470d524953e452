"""Base class of the losses on feature maps.

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

FEATURE_SOURCES = ('neck', 'backbone')


class Scene(NamedTuple):
    """Additional information about the images, besides their feature maps.

    Attributes:
        scores (Sequence[Tensor], optional): Teacher's probability of the most
            probable class at each position of each level, without gradient,
            shape (N, 1, H, W) each. Defaults to None, if no loss needs them.
        boxes (Sequence[Tensor], optional): Boxes of the G objects of each
            image, as corners relative to the width and height of the area
            that the maps cover, shape (G, 4) each. Defaults to None, if no
            loss needs them.
    """
    scores: Optional[Sequence[Tensor]] = None
    boxes: Optional[Sequence[Tensor]] = None


class FeatureLoss(WeightedLoss):
    """Base class of the losses between feature maps of student and teacher.

    A subclass implements :meth:`level_loss`. The loss is the sum over levels.
    If the student's map has another size than the teacher's, by a factor of
    at most 2, it is resized (bilinear). If it has another number of channels,
    it is projected by a 1x1 convolution, which is trained together with the
    student but is not part of it.

    Attributes:
        projects (bool): Whether maps with different channels are projected;
            False for a loss that can compare them directly.
        needs_channels (bool): Whether ``student_channels`` is required; True
            for a loss with learnable parts of its own.
        needs_scores (bool): Whether :class:`Scene` must have ``scores``.
        needs_boxes (bool): Whether :class:`Scene` must have ``boxes``.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        student_channels (list[int], optional): Channels of the student's
            levels that are compared, in the order of increasing stride.
            Defaults to None, which is possible for a loss without learnable
            parts if both models have the same channels.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None: those of the student.
        features (str): Maps that are compared: 'neck', the inputs of the
            heads, or 'backbone'. Defaults to 'neck'.

    Raises:
        InvalidTypeError: If an argument has a wrong type.
        InvalidValueError: If an argument has a wrong value.
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
        self.features = check_choice('features', features, FEATURE_SOURCES)
        student: Any = _check_channels('student_channels', student_channels)
        teacher: Any = _check_channels('teacher_channels', teacher_channels)
        if student is None and self.needs_channels:
            raise InvalidTypeError(
                '`student_channels` must be a list with the channels of each '
                f'level, as {type(self).__name__} has learnable parts, but '
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
                nn.Identity() if first ==
                second else nn.Conv2d(first, second, 1)
                for first, second in zip(student, teacher))

    def forward(self,
                student: Sequence[Tensor],
                teacher: Sequence[Tensor],
                scene: Optional[Scene] = None) -> Tensor:
        """Compute the loss.

        Args:
            student (Sequence[Tensor]): Maps of the student, L levels, shape
                (N, D, H, W) each.
            teacher (Sequence[Tensor]): Maps of the teacher for the same
                images and levels; the loss is computed in their size. No
                gradient flows into them.
            scene (Scene, optional): Scores and boxes. Defaults to None.

        Returns:
            Tensor: Loss, a scalar, at least float32.

        Raises:
            InvalidValueError: If the channels of the maps differ from the
                arguments, or differ between the models without such arguments.
        """
        scene = scene or Scene()
        self._check_maps(student, teacher)
        total = student[0].new_zeros((),
                                     dtype=at_least_float32(student[0]).dtype)
        with without_autocast(student[0]):
            for level, (student_map,
                        teacher_map) in enumerate(zip(student, teacher)):
                student_map = at_least_float32(student_map)
                teacher_map = at_least_float32(teacher_map.detach())
                if hasattr(self, 'projections'):
                    student_map = self.projections[level](student_map)
                if student_map.shape[-2:] != teacher_map.shape[-2:]:
                    student_map = F.interpolate(
                        student_map,
                        size=teacher_map.shape[-2:],
                        mode='bilinear',
                        align_corners=False)
                total = total + self.level_loss(student_map, teacher_map,
                                                level, scene)
        return self.loss_weight * total

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        """Compute the loss of one level, without ``loss_weight``.

        Args:
            student (Tensor): Map of the student, projected and resized, at
                least float32, shape (N, D, H, W).
            teacher (Tensor): Map of the teacher, without gradient, same
                shape.
            level (int): Position of the level among those compared.
            scene (Scene): Scores and boxes.

        Returns:
            Tensor: Loss of the level, a scalar.
        """
        raise NotImplementedError

    def _check_maps(self, student: Sequence[Tensor],
                    teacher: Sequence[Tensor]) -> None:
        student_counts, teacher_counts = ([level.shape[1] for level in maps]
                                          for maps in (student, teacher))
        if self.student_channels is None and not self.projects:
            return
        if student_counts == (self.student_channels
                              or teacher_counts) and teacher_counts == (
                                  self.teacher_channels or teacher_counts):
            return
        given = ('none' if self.student_channels is None else
                 f'{self.student_channels} and {self.teacher_channels}')
        raise InvalidValueError(
            '`student_channels` and `teacher_channels` must be the channels '
            f'of the {len(student_counts)} levels that are compared, '
            f'{student_counts} and {teacher_counts}, but got {given}: '
            f'give student_channels={student_counts}' +
            ('' if student_counts ==
             teacher_counts else f', teacher_channels={teacher_counts}'))


def _check_channels(name: str,
                    channels: Optional[Sequence[int]]) -> Optional[List[int]]:
    if channels is None:
        return None
    if not isinstance(channels, (list, tuple)) or not channels:
        raise InvalidTypeError(
            f'`{name}` must be a list with the channels of each level, but '
            f'got {channels!r}')
    return [check_count(name, count) for count in channels]
