"""Base class of the terms, which connect losses with detectors.

A loss compares tensors and does not depend on detectors. Its term reads these
tensors from the training step.
"""
from abc import ABCMeta, abstractmethod
from contextlib import contextmanager
from typing import Iterator, List, Optional, Tuple

import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ..training_step import TeacherOutput, TrainingStep


class Term(metaclass=ABCMeta):
    """A loss of ``distill_losses`` together with the rule for its inputs.

    Args:
        name (str): Key of the loss in ``distill_losses``.
        loss (nn.Module): The loss.
        student (HeadAdapter): Adapter of the student.

    Attributes:
        student_parts (tuple[str]): Names of those of ``HeadAdapter.parts`` of
            the student whose calls are recorded.
        teacher_parts (tuple[str]): The same names for the teacher.
        needs_logits (bool): Whether the loss uses teacher logits for the
            student's samples; otherwise only the teacher's ``extract_feat``
            runs.
        takes_mixture (bool): Whether the loss can use the mixture of several
            teachers, if it names none of them.
        needs_image_gradient (bool): Whether the loss uses the gradient of the
            student's own losses with respect to the images.

    Raises:
        InvalidValueError: If the loss is not made for this student.
    """

    student_parts: Tuple[str, ...] = ()
    teacher_parts: Tuple[str, ...] = ()
    needs_logits = True
    takes_mixture = False
    needs_image_gradient = False

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        self.name = name
        self._loss = loss

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        """Explain why the loss cannot be computed with a teacher.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.

        Returns:
            str, optional: Text with the remedy that follows 'the teacher X of
            the student Y ...' in a message; None if it can be computed.
        """
        return None

    def check_teacher(self, student: HeadAdapter,
                      teacher: HeadAdapter) -> None:
        """Refuse a teacher with which the loss cannot be computed.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.

        Raises:
            InvalidValueError: If the loss cannot be computed.
        """
        reason = self.reason_against_teacher(student, teacher)
        if reason is not None:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                f'cannot be computed: the teacher {teacher.name} of the '
                f'student {student.name} {reason}')

    def check_same_samples(self, step: TrainingStep,
                           teacher_output: TeacherOutput) -> None:
        """Refuse teacher logits for other samples than the student's.

        Args:
            step (TrainingStep): Data of the student in this step.
            teacher_output (TeacherOutput): Data of the teacher in this step.

        Raises:
            InvalidValueError: If the transport or the sampling of the teacher
                uses other samples.
        """
        if not teacher_output.teacher.has_same_samples:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                'must be given logits of the teacher '
                f'{teacher_output.adapter.name} for the samples of the '
                f'student {step.student.name}, but its transport is '
                f'{teacher_output.teacher.transport.name!r}: leave '
                '`teacher.transport` and `teacher.sampling` out')

    @contextmanager
    def recording(self, student: HeadAdapter,
                  data_samples: SampleList) -> Iterator[None]:
        """Record further data of the student's own loss, beside ``parts``.

        Args:
            student (HeadAdapter): Adapter of the student.
            data_samples (list[DetDataSample]): Data samples of the images.
        """
        yield

    @abstractmethod
    def value(self, step: TrainingStep,
              teacher_output: TeacherOutput) -> Tensor:
        """Compute the loss of a step.

        Args:
            step (TrainingStep): Data of the student in this step.
            teacher_output (TeacherOutput): Data of the teacher in this step.

        Returns:
            Tensor: Loss, a scalar.
        """

    @abstractmethod
    def acts_on(self, step: TrainingStep,
                teacher_output: TeacherOutput) -> List[Tensor]:
        """Collect the student's tensors that get a gradient from the loss.

        Args:
            step (TrainingStep): Data of the student in this step.
            teacher_output (TeacherOutput): Data of the teacher in this step.

        Returns:
            list[Tensor]: Tensors with their graph, e.g. logits or maps.
        """


def check_activation(name: str, loss: nn.Module, student: HeadAdapter) -> None:
    """Refuse a loss that is made for another kind of head.

    Args:
        name (str): Key of the loss in ``distill_losses``.
        loss (nn.Module): The loss; without ``head_activation`` it is made for
            all heads.
        student (HeadAdapter): Adapter of the student.

    Raises:
        InvalidValueError: If the activations differ.
    """
    made_for = getattr(loss, 'head_activation', None)
    if made_for not in (None, student.activation):
        raise InvalidValueError(
            f'`distill_losses.{name}` {type(loss).__name__} is '
            f'made for {made_for} heads, but the student '
            f'{student.name} classifies with '
            f'{student.activation}: choose a loss for '
            f'{student.activation} heads, see docs/reference/methods.md, '
            '"Which heads"')


def without_graph_if_off(loss: nn.Module, tensor: Tensor) -> Tensor:
    """Detach a tensor of the student if the weight of the loss is 0.

    A gradient of zeros may have another memory layout than the student's own
    gradient. Their sum could then be rounded in another order, so that the
    training would not be exactly that of the plain student.

    Args:
        loss (nn.Module): Loss of ``distill_losses``.
        tensor (Tensor): Tensor of the student, an input of the loss.
    """
    is_off = getattr(loss, 'loss_weight', 1) == 0
    return tensor.detach() if is_off else tensor
