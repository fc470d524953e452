"""Term of losses on the objectness of the RPN."""
from contextlib import contextmanager
from typing import Iterator, List, Optional

import torch
import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from ...head_adapters import HeadAdapter, Observation, RPNAdapter
from ..lesson import Lesson
from ..training_step import Taught, TrainingStep
from .logit_term import distilled_loss
from .term import Term


class RPNTerm(Term):
    """Term that compares the objectness of the student's anchors.

    The teacher's RPN runs once more, on the recorded output of the teacher's
    neck.
    """

    needs_answers = False
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
    def watching(self, student: HeadAdapter,
                 data_samples: SampleList) -> Iterator[None]:
        rpn = RPNAdapter(student.detector)
        with rpn.observe(data_samples) as self._observed:
            yield

    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        groups = self._observed.groups
        with torch.no_grad():
            answers = RPNAdapter(taught.adapter.detector).answers_on(
                taught.calls['neck'].output, groups)
        return sum(
            distilled_loss(self._loss, Lesson(group, logits, num_classes=1))
            for group, logits in zip(groups, answers))

    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
        return [group.logits for group in self._observed.groups]
