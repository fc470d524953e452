"""What a teacher says of samples of its student."""
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence

import torch
from torch import Tensor

from ..head_adapters import ClassificationSamples
from ..mixture import mixed_logits


@dataclass
class Lesson:
    """Samples of the student and the teacher's answer, ready for a loss.

    Both have the columns of the shared classes, in the student's activation.

    Attributes:
        samples (ClassificationSamples): S samples of the student.
        logits (Tensor): Calibrated, without gradient, shape (S, C).
        num_classes (int): Number of shared classes, without background.
        group (int): Position of the group of samples among those observed.
            Defaults to 0.
        index (Tensor, optional): Positions of the samples in their group,
            int64, ascending, shape (S,). Defaults to None: all of them.
    """
    samples: ClassificationSamples
    logits: Tensor
    num_classes: int
    group: int = 0
    index: Optional[Tensor] = None

    @property
    def positions(self) -> Tensor:
        """``index``, also where it is that of all samples."""
        if self.index is not None:
            return self.index
        return torch.arange(len(self.logits), device=self.logits.device)


class Lecturer:
    """Lets others hear its lessons."""

    def __init__(self) -> None:
        self._listeners: List[List[Lesson]] = []

    @contextmanager
    def heard(self) -> Iterator[List[Lesson]]:
        """Listen to the lessons of the training steps inside.

        Returns:
            ContextManager[list[Lesson]]: They are added in each step.
        """
        lessons: List[Lesson] = []
        self._listeners.append(lessons)
        try:
            yield lessons
        finally:
            # By identity: all empty lists are equal.
            self._listeners = [
                one for one in self._listeners if one is not lessons
            ]

    def _say(self, lessons: Sequence[Lesson]) -> None:
        for heard in self._listeners:
            heard.extend(lessons)


def mixed_lesson(lessons: Sequence[Lesson], weights: Sequence[float],
                 activation: str) -> Lesson:
    """Lessons of several teachers on one group of samples, as one.

    Args:
        lessons (sequence[Lesson]): Of each teacher.
        weights (sequence[float]): Positive, of each teacher.
        activation (str): Activation of the student, 'softmax' or 'sigmoid'.

    Returns:
        Lesson: Of every sample that a teacher answers for, with the mean of
        the probabilities of those that do.
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
        # What a teacher does not answer for weighs nothing.
        answers = [
            one.new_zeros(len(index), one.shape[1]).index_copy(0, at, one)
            for at, one in zip(rows, answers)
        ]
        shares = [
            one.new_zeros(len(index)).index_copy(0, at, one)
            for at, one in zip(rows, shares)
        ]
        # A sample of several lessons is the same in each.
        chosen = row.new_empty(len(index)).index_copy(
            0, row.flip(0),
            torch.arange(len(row), device=row.device).flip(0))
        samples = _joined([lesson.samples
                           for lesson in lessons]).subset(chosen)
    with torch.no_grad():
        logits = mixed_logits(answers, torch.stack(shares), activation)
    return replace(first, samples=samples, logits=logits, index=index)


def _joined(parts: Sequence[ClassificationSamples]) -> ClassificationSamples:
    """Samples of several lessons after each other."""
    # All of a group have the number of its samples there, if it has none.
    divisors = [part.avg_factor for part in parts]
    divisor = next((one for one in divisors if one is not None), None)

    def joined(name):
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    names = ('logits', 'image_index', 'labels', 'quality', 'weight')
    return replace(
        parts[0], avg_factor=divisor, **{name: joined(name)
                                         for name in names})
