"""Several teachers of one student, used separately or as a mixture."""
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import torch.nn as nn
from mmdet.structures import SampleList
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.errors import InvalidValueError, UserError
from ..head_adapters import Observation, adapter_for
from .distillation_group import (BaseTeacher, DistillationGroup,
                                 mix_distill_groups)
from .frozen_teacher import FrozenTeacher, PreparedBatch
from .mixture_weights import NLL, Weights, check_weights, weights_by_likelihood
from .training_step import TeacherOutput


class TeacherEnsemble(BaseTeacher):
    """Teachers by name; a loss uses one of them, or their mixture.

    The mixture is the weighted mean of the calibrated probabilities. For each
    sample, the mean is taken over the teachers that have logits for it. A
    teacher is not built if no loss names it and its weight is 0.

    Args:
        teachers (dict[str, FrozenTeacher]): Teachers by name.
        loss_teachers (sequence[str]): Name of the teacher that each loss
            uses; None for the mixture.
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
                 loss_teachers: Sequence[Optional[str]],
                 weights: Weights = None) -> None:
        super().__init__()
        unknown = sorted(set(loss_teachers) - {None} - set(teachers))
        if unknown:
            raise InvalidValueError(
                'the key `teacher` of a loss in `distill_losses` must be one '
                f'of {sorted(teachers)}, but got {unknown}')
        self.teachers = teachers
        self._weights = check_weights(weights, teachers)
        self._loss_teachers = list(dict.fromkeys(loss_teachers))
        self._activation = ''

    @property
    def needs_logits(self) -> bool:
        """Whether a loss uses the logits of at least one teacher."""
        return any(teacher.needs_logits
                   for teacher in self.used_teachers.values())

    @property
    def is_built(self) -> bool:
        # A copy of the ensemble has teachers that are not built.
        return bool(self._activation) and all(
            teacher.is_built for teacher in self.used_teachers.values())

    @property
    def _mixed(self) -> List[str]:
        """Names of the teachers in the mixture."""
        if None not in self._loss_teachers:
            return []
        if self._weights == NLL:
            # The weights are computed in `build`; all of them are > 0.
            return list(self.teachers)
        return [name for name in self.teachers if self._weights[name] > 0]

    @property
    def used_teachers(self) -> Dict[str, FrozenTeacher]:
        """Teachers that a loss names or that are mixed, by name."""
        return {
            name: teacher
            for name, teacher in self.teachers.items()
            if name in self._loss_teachers or name in self._mixed
        }

    def set_outputs(self, name: str, needs_logits: bool,
                    parts: Sequence[str]) -> None:
        """Set which outputs of a teacher the losses that name it use.

        Args:
            name (str): Name of the teacher.
            needs_logits (bool): Whether these losses use logits, as in
                ``FrozenTeacher.set_outputs``. Teachers of the mixture always
                compute logits.
            parts (sequence[str]): Names of the modules whose calls are
                recorded, as in ``FrozenTeacher.set_outputs``.
        """
        self.teachers[name].set_outputs(needs_logits or name in self._mixed,
                                        parts)

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
        for name in self.used_teachers:
            with named_in_errors(name):
                self.teachers[name].build(student)
        self._activation = adapter_for(student, 'student').activation
        if self._mixed:
            shares = ', '.join(f'{name} {self._weights[name]:.4g}'
                               for name in self._mixed)
            print_log(f'Mixture of teachers: {shares}', 'current')

    def prepare_batch(self, images: Tensor,
                      data_samples: SampleList) -> Dict[str, PreparedBatch]:
        """Process a batch with all teachers, as ``FrozenTeacher`` does.

        Args:
            images (Tensor): Images in the student's normalisation, shape
                (N, 3, H, W).
            data_samples (list[DetDataSample]): Data samples of these images.

        Returns:
            dict[str, PreparedBatch]: Intermediate results by the teacher's
            name, for :meth:`compute_outputs`.
        """
        prepared = {}
        for name in self.used_teachers:
            with named_in_errors(name):
                prepared[name] = self.teachers[name].prepare_batch(
                    images, data_samples)
        return prepared

    def compute_outputs(
            self, prepared: Dict[str, PreparedBatch],
            observation: Observation) -> Dict[Optional[str], TeacherOutput]:
        """Compute the data of each named teacher, and of the mixture.

        Args:
            prepared (dict[str, PreparedBatch]): Return value of
                :meth:`prepare_batch` for this batch.
            observation (Observation): Samples that the student classified.

        Returns:
            dict[str, TeacherOutput]: Data of the teachers by name; the key
            None is that of the mixture.

        Raises:
            InvalidValueError: If the teachers of the mixture share different
                classes or samples with the student.
        """
        outputs: Dict[Optional[str], TeacherOutput] = {}
        for name in self.used_teachers:
            with named_in_errors(name):
                outputs[name], = self.teachers[name].compute_outputs(
                    prepared.pop(name), observation).values()
        if self._mixed:
            mixture = self._mixture(
                {name: outputs[name].distill_groups
                 for name in self._mixed})
            self._record(mixture)
            outputs[None] = TeacherOutput(mixture)
        return {name: outputs[name] for name in self._loss_teachers}

    def _mixture(
        self, groups_of_teacher: Dict[str, List[DistillationGroup]]
    ) -> List[DistillationGroup]:
        first = self._mixed[0]
        if len(self._mixed) == 1:
            # Returned unchanged, so that no digit is rounded.
            return groups_of_teacher[first]
        for name in self._mixed[1:]:
            if not self.teachers[name].can_be_mixed_with(self.teachers[first]):
                raise InvalidValueError(
                    f'the teachers {first!r} and {name!r} must share the same '
                    'classes and samples with the student to be mixed, but '
                    'do not: name one of them in each of `distill_losses` '
                    f"(teacher={name!r})")
        weights = [self._weights[name] for name in self._mixed]
        return [
            mix_distill_groups(distill_groups, weights, self._activation)
            for distill_groups in zip(*groups_of_teacher.values())
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
