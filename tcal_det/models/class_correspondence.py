"""A teacher that knows other classes than its student.

Both are compared on the classes that they share. For softmax heads all else,
background and the classes that only one of them knows, is one class 'rest' on
both sides: the divergence of these is the part of the full one about which
the teacher knows something, and how a student splits its rest stays with its
labels. For sigmoid heads the columns of other classes are left out: none
depends on another.

Shapes: S samples; M shared classes; C columns of logits.
"""
from dataclasses import replace
from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .activation_bridges import one_vs_rest_logits, with_background
from .head_adapters import ClassificationSamples
from .logits import at_least_float32


class LogitColumns(NamedTuple):
    """What the columns of a detector's logits are.

    Attributes:
        activation (str): 'softmax' or 'sigmoid'.
        num_classes (int): Number of classes K.
        cls_channels (int): Number of columns: K, or K + 1 with background
            last.
    """
    activation: str
    num_classes: int
    cls_channels: int

    @property
    def has_background(self) -> bool:
        return self.cls_channels > self.num_classes


class SharedClass(NamedTuple):
    """A class that both know.

    Attributes:
        student (int): Its label of the student.
        teacher (tuple[int, ...]): Labels of the teacher that mean it.
    """
    student: int
    teacher: Tuple[int, ...]


class ClassCorrespondence:
    """Brings the logits of both to shared classes and to one activation.

    Args:
        student (LogitColumns): Columns of the student.
        teacher (LogitColumns): Columns of the teacher.
        shared (sequence[SharedClass], optional): Shared classes, in the
            order of the student's labels. Defaults to None: all, each with
            the same label on both sides.

    Attributes:
        num_classes (int): Number of shared classes M.
        known (list[int]): Their labels of the student, ascending.
    """

    def __init__(self,
                 student: LogitColumns,
                 teacher: LogitColumns,
                 shared: Optional[Sequence[SharedClass]] = None) -> None:
        if shared is None:
            shared = [
                SharedClass(label, (label, ))
                for label in range(student.num_classes)
            ]
        self._student, self._teacher = student, teacher
        self.num_classes = len(shared)
        self.known = [one.student for one in shared]
        self._meanings = [one.teacher for one in shared]
        knows_all = self.known == list(range(student.num_classes))
        of_one = all(len(labels) == 1 for labels in self._meanings)
        is_onto = knows_all and of_one and (len(shared) == teacher.num_classes)
        # Of a sigmoid head, a column that only some have.
        self._keeps_background = (
            is_onto and student.has_background and teacher.has_background)
        kept = student.num_classes + (
            student.activation == 'softmax' or self._keeps_background)
        self._keeps_student = knows_all and kept == student.cls_channels
        self._keeps_teacher = (
            is_onto and student.activation == teacher.activation
            and student.cls_channels == teacher.cls_channels
            and [labels[0] for labels in self._meanings] == self.known)

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes on either side."""
        return self._keeps_student and self._keeps_teacher

    def labels_of_both(self, shared: Tensor) -> Tuple[Tensor, Tensor]:
        """What the two call shared classes.

        Args:
            shared (Tensor): Positions among the shared classes, int64, shape
                (S,).

        Returns:
            tuple[Tensor, Tensor]: Labels of the student and of the teacher,
            of which several may mean one class: the first. Shape (S,) each.
        """
        first = [labels[0] for labels in self._meanings]
        return (shared.new_tensor(self.known)[shared],
                shared.new_tensor(first)[shared])

    def of_student(self,
                   samples: ClassificationSamples) -> ClassificationSamples:
        """The student's samples, of the shared classes.

        Args:
            samples (ClassificationSamples): C columns of its own.

        Returns:
            ClassificationSamples: M + 1 columns with the rest last for
            softmax, else M. A label of a class that is not shared is M. The
            samples themselves where the student knows no other class.
        """
        if self._keeps_student:
            return samples
        logits = self._merged(samples.logits, self._student,
                              [(label, ) for label in self.known])
        labels, quality = samples.labels, samples.quality
        if labels is not None:
            labels = self._shared_labels(labels)
            if quality is not None:
                quality = quality * (labels < self.num_classes)
        return replace(samples, logits=logits, labels=labels, quality=quality)

    def of_teacher(self, logits: Tensor) -> Tensor:
        """The teacher's answers, of the shared classes, as the student's.

        Args:
            logits (Tensor): Calibrated, shape (S, C).

        Returns:
            Tensor: In the student's activation, shape (S, M + 1) or (S, M) as
            :meth:`of_student`; the logits themselves where nothing changes.
        """
        if self._keeps_teacher:
            return logits
        logits = self._merged(logits, self._teacher, self._meanings)
        to, own = self._student.activation, self._teacher.activation
        if to == 'sigmoid' and own == 'softmax':
            logits = one_vs_rest_logits(logits)
            # The last column is what was merged, not the background alone.
            kept = self.num_classes + self._keeps_background
            return logits[:, :kept]
        if to == 'softmax' and own == 'sigmoid':
            return with_background(logits[:, :self.num_classes])
        return logits

    def _merged(self, logits: Tensor, columns: LogitColumns,
                meanings: Sequence[Tuple[int, ...]]) -> Tensor:
        """Columns of the shared classes, and those of the rest."""
        is_softmax = columns.activation == 'softmax'
        groups = list(meanings)
        if is_softmax:
            used = {label for labels in groups for label in labels}
            groups.append(
                tuple(
                    column for column in range(columns.cls_channels)
                    if column not in used))
        elif self._keeps_background:
            groups.append((columns.num_classes, ))
        if all(len(group) == 1 for group in groups):
            # No arithmetic: the same digits in another order.
            return logits[:, [group[0] for group in groups]]
        logits = at_least_float32(logits)
        merged = logits[:, [group[0] for group in groups]]
        for column, group in enumerate(groups):
            if len(group) > 1:
                several = logits[:, list(group)]
                merged[:, column] = (
                    several.logsumexp(dim=1) if is_softmax else several.amax(
                        dim=1))
        return merged

    def _shared_labels(self, labels: Tensor) -> Tensor:
        table = labels.new_full((self._student.num_classes + 1, ),
                                self.num_classes)
        table[self.known] = torch.arange(
            self.num_classes, device=labels.device)
        is_known = (labels >= 0) & (labels < self._student.num_classes)
        return table[labels.where(
            is_known, labels.new_full((), self._student.num_classes))]

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(student={self._student}, '
                f'teacher={self._teacher}, num_classes={self.num_classes})')
