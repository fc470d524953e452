"""Term of losses on boxes that both regress from the same samples."""
from typing import Any, List, Optional

import torch
import torch.nn as nn
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ...losses.sample_weight import object_probability, sample_weight
from ..distillation_group import DistillationGroup
from ..sample_transport import SameSamples
from ..training_step import TeacherOutput, TrainingStep
from .same_priors import check_same_priors
from .term import Term, without_graph_if_off


class BoxTerm(Term):
    """Term that compares the boxes of both for the student's RoIs or priors.

    The samples are weighted by the teacher's calibrated score.
    """

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        super().__init__(name, loss, student)
        self.student_parts = self.teacher_parts = tuple(
            part for part in student.parts if part.startswith('head.'))

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        remedy = ('choose two detectors with RoIs, or two with the same '
                  'priors')
        reason = student.reason_against_regressing()
        if reason is not None:
            return f'cannot teach it boxes: the student {reason}: {remedy}'
        reason = teacher.reason_against_regressing()
        if reason is not None:
            return f'{reason}: {remedy}'
        reason = SameSamples.reason_against(student, teacher)
        if reason is not None:
            return f'cannot teach it boxes: the two {reason}: {remedy}'
        if student.num_stages != teacher.num_stages:
            return ('must have the same number of stages, as each stage '
                    'regresses from the boxes of the stage before, but has '
                    f'{teacher.num_stages} and the student '
                    f'{student.num_stages}: choose another teacher')
        return None

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        self.check_same_samples(step, teacher_output)
        distill_groups = teacher_output.distill_groups
        groups = [
            step.observation.groups[distill_group.group_index]
            for distill_group in distill_groups
        ]
        labels = [
            teacher_output.teacher.classes.labels_of_both(
                self._classes_of(distill_group))
            for distill_group in distill_groups
        ]
        student = step.student.regress(
            step.calls, groups,
            [student_labels for student_labels, _ in labels])
        with torch.no_grad():
            teacher = teacher_output.adapter.regress(
                teacher_output.calls, groups,
                [teacher_labels for _, teacher_labels in labels])
        return sum(
            self._group_loss(step, teacher_output, *parts)
            for parts in zip(distill_groups, student, teacher))

    def _classes_of(self, distill_group: DistillationGroup) -> Tensor:
        """Choose the shared class whose box is compared for each sample."""
        best = distill_group.logits[:, :distill_group.num_classes].argmax(
            dim=1)
        labels = distill_group.samples.labels
        if labels is None:
            if self._loss.samples == 'foreground' and len(best):
                raise InvalidValueError(
                    f'`distill_losses.{self.name}.samples` must be \'all\', '
                    'as the loss of the student assigns no class to its '
                    "samples, but got 'foreground'")
            return best
        is_object = (labels >= 0) & (labels < distill_group.num_classes)
        return labels.where(is_object, best)

    def _group_loss(self, step: TrainingStep, teacher_output: TeacherOutput,
                    distill_group: DistillationGroup, student: Tensor,
                    teacher: Tensor) -> Tensor:
        check_same_priors(step.student, teacher_output.adapter, student,
                          teacher)
        samples = distill_group.samples
        weight = sample_weight(samples.labels, distill_group.num_classes,
                               samples.weight, self._loss.samples)
        score = object_probability(distill_group.logits,
                                   distill_group.num_classes,
                                   step.student.activation)
        weight = score if weight is None else weight * score
        divisor = samples.avg_factor
        if divisor is None:
            divisor = float(max(len(weight), 1))
        # Boxes of weight 0 are left out: their distance from the image may be
        # so large that their gradient is NaN.
        index = weight.nonzero(as_tuple=True)[0]
        return samples.group_weight * self._loss(
            without_graph_if_off(self._loss, student[index]), teacher[index],
            weight[index], divisor)

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        """Collect the box predictions of the head.

        Other outputs of the head may be among them; the loss does not depend
        on these.
        """
        tensors = []
        for part in self.student_parts:
            if part in step.calls:
                output = step.calls[part].output
                tensors += tensors_with_graph(output[1:] or output)
        return tensors


def tensors_with_graph(part: Any) -> List[Tensor]:
    """Collect the tensors in nested tuples that can get a gradient."""
    if isinstance(part, Tensor):
        return [part] if part.requires_grad else []
    if not isinstance(part, tuple):
        return []
    return [tensor for item in part for tensor in tensors_with_graph(item)]
