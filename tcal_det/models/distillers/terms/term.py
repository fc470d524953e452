"""What a loss compares of student and teacher.

A loss sees tensors and knows no detector. Its term reads them from the
training step.
"""
from abc import ABCMeta, abstractmethod
from contextlib import contextmanager
from typing import Iterator, List, Optional, Tuple

import torch.nn as nn
from mmdet.structures import SampleList
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ...head_adapters import HeadAdapter
from ..training_step import Taught, TrainingStep


class Term(metaclass=ABCMeta):
    """A loss of ``distill_losses``, and what it compares.

    Args:
        name (str): Its key there.
        loss (nn.Module): The loss.
        student (HeadAdapter): Adapter of the student.

    Attributes:
        student_parts (tuple[str]): Those of ``HeadAdapter.parts`` of the
            student whose runs are recorded.
        teacher_parts (tuple[str]): Those of the teacher.
        needs_answers (bool): Whether the teacher answers for the student's
            samples; else its ``extract_feat`` is all that runs.
        takes_mixture (bool): Whether it meets the mixture of several
            teachers, if it names none.
        needs_image_gradient (bool): Whether the student's own losses are to
            have a gradient at the images.

    Raises:
        InvalidValueError: If the loss is not made for this student.
    """

    student_parts: Tuple[str, ...] = ()
    teacher_parts: Tuple[str, ...] = ()
    needs_answers = True
    takes_mixture = False
    needs_image_gradient = False

    def __init__(self, name: str, loss: nn.Module,
                 student: HeadAdapter) -> None:
        self.name = name
        self._loss = loss

    def reason_against_teacher(self, student: HeadAdapter,
                               teacher: HeadAdapter) -> Optional[str]:
        """Why a teacher has nothing to compare; None if it has.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.

        Returns:
            str, optional: What follows 'the teacher X of the student Y ...',
            with the remedy.
        """
        return None

    def check_teacher(self, student: HeadAdapter,
                      teacher: HeadAdapter) -> None:
        """Refuse a teacher that has nothing to compare.

        Args:
            student (HeadAdapter): Adapter of the student.
            teacher (HeadAdapter): Adapter of the teacher.

        Raises:
            InvalidValueError: If there is a reason against it.
        """
        reason = self.reason_against_teacher(student, teacher)
        if reason is not None:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                f'cannot be computed: the teacher {teacher.name} of the '
                f'student {student.name} {reason}')

    def check_same_samples(self, step: TrainingStep, taught: Taught) -> None:
        """Refuse answers of a teacher for other samples than the student's.

        Args:
            step (TrainingStep): What the student did.
            taught (Taught): What its teacher said.

        Raises:
            InvalidValueError: If its transport or its sampling brings others.
        """
        if not taught.teacher.has_same_samples:
            raise InvalidValueError(
                f'`distill_losses.{self.name}` {type(self._loss).__name__} '
                f'must be given what the teacher {taught.adapter.name} says '
                f'of the very samples of the student {step.student.name}, but '
                f'its transport is {taught.teacher.transport.name!r}: leave '
                '`teacher.transport` and `teacher.sampling` out')

    @contextmanager
    def watching(self, student: HeadAdapter,
                 data_samples: SampleList) -> Iterator[None]:
        """Listen to the student's own loss, beside ``parts``.

        Args:
            student (HeadAdapter): Adapter of the student.
            data_samples (list[DetDataSample]): Samples of the images.
        """
        yield

    @abstractmethod
    def value(self, step: TrainingStep, taught: Taught) -> Tensor:
        """The loss of a step.

        Args:
            step (TrainingStep): What the student did.
            taught (Taught): What its teacher said.

        Returns:
            Tensor: A scalar.
        """

    @abstractmethod
    def acts_on(self, step: TrainingStep, taught: Taught) -> List[Tensor]:
        """What of the student the loss pulls at.

        Args:
            step (TrainingStep): What the student did.
            taught (Taught): What its teacher said.

        Returns:
            list[Tensor]: With their graph.
        """


def check_activation(name: str, loss: nn.Module, student: HeadAdapter) -> None:
    """Refuse a loss that is made for another kind of head.

    Args:
        name (str): Its key in ``distill_losses``.
        loss (nn.Module): The loss; one without ``head_activation`` is for all.
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
            f'{student.activation} heads, see docs/methods.md, '
            '"Which heads"')


def without_graph_if_off(loss: nn.Module, tensor: Tensor) -> Tensor:
    """A tensor of the student; without its graph if the loss weighs 0.

    A gradient of zeros may have another layout in memory than the student's
    own: their sum would be rounded in another order.

    Args:
        loss (nn.Module): One of ``distill_losses``.
        tensor (Tensor): What it is given of the student.
    """
    is_off = getattr(loss, 'loss_weight', 1) == 0
    return tensor.detach() if is_off else tensor
