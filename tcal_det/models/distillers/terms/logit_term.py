"""Term of losses on the logits of the student's samples."""
from typing import List

import torch.nn as nn
from torch import Tensor

from ...head_adapters import HeadAdapter
from ..lesson import Lesson
from ..training_step import Taught, TrainingStep
from .term import Term, check_activation, without_graph_if_off


class LogitTerm(Term):
    """Term that compares the logits of both for the student's samples."""

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
            # The student's own loss does not use the logits of other samples.
            return []
        groups = step.observation.groups
        return [groups[lesson.group].logits for lesson in taught.lessons]


def distilled_loss(loss: nn.Module, lesson: Lesson) -> Tensor:
    """Compute a loss on logits for one group of samples.

    Args:
        loss (nn.Module): Loss of ``distill_losses``.
        lesson (Lesson): Student samples and teacher logits of the group.

    Returns:
        Tensor: Loss, multiplied by the weight of the group, a scalar.
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
