"""Term of losses on the distributions of box edges."""
from typing import List, Optional

import torch
from mmdet.utils import reduce_mean
from torch import Tensor

from ...head_adapters import HeadAdapter
from ...losses.sample_weight import object_probability
from ..training_step import TeacherOutput, TrainingStep
from .same_priors import check_same_priors
from .term import Term, without_graph_if_off


class LocalizationTerm(Term):
    """Term that compares edge distributions on the student's positive priors.

    The classes of the two may differ, because edge distributions do not
    depend on the class.
    """

    needs_logits = False
    student_parts = ('dense_head', )
    # The neck's output is needed if no loss has made the teacher's head run.
    teacher_parts = ('neck', 'dense_head')

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        student_reg_max, teacher_reg_max = student.reg_max, teacher.reg_max
        if student_reg_max is None:
            return ('cannot teach it distributions of box edges, as the '
                    'student predicts none (only a GFLHead does): choose '
                    'BoxDistillationLoss')
        if teacher_reg_max is None:
            return ('predicts no distributions of box edges, as only a '
                    'GFLHead does: choose a teacher with one, or '
                    'BoxDistillationLoss')
        if student_reg_max != teacher_reg_max:
            return ('must have the `reg_max` of its student, but has '
                    f'{teacher_reg_max} and the student {student_reg_max}: '
                    'change `bbox_head.reg_max`, or choose '
                    'BoxDistillationLoss')
        return teacher.reason_against_student(student)

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        student = step.student.edge_distributions(step.observation.features,
                                                  step.calls['dense_head'])
        with torch.no_grad():
            teacher = teacher_output.adapter.edge_distributions(
                teacher_output.calls['neck'].output,
                teacher_output.calls.get('dense_head'))
        student_edges, teacher_edges, weights = [], [], []
        for group in step.observation.groups:
            check_same_priors(step.student, teacher_output.adapter,
                              student[group.stage], teacher[group.stage])
            labels = group.labels
            index = ((labels >= 0) &
                     (labels < step.student.num_classes)).nonzero(
                         as_tuple=True)[0]
            student_edges.append(student[group.stage][index])
            teacher_edges.append(teacher[group.stage][index])
            weights.append(
                object_probability(group.logits[index],
                                   step.student.num_classes,
                                   step.student.activation))
        weight = torch.cat(weights)
        # All ranks must take part in this sum, also those without positives.
        divisor = reduce_mean(weight.sum()).clamp(min=1)
        return self._loss(
            without_graph_if_off(self._loss, torch.cat(student_edges)),
            torch.cat(teacher_edges), weight, divisor)

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        return list(step.calls['dense_head'].output[1])
