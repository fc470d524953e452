"""Term of losses on boxes that both regress from the same samples."""
from typing import Any, List, Optional

import torch
import torch.nn as nn
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ...losses.sample_weight import object_probability, sample_weight
from ..lesson import Lesson
from ..sample_transport import SameSamples
from ..training_step import Taught, TrainingStep
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

    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        self.check_same_samples(step, taught)
        lessons = taught.lessons
        groups = [step.observation.groups[lesson.group] for lesson in lessons]
        labels = [
            taught.teacher.classes.labels_of_both(self._classes_of(lesson))
            for lesson in lessons
        ]
        student = step.student.regress(step.calls, groups,
                                       [own for own, _ in labels])
        with torch.no_grad():
            teacher = taught.adapter.regress(taught.calls, groups,
                                             [other for _, other in labels])
        return sum(
            self._of_group(step, taught, *parts)
            for parts in zip(lessons, student, teacher))

    def _classes_of(self, lesson: Lesson) -> Tensor:
        """Choose the shared class whose box is compared for each sample."""
        best = lesson.logits[:, :lesson.num_classes].argmax(dim=1)
        labels = lesson.samples.labels
        if labels is None:
            if self._loss.samples == 'foreground' and len(best):
                raise InvalidValueError(
                    f'`distill_losses.{self.name}.samples` must be \'all\', '
                    'as the loss of the student assigns no class to its '
                    "samples, but got 'foreground'")
            return best
        is_object = (labels >= 0) & (labels < lesson.num_classes)
        return labels.where(is_object, best)

    def _of_group(self, step: TrainingStep, taught: Taught, lesson: Lesson,
                  student: Tensor, teacher: Tensor) -> Tensor:
        check_same_priors(step.student, taught.adapter, student, teacher)
        samples = lesson.samples
        weight = sample_weight(samples.labels, lesson.num_classes,
                               samples.weight, self._loss.samples)
        score = object_probability(lesson.logits, lesson.num_classes,
                                   step.student.activation)
        weight = score if weight is None else weight * score
        divisor = samples.avg_factor
        if divisor is None:
            divisor = float(max(len(weight), 1))
        # Boxes of weight 0 are left out: they may be so far outside the image
        # that their gradient is NaN.
        index = weight.nonzero(as_tuple=True)[0]
        return samples.group_weight * self._loss(
            without_graph_if_off(self._loss, student[index]), teacher[index],
            weight[index], divisor)

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
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
    return [tensor for one in part for tensor in tensors_with_graph(one)]
