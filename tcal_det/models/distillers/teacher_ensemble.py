"""Several teachers of one student, apart or as their mixture."""
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import torch.nn as nn
from mmdet.structures import SampleList
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.errors import InvalidValueError, UserError
from ..head_adapters import Observation, adapter_for
from .frozen_teacher import FrozenTeacher, Look
from .lesson import Lecturer, Lesson, mixed_lesson
from .mixture_weights import NLL, Weights, check_weights, weights_by_likelihood
from .training_step import Taught


class TeacherEnsemble(Lecturer):
    """Teachers by name; a loss names one, or meets their mixture.

    The mixture is the weighted mean of their calibrated probabilities, for
    each sample over the teachers that answer for it. A teacher that no loss
    names and that weighs nothing is not built.

    Args:
        teachers (dict[str, FrozenTeacher]): Teachers by name.
        named (sequence[str | None]): What the losses name; None, the
            mixture.
        weights (dict[str, float] | str, optional): Weights of all teachers in
            the mixture, or 'nll': from the files that their calibrators are
            loaded from, see :func:`weights_by_likelihood`. Defaults to None,
            equal weights.

    Raises:
        InvalidTypeError, InvalidValueError: If a loss names a teacher that
            does not exist, or the weights are none.
    """

    def __init__(self,
                 teachers: Dict[str, FrozenTeacher],
                 named: Sequence[Optional[str]],
                 weights: Weights = None) -> None:
        super().__init__()
        unknown = sorted(set(named) - {None} - set(teachers))
        if unknown:
            raise InvalidValueError(
                'the key `teacher` of a loss in `distill_losses` must be one '
                f'of {sorted(teachers)}, but got {unknown}')
        self.teachers = teachers
        self._weights = check_weights(weights, teachers)
        self._named = list(dict.fromkeys(named))
        self._activation = ''

    @property
    def answers(self) -> bool:
        """Whether a loss asks for the logits of one of them."""
        return any(teacher.answers for teacher in self.asked.values())

    @property
    def is_built(self) -> bool:
        # Of a copy no teacher is.
        return bool(self._activation) and all(
            teacher.is_built for teacher in self.asked.values())

    @property
    def _mixed(self) -> List[str]:
        """Names of the teachers that the mixture is made of."""
        if None not in self._named:
            return []
        if self._weights == NLL:
            # Known when the teachers are built; all of them are above 0.
            return list(self.teachers)
        return [name for name in self.teachers if self._weights[name] > 0]

    @property
    def asked(self) -> Dict[str, FrozenTeacher]:
        """The teachers that a loss names or that are mixed, by name."""
        return {
            name: teacher
            for name, teacher in self.teachers.items()
            if name in self._named or name in self._mixed
        }

    def serve(self, name: str, answers: bool, parts: Sequence[str]) -> None:
        """Say what the losses that name a teacher need of it.

        Args:
            name (str): Name of the teacher.
            answers (bool): As in ``FrozenTeacher.serve``; a teacher of the
                mixture answers in any case.
            parts (sequence[str]): As in ``FrozenTeacher.serve``.
        """
        self.teachers[name].serve(answers or name in self._mixed, parts)

    def build(self, student: nn.Module) -> None:
        """Build all teachers that are asked; see ``FrozenTeacher.build``.

        Args:
            student (nn.Module): The one that they teach.

        Raises:
            MissingFileError, InvalidTypeError, InvalidValueError: As there,
                with the teacher's name.
        """
        if self._weights == NLL:
            self._weights = weights_by_likelihood({
                name: teacher.calibrator_cfg
                for name, teacher in self.teachers.items()
            })
        for name in self.asked:
            with named_in_errors(name):
                self.teachers[name].build(student)
        self._activation = adapter_for(student, 'student').activation
        if self._mixed:
            shares = ', '.join(f'{name} {self._weights[name]:.4g}'
                               for name in self._mixed)
            print_log(f'Mixture of teachers: {shares}', 'current')

    def look(self, images: Tensor,
             data_samples: SampleList) -> Dict[str, Look]:
        """See a batch; see ``FrozenTeacher.look``.

        Args:
            images (Tensor): In the student's normalisation, (N, 3, H, W).
            data_samples (list[DetDataSample]): Samples of these images.

        Returns:
            dict[str, Look]: What :meth:`taught` takes.
        """
        seen = {}
        for name in self.asked:
            with named_in_errors(name):
                seen[name] = self.teachers[name].look(images, data_samples)
        return seen

    def taught(self, looks: Dict[str, Look],
               observation: Observation) -> Dict[Optional[str], Taught]:
        """What each teacher that a loss names says, and the mixture.

        Args:
            looks (dict[str, Look]): What :meth:`look` returned of the batch.
            observation (Observation): What the student classified.

        Returns:
            dict[str | None, Taught]: By the teacher's name; None, of the
            mixture.

        Raises:
            InvalidValueError: If the teachers of the mixture share other
                classes with the student, or other samples.
        """
        taught: Dict[Optional[str], Taught] = {}
        for name in self.asked:
            with named_in_errors(name):
                taught[name], = self.teachers[name].taught(
                    looks.pop(name), observation).values()
        if self._mixed:
            mixture = self._mixture(
                {name: taught[name].lessons
                 for name in self._mixed})
            self._say(mixture)
            taught[None] = Taught(mixture)
        return {name: taught[name] for name in self._named}

    def _mixture(self, taught: Dict[str, List[Lesson]]) -> List[Lesson]:
        first = self._mixed[0]
        if len(self._mixed) == 1:
            # The digits of the teacher itself.
            return taught[first]
        for name in self._mixed[1:]:
            if not self.teachers[name].speaks_like(self.teachers[first]):
                raise InvalidValueError(
                    f'the teachers {first!r} and {name!r} must share the same '
                    'classes and samples with the student to be mixed, but '
                    'do not: name one of them in each of `distill_losses` '
                    f"(teacher={name!r})")
        weights = [self._weights[name] for name in self._mixed]
        return [
            mixed_lesson(lessons, weights, self._activation)
            for lessons in zip(*taught.values())
        ]

    def apply_to_tensors(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move with the student: what ``nn.Module._apply`` gave it."""
        for teacher in self.teachers.values():
            teacher.apply_to_tensors(fn)


@contextmanager
def named_in_errors(name: str) -> Iterator[None]:
    """Say which of the teachers a mistake is about.

    Args:
        name (str): Name of the teacher.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(f'teacher {name!r}: {error}') from None
