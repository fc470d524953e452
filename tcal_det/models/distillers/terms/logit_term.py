"""Losses on the logits of the student's samples."""
from typing import List

import torch.nn as nn
from torch import Tensor

from ...head_adapters import HeadAdapter
from ..lesson import Lesson
from ..training_step import Taught, TrainingStep
from .term import Term, check_activation, without_graph_if_off


class LogitTerm(Term):
    """Logits of the student's samples against the teacher's answers."""

    takes_mixture = True

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        super().__init__(name, loss, student)
        check_activation(name, loss, student)

    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        return sum(
            distilled_loss(self._loss, lesson) for lesson in taught.lessons)

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
        if (taught.teacher is not None
                and not taught.teacher.asks_for_own_samples):
            # Logits of others are no part of the student's own loss.
            return []
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
