"""Several teachers of one student, used separately or as a mixture."""
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
    """Teachers by name; a loss uses one of them, or their mixture.

    The mixture is the weighted mean of the calibrated probabilities. For each
    sample, the mean is taken over the teachers that have logits for it. A
    teacher is not built if no loss names it and its weight is 0.

    Args:
        teachers (dict[str, FrozenTeacher]): Teachers by name.
        named (sequence[str]): Name of the teacher that each loss uses; None
            for the mixture.
        weights (dict[str, float] | str, optional): Weights of all teachers in
            the mixture by name, or 'nll' for weights from the files of their
            calibrators, see :func:`weights_by_likelihood`. Defaults to None,
            equal weights.

    Raises:
        InvalidTypeError: If the weights have a wrong type.
        InvalidValueError: If a loss names a teacher that does not exist, or
            the weights do not fit the teachers.
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
        """Whether a loss uses the logits of at least one teacher."""
        return any(teacher.answers for teacher in self.asked.values())

    @property
    def is_built(self) -> bool:
        # A copy of the ensemble has teachers that are not built.
        return bool(self._activation) and all(
            teacher.is_built for teacher in self.asked.values())

    @property
    def _mixed(self) -> List[str]:
        """Names of the teachers in the mixture."""
        if None not in self._named:
            return []
        if self._weights == NLL:
            # The weights are computed in `build`; all of them are > 0.
            return list(self.teachers)
        return [name for name in self.teachers if self._weights[name] > 0]

    @property
    def asked(self) -> Dict[str, FrozenTeacher]:
        """Teachers that a loss names or that are mixed, by name."""
        return {
            name: teacher
            for name, teacher in self.teachers.items()
            if name in self._named or name in self._mixed
        }

    def serve(self, name: str, answers: bool, parts: Sequence[str]) -> None:
        """Set which outputs of a teacher the losses that name it use.

        Args:
            name (str): Name of the teacher.
            answers (bool): Whether these losses use logits, as in
                ``FrozenTeacher.serve``. Teachers of the mixture always
                compute logits.
            parts (sequence[str]): Names of the modules whose calls are
                recorded, as in ``FrozenTeacher.serve``.
        """
        self.teachers[name].serve(answers or name in self._mixed, parts)

    def build(self, student: nn.Module) -> None:
        """Build all teachers that are used; see ``FrozenTeacher.build``.

        Args:
            student (nn.Module): Student detector of the teachers.

        Raises:
            MissingFileError: If a config, a checkpoint or, for the weights
                'nll', a file of a calibrator does not exist.
            InvalidTypeError: If the head of a teacher cannot be read.
            InvalidValueError: If a teacher cannot teach this student, or its
                files cannot be used. The message names the teacher.
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
        """Process a batch with all teachers; see ``FrozenTeacher.look``.

        Args:
            images (Tensor): Images in the student's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            dict[str, Look]: Intermediate results by the teacher's name, for
            :meth:`taught`.
        """
        seen = {}
        for name in self.asked:
            with named_in_errors(name):
                seen[name] = self.teachers[name].look(images, data_samples)
        return seen

    def taught(self, looks: Dict[str, Look],
               observation: Observation) -> Dict[Optional[str], Taught]:
        """Compute the data of each named teacher, and of the mixture.

        Args:
            looks (dict[str, Look]): Return value of :meth:`look` for this
                batch.
            observation (Observation): Samples that the student classified.

        Returns:
            dict[str, Taught]: Data of the teachers by name; the key None is
            that of the mixture.

        Raises:
            InvalidValueError: If the teachers of the mixture share different
                classes or samples with the student.
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
            # Returned unchanged, so that no digit is rounded.
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
        """Apply a function of ``nn.Module._apply`` to all teachers.

        Args:
            fn (callable): Function that converts a tensor.
        """
        for teacher in self.teachers.values():
            teacher.apply_to_tensors(fn)


@contextmanager
def named_in_errors(name: str) -> Iterator[None]:
    """Put the name of a teacher before the messages of user errors.

    Args:
        name (str): Name of the teacher.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(f'teacher {name!r}: {error}') from None
