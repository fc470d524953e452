"""Losses on the logits of the student's samples."""
from typing import List

import torch.nn as nn
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ..lesson import Lesson
from ..training_step import Taught, TrainingStep
from .term import Term, without_graph_if_off


class LogitTerm(Term):
    """Logits of the student's samples against the teacher's answers."""

    takes_mixture = True

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        super().__init__(name, loss, student)
        made_for = getattr(loss, 'head_activation', None)
        if made_for not in (None, student.activation):
            raise InvalidValueError(
                f'`distill_losses.{name}` {type(loss).__name__} is '
                f'made for {made_for} heads, but the student '
                f'{student.name} classifies with '
                f'{student.activation}: choose a loss for '
                f'{student.activation} heads, see docs/methods.md, '
                '"Which heads"')

    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        return sum(
            distilled_loss(self._loss, lesson) for lesson in taught.lessons)

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
        groups = step.observation.groups
        return [groups[lesson.group].logits for lesson in taught.lessons]


def distilled_loss(loss: nn.Module, lesson: Lesson) -> Tensor:
    """A loss on logits, of one group of samples.

    Args:
        loss (nn.Module): One of ``distill_losses``.
        lesson (Lesson): What the teacher says of the samples.

    Returns:
        Tensor: A scalar, the group's weight included.
    """
    samples = lesson.samples
    return samples.group_weight * loss(
        without_graph_if_off(loss, samples.logits),
        lesson.logits,
        labels=samples.labels,
        weight=samples.weight,
        avg_factor=samples.avg_factor,
        image_index=samples.image_index,
        num_classes=lesson.num_classes)
