"""Samples of a student together with the logits of a teacher."""
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence

import torch
from torch import Tensor

from ..head_adapters import ClassificationSamples
from ..mixture import mixed_logits


@dataclass
class DistillationGroup:
    """Student samples and teacher logits of one group, ready for a loss.

    The logits of both have the columns of the shared classes, for the
    student's activation.

    Shapes: S samples; C columns of logits.

    Attributes:
        samples (ClassificationSamples): Samples of the student.
        logits (Tensor): Calibrated logits of the teacher for these samples,
            without gradient, shape (S, C).
        num_classes (int): Number of shared classes, without background.
        group_index (int): Position of the group among the observed groups.
            Defaults to 0.
        index (Tensor, optional): Positions of the samples in their group,
            int64, ascending, shape (S,). Defaults to None, all samples of
            the group.
    """
    samples: ClassificationSamples
    logits: Tensor
    num_classes: int
    group_index: int = 0
    index: Optional[Tensor] = None

    @property
    def positions(self) -> Tensor:
        """Positions of the samples in their group, also if all are used."""
        if self.index is not None:
            return self.index
        return torch.arange(len(self.logits), device=self.logits.device)


class BaseTeacher:
    """Base class of teachers, whose outputs can be recorded."""

    def __init__(self) -> None:
        self._recordings: List[List[DistillationGroup]] = []

    @contextmanager
    def recorded_groups(self) -> Iterator[List[DistillationGroup]]:
        """Record the groups of all training steps inside the context.

        Returns:
            ContextManager[list[DistillationGroup]]: Context of the list to
            which each step appends its groups.
        """
        groups: List[DistillationGroup] = []
        self._recordings.append(groups)
        try:
            yield groups
        finally:
            # Compared by identity, because all empty lists are equal.
            self._recordings = [
                recording for recording in self._recordings
                if recording is not groups
            ]

    def _record(self, groups: Sequence[DistillationGroup]) -> None:
        for recording in self._recordings:
            recording.extend(groups)


def mix_distill_groups(distill_groups: Sequence[DistillationGroup],
                       weights: Sequence[float],
                       activation: str) -> DistillationGroup:
    """Mix the logits of several teachers for one group of samples.

    Args:
        distill_groups (sequence[DistillationGroup]): The group with the
            logits of each teacher.
        weights (sequence[float]): Weight of each teacher, > 0.
        activation (str): Activation of the student, 'softmax' or 'sigmoid'.

    Returns:
        DistillationGroup: All samples for which at least one teacher has
        logits. Their probabilities are the weighted mean over the teachers
        that have logits for the sample.
    """
    first = distill_groups[0]
    teacher_logits = [distill_group.logits for distill_group in distill_groups]
    shares = [
        logits.new_full((len(logits), ), weight, dtype=torch.float32)
        for logits, weight in zip(teacher_logits, weights)
    ]
    samples, index = first.samples, None
    if any(distill_group.index is not None
           for distill_group in distill_groups):
        index, row = torch.unique(
            torch.cat(
                [distill_group.positions for distill_group in distill_groups]),
            return_inverse=True)
        rows = row.split([len(logits) for logits in teacher_logits])
        # Samples without logits of a teacher have weight 0 for this teacher.
        teacher_logits = [
            logits.new_zeros(len(index),
                             logits.shape[1]).index_copy(0, position, logits)
            for position, logits in zip(rows, teacher_logits)
        ]
        shares = [
            share.new_zeros(len(index)).index_copy(0, position, share)
            for position, share in zip(rows, shares)
        ]
        # A sample for which several teachers have logits is equal in all of
        # their groups, so the first is taken.
        chosen = row.new_empty(len(index)).index_copy(
            0, row.flip(0),
            torch.arange(len(row), device=row.device).flip(0))
        samples = _joined([
            distill_group.samples for distill_group in distill_groups
        ]).subset(chosen)
    with torch.no_grad():
        logits = mixed_logits(teacher_logits, torch.stack(shares), activation)
    return replace(first, samples=samples, logits=logits, index=index)


def _joined(parts: Sequence[ClassificationSamples]) -> ClassificationSamples:
    """Concatenate several groups of samples."""
    # Subsets of one group have the same divisor.
    divisors = [part.avg_factor for part in parts]
    divisor = next((value for value in divisors if value is not None), None)

    def joined(name):
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    names = ('logits', 'image_index', 'labels', 'quality', 'weight')
    return replace(
        parts[0], avg_factor=divisor, **{name: joined(name)
                                         for name in names})
