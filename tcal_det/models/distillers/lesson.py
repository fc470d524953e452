"""Samples of a student together with the logits of a teacher."""
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence

import torch
from torch import Tensor

from ..head_adapters import ClassificationSamples
from ..mixture import mixed_logits


@dataclass
class Lesson:
    """Student samples and teacher logits of one group, ready for a loss.

    The logits of both have the columns of the shared classes, for the
    student's activation.

    Shapes: S samples; C columns of logits.

    Attributes:
        samples (ClassificationSamples): Samples of the student.
        logits (Tensor): Calibrated logits of the teacher for these samples,
            without gradient, shape (S, C).
        num_classes (int): Number of shared classes, without background.
        group (int): Position of the group among the observed groups.
            Defaults to 0.
        index (Tensor, optional): Positions of the samples in their group,
            int64, ascending, shape (S,). Defaults to None, all samples of
            the group.
    """
    samples: ClassificationSamples
    logits: Tensor
    num_classes: int
    group: int = 0
    index: Optional[Tensor] = None

    @property
    def positions(self) -> Tensor:
        """Positions of the samples in their group, also if all are used."""
        if self.index is not None:
            return self.index
        return torch.arange(len(self.logits), device=self.logits.device)


class Lecturer:
    """Base class of teachers, whose lessons can be recorded."""

    def __init__(self) -> None:
        self._listeners: List[List[Lesson]] = []

    @contextmanager
    def heard(self) -> Iterator[List[Lesson]]:
        """Record the lessons of all training steps inside the context.

        Returns:
            ContextManager[list[Lesson]]: Context of the list to which each
            step appends its lessons.
        """
        lessons: List[Lesson] = []
        self._listeners.append(lessons)
        try:
            yield lessons
        finally:
            # Compared by identity, because all empty lists are equal.
            self._listeners = [
                one for one in self._listeners if one is not lessons
            ]

    def _say(self, lessons: Sequence[Lesson]) -> None:
        for heard in self._listeners:
            heard.extend(lessons)


def mixed_lesson(lessons: Sequence[Lesson], weights: Sequence[float],
                 activation: str) -> Lesson:
    """Mix the lessons of several teachers on one group of samples.

    Args:
        lessons (sequence[Lesson]): One lesson of each teacher.
        weights (sequence[float]): Weight of each teacher, > 0.
        activation (str): Activation of the student, 'softmax' or 'sigmoid'.

    Returns:
        Lesson: Lesson on all samples for which at least one teacher has
        logits. Its probabilities are the weighted mean over the teachers that
        have logits for the sample.
    """
    first = lessons[0]
    answers = [lesson.logits for lesson in lessons]
    shares = [
        one.new_full((len(one), ), weight, dtype=torch.float32)
        for one, weight in zip(answers, weights)
    ]
    samples, index = first.samples, None
    if any(lesson.index is not None for lesson in lessons):
        index, row = torch.unique(
            torch.cat([lesson.positions for lesson in lessons]),
            return_inverse=True)
        rows = row.split([len(one) for one in answers])
        # Samples without logits of a teacher have weight 0 for this teacher.
        answers = [
            one.new_zeros(len(index), one.shape[1]).index_copy(0, at, one)
            for at, one in zip(rows, answers)
        ]
        shares = [
            one.new_zeros(len(index)).index_copy(0, at, one)
            for at, one in zip(rows, shares)
        ]
        # A sample that occurs in several lessons is equal in all of them, so
        # the first is taken.
        chosen = row.new_empty(len(index)).index_copy(
            0, row.flip(0),
            torch.arange(len(row), device=row.device).flip(0))
        samples = _joined([lesson.samples
                           for lesson in lessons]).subset(chosen)
    with torch.no_grad():
        logits = mixed_logits(answers, torch.stack(shares), activation)
    return replace(first, samples=samples, logits=logits, index=index)


def _joined(parts: Sequence[ClassificationSamples]) -> ClassificationSamples:
    """Concatenate the samples of several lessons."""
    # Subsets of one group have the same divisor.
    divisors = [part.avg_factor for part in parts]
    divisor = next((one for one in divisors if one is not None), None)

    def joined(name):
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    names = ('logits', 'image_index', 'labels', 'quality', 'weight')
    return replace(
        parts[0], avg_factor=divisor, **{name: joined(name)
                                         for name in names})
