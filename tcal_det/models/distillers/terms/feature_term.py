"""Term of losses on feature maps."""
from typing import List, Optional

from torch import Tensor

from tcal_det.errors import UserError
from ...head_adapters import HeadAdapter
from ...losses import FeatureLoss
from ..training_step import TeacherOutput, TrainingStep
from .feature_maps import matched_maps, scene_of
from .term import Term, without_graph_if_off


class FeatureTerm(Term):
    """Term that compares the feature maps of both, level by level."""

    needs_logits = False

    def __init__(self, name: str, loss: FeatureLoss,
                 student: HeadAdapter) -> None:
        super().__init__(name, loss, student)
        self.student_parts = self.teacher_parts = (loss.features, )
        if loss.needs_scores:
            # Recorded, so that the teacher's dense head need not run again.
            self.teacher_parts += ('dense_head', )

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        if not self._loss.needs_scores:
            return None
        reason = teacher.reason_against_scoring()
        return reason and f'{reason}: choose PKDLoss, or another teacher'

    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        matched = matched_maps(step, teacher_output, self._loss.features)
        scene = scene_of(self._loss, step, teacher_output, matched)
        try:
            return self._loss([
                without_graph_if_off(self._loss, level)
                for level in matched.student
            ], matched.teacher, scene)
        except UserError as error:
            # The message of the loss cannot name the detectors.
            raise type(error)(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                f'cannot compare the {self._loss.features} of the student '
                f'{step.student.name} and of the teacher '
                f'{teacher_output.adapter.name}: {error}') from None

    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        return list(step.calls[self._loss.features].output)
