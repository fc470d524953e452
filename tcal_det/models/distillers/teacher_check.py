"""Check of the teacher's accuracy in the first training steps.

A teacher with another order of the classes, or without training, does not
raise an error. It only makes the student worse.
"""
import logging
from typing import Optional, Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.errors import InvalidValueError
from .distillation_group import DistillationGroup

STEPS = 10
FEWEST_FOREGROUND = 100
# Least accuracy, on a scale from 0 (chance) to 1 (no error).
LEAST_SKILL = 0.1


class TeacherCheck:
    """Measure the accuracy of the teacher on the student's samples.

    The accuracy is computed for each class that occurs, including background,
    and averaged over these classes. Predictions that are independent of the
    sample have an accuracy of 1 / (number of these classes), for any class
    frequencies. For heads without a background column, only foreground
    samples are counted.

    Args:
        has_background (bool): Whether the last column of the logits is
            background. Defaults to True.
        sample_name (str): Plural name of the samples, for the log. Defaults
            to 'RoIs'.
        stops (bool): Whether a teacher that is hardly better than chance
            stops the training, as soon as all ranks together have enough
            samples; otherwise a warning is logged. Defaults to False.
    """

    def __init__(self,
                 has_background: bool = True,
                 sample_name: str = 'RoIs',
                 stops: bool = False) -> None:
        self.has_background = has_background
        self.sample_name = sample_name
        self.stops = stops
        self.is_finished = False
        self._step = 0
        # Rows: all samples, samples classified correctly by the teacher, and
        # by the student; columns: classes, background last. The counts are
        # on the device of the samples. Without `stops` they are read only
        # every STEPS steps, so that the other steps do not wait for a GPU.
        self._counts: Optional[Tensor] = None

    def observe(self, distill_groups: Sequence[DistillationGroup]) -> None:
        """Count the samples of a training step.

        Args:
            distill_groups (sequence[DistillationGroup]): Groups of samples;
                those without labels are ignored.

        Raises:
            InvalidValueError: If the check stops the training.
        """
        self._step += 1
        if self._counts is None:
            first = distill_groups[0]
            self._counts = torch.zeros((3, first.num_classes + 1),
                                       dtype=torch.long,
                                       device=first.logits.device)
        for distill_group in distill_groups:
            if distill_group.samples.labels is not None:
                self._count(distill_group)
        # All ranks must report in the same steps, also a rank without labels,
        # because the report sums over ranks.
        if self.stops or self._step % STEPS == 0:
            self._report()

    def _count(self, group: DistillationGroup) -> None:
        labels, num_classes = group.samples.labels, group.num_classes
        teacher, student = group.logits, group.samples.logits.detach()
        if not self.has_background:
            # Selected first, because a dense head has a thousand times as
            # many background samples.
            is_object = (labels >= 0) & (labels < num_classes)
            labels, teacher, student = (labels[is_object], teacher[is_object],
                                        student[is_object])
        is_of_class = labels[:, None] == torch.arange(
            num_classes + 1, device=labels.device)
        self._counts = self._counts + torch.stack([is_of_class.sum(
            dim=0)] + [(is_of_class &
                        (logits.argmax(dim=1) == labels)[:, None]).sum(dim=0)
                       for logits in (teacher, student)])

    def _report(self) -> None:
        counts = self._counts
        if self.stops:
            counts = counts.clone()
            all_reduce(counts)
        total, teacher_correct, student_correct = counts.cpu().double()
        occurs = total > 0
        num_occurring = int(occurs.sum())
        num_foreground = int(total[:-1].sum())
        if num_foreground < FEWEST_FOREGROUND or num_occurring < 2:
            return
        self.is_finished = True
        accuracy = (teacher_correct[occurs] / total[occurs]).mean().item()
        chance = 1 / num_occurring
        teacher_accuracy, student_accuracy = (100 * correct[:-1].sum().item() /
                                              num_foreground
                                              for correct in (teacher_correct,
                                                              student_correct))
        print_log(
            f'Teacher: {100 * accuracy:.1f} % of the {self.sample_name} of '
            f'the first {self._step} step{"s"[:self._step != 1]} are '
            'predicted to be of their '
            f'assigned class (mean over {num_occurring} classes'
            f'{" with background" if self.has_background else ""}, '
            f'{num_foreground} foreground {self.sample_name}; chance is '
            f'{100 * chance:.1f} %). On foreground {self.sample_name} alone: '
            f'teacher {teacher_accuracy:.1f} %, student '
            f'{student_accuracy:.1f} %', 'current')
        if accuracy >= chance + LEAST_SKILL * (1 - chance):
            return
        problem = (
            f'hardly better than chance ({100 * accuracy:.1f} %, chance is '
            f'{100 * chance:.1f} %) on the {self.sample_name} of the student: '
            'check that `teacher.checkpoint` is trained, that its classes '
            'have the order of its class names, and that `teacher.config` has '
            'the `data_preprocessor` of its training')
        if self.stops:
            raise InvalidValueError(
                f'`teacher.check` found the teacher {problem}')
        print_log(
            f'The teacher is {problem}', 'current', level=logging.WARNING)
