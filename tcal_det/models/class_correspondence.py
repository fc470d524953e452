"""Distillation between a teacher and a student with different classes.

The two models are compared on the classes that they share. For softmax heads,
background and all classes of only one model are merged into one class 'rest'
on both sides. The teacher has no information about how the student should
divide the probability of 'rest' among its own classes; only the labels
determine that. For sigmoid heads the columns of the other classes are left
out, as the columns do not depend on each other.

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
    """Meaning of the columns of a detector's logits.

    Attributes:
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.
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
    """Class that student and teacher share.

    Attributes:
        student (int): Label of the class in the student.
        teacher (tuple[int, ...]): Labels of the class in the teacher; several
            if the teacher divides it further.
    """
    student: int
    teacher: Tuple[int, ...]


class ClassCorrespondence:
    """Conversion of both models' logits to shared classes and one activation.

    Args:
        student (LogitColumns): Columns of the student's logits.
        teacher (LogitColumns): Columns of the teacher's logits.
        shared (Sequence[SharedClass], optional): Shared classes, in the
            order of the student's labels. Defaults to None: all classes,
            each with the same label on both sides.

    Attributes:
        num_classes (int): Number of shared classes M.
        student_labels (list[int]): Labels of the shared classes in the
            student, ascending.
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
        self.student_labels = [shared_class.student for shared_class in shared]
        self._teacher_labels = [
            shared_class.teacher for shared_class in shared
        ]
        covers_student = self.student_labels == list(
            range(student.num_classes))
        is_one_to_one = all(
            len(labels) == 1 for labels in self._teacher_labels)
        is_onto = covers_student and is_one_to_one and (len(shared)
                                                        == teacher.num_classes)
        # Only some sigmoid heads have a background column.
        self._keeps_background = (
            is_onto and student.has_background and teacher.has_background)
        kept = student.num_classes + (
            student.activation == 'softmax' or self._keeps_background)
        self._keeps_student = covers_student and kept == student.cls_channels
        self._keeps_teacher = (
            is_onto and student.activation == teacher.activation
            and student.cls_channels == teacher.cls_channels
            and [labels[0]
                 for labels in self._teacher_labels] == self.student_labels)

    @property
    def is_identity(self) -> bool:
        """Whether the logits of both models stay unchanged."""
        return self._keeps_student and self._keeps_teacher

    def labels_of_both(self, shared: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the student's and the teacher's labels of shared classes.

        Args:
            shared (Tensor): Positions among the shared classes, int64, shape
                (S,).

        Returns:
            tuple[Tensor, Tensor]: Labels in the student and labels in the
            teacher, shape (S,) each. If several labels of the teacher mean
            one class, the first of them.
        """
        first = [labels[0] for labels in self._teacher_labels]
        return (shared.new_tensor(self.student_labels)[shared],
                shared.new_tensor(first)[shared])

    def of_student(self,
                   samples: ClassificationSamples) -> ClassificationSamples:
        """Convert the student's samples to the shared classes.

        Args:
            samples (ClassificationSamples): Samples with the C columns of
                the student.

        Returns:
            ClassificationSamples: Samples with M + 1 columns, 'rest' last,
            for softmax, and M columns for sigmoid. A label of a class that is
            not shared becomes M. The input itself if all classes of the
            student are shared.
        """
        if self._keeps_student:
            return samples
        logits = self._merged(samples.logits, self._student,
                              [(label, ) for label in self.student_labels])
        labels, quality = samples.labels, samples.quality
        if labels is not None:
            labels = self._shared_labels(labels)
            if quality is not None:
                quality = quality * (labels < self.num_classes)
        return replace(samples, logits=logits, labels=labels, quality=quality)

    def of_teacher(self, logits: Tensor) -> Tensor:
        """Convert the teacher's logits to the columns of :meth:`of_student`.

        Args:
            logits (Tensor): Calibrated logits of the teacher, shape (S, C).

        Returns:
            Tensor: Logits for the student's activation, shape (S, M + 1) or
            (S, M) as in :meth:`of_student`; the input itself if it needs no
            change.
        """
        if self._keeps_teacher:
            return logits
        logits = self._merged(logits, self._teacher, self._teacher_labels)
        student_activation, teacher_activation = (self._student.activation,
                                                  self._teacher.activation)
        if student_activation == 'sigmoid' and teacher_activation == 'softmax':
            logits = one_vs_rest_logits(logits)
            # The last column is 'rest': more than the background.
            kept = self.num_classes + self._keeps_background
            return logits[:, :kept]
        if student_activation == 'softmax' and teacher_activation == 'sigmoid':
            return with_background(logits[:, :self.num_classes])
        return logits

    def _merged(self, logits: Tensor, columns: LogitColumns,
                labels_of_classes: Sequence[Tuple[int, ...]]) -> Tensor:
        """Merge the columns into shared classes and, if any, 'rest'."""
        is_softmax = columns.activation == 'softmax'
        groups = list(labels_of_classes)
        if is_softmax:
            used = {label for labels in groups for label in labels}
            groups.append(
                tuple(
                    column for column in range(columns.cls_channels)
                    if column not in used))
        elif self._keeps_background:
            groups.append((columns.num_classes, ))
        if all(len(group) == 1 for group in groups):
            # A permutation only: the values stay exact.
            return logits[:, [group[0] for group in groups]]
        logits = at_least_float32(logits)
        merged = logits[:, [group[0] for group in groups]]
        for column, group in enumerate(groups):
            if len(group) > 1:
                group_logits = logits[:, list(group)]
                merged[:, column] = (
                    group_logits.logsumexp(
                        dim=1) if is_softmax else group_logits.amax(dim=1))
        return merged

    def _shared_labels(self, labels: Tensor) -> Tensor:
        table = labels.new_full((self._student.num_classes + 1, ),
                                self.num_classes)
        table[self.student_labels] = torch.arange(
            self.num_classes, device=labels.device)
        is_known = (labels >= 0) & (labels < self._student.num_classes)
        return table[labels.where(
            is_known, labels.new_full((), self._student.num_classes))]

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(student={self._student}, '
                f'teacher={self._teacher}, num_classes={self.num_classes})')
