"""Term of losses on the objectness of the RPN."""
from contextlib import contextmanager
from typing import Iterator, List, Optional

import torch
import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from ...head_adapters import HeadAdapter, Observation, RPNAdapter
from ..distillation_group import DistillationGroup
from ..training_step import TeacherOutput, TrainingStep
from .logit_term import distilled_loss
from .term import Term


class RPNTerm(Term):
    """Term that compares the objectness of the student's anchors.

    The teacher's RPN runs once more, on the recorded output of the teacher's
    neck.
    """

    needs_logits = False
    teacher_parts = ('neck', )

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        super().__init__(name, loss, student)
        self._observed: Optional[Observation] = None

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        remedy = 'choose two detectors with an RPN of mmdet'
        reason = RPNAdapter.reason_against(student.detector)
        if reason is not None:
            return f'cannot teach it an RPN: the student {reason}: {remedy}'
        reason = RPNAdapter.reason_against(teacher.detector)
        if reason is not None:
            return f'{reason}: {remedy}'
        return RPNAdapter(teacher.detector).reason_against_student(
            RPNAdapter(student.detector))

    @contextmanager
    def recording(self, student: HeadAdapter,
                  data_samples: SampleList) -> Iterator[None]:
        rpn = RPNAdapter(student.detector)
        with rpn.observe(data_samples) as self._observed:
            yield

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        groups = self._observed.groups
        with torch.no_grad():
            teacher_logits = RPNAdapter(
                teacher_output.adapter.detector).classify_anchors(
                    teacher_output.calls['neck'].output, groups)
        return sum(
            distilled_loss(self._loss,
                           DistillationGroup(group, logits, num_classes=1))
            for group, logits in zip(groups, teacher_logits))

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        return [group.logits for group in self._observed.groups]
