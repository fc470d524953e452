"""Term of losses on the logits of the student's samples."""
from typing import List

import torch.nn as nn
from torch import Tensor

from ...head_adapters import HeadAdapter
from ..distillation_group import DistillationGroup
from ..training_step import TeacherOutput, TrainingStep
from .term import Term, check_activation, without_graph_if_off


class LogitTerm(Term):
    """Term that compares the logits of both for the student's samples."""

    takes_mixture = True

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        super().__init__(name, loss, student)
        check_activation(name, loss, student)

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        return sum(
            distilled_loss(self._loss, distill_group)
            for distill_group in teacher_output.distill_groups)

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        if (teacher_output.teacher is not None
                and not teacher_output.teacher.classifies_student_samples):
            # The student's own loss does not use the logits of other samples.
            return []
        groups = step.observation.groups
        return [
            groups[distill_group.group_index].logits
            for distill_group in teacher_output.distill_groups
        ]


def distilled_loss(loss: nn.Module,
                   distill_group: DistillationGroup) -> Tensor:
    """Compute a loss on logits for one group of samples.

    Args:
        loss (nn.Module): Loss of ``distill_losses``.
        distill_group (DistillationGroup): Student samples and teacher logits
            of the group.

    Returns:
        Tensor: Loss, multiplied by the weight of the group, a scalar.
    """
    samples = distill_group.samples
    return samples.group_weight * loss(
        without_graph_if_off(loss, samples.logits),
        distill_group.logits,
        labels=samples.labels,
        weight=samples.weight,
        avg_factor=samples.avg_factor,
        image_index=samples.image_index,
        num_classes=distill_group.num_classes)
