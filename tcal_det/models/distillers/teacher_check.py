"""A look at the teacher in the first training steps.

A teacher with the student's classes in another order, or without training,
makes no error: its student only gets worse.
"""
import logging
from typing import Optional, Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.errors import InvalidValueError
from .lesson import Lesson

STEPS = 10
FEWEST_FOREGROUND = 100
# Share of the way from chance to no error.
LEAST_SKILL = 0.1


class TeacherCheck:
    """Counts the teacher's right answers.

    The figure is the mean, over background and the classes that occur, of
    the share of samples that the teacher puts in their class. A teacher
    whose answer has nothing to do with the sample has 1 / number of these
    classes, however often each occurs. Of a head whose logits have no column
    for background, only the samples of objects count.

    Args:
        has_background (bool): Whether the last column of the logits is
            background. Defaults to True.
        sample_name (str): What is classified, in the plural, for the log.
            Defaults to 'RoIs'.
        stops (bool): Whether a teacher that does hardly better than chance
            stops the training, as soon as there are enough samples, those of
            all ranks together; otherwise it is warned of. Defaults to False.
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
        # Rows: seen, right by the teacher, right by the student; per class,
        # background last. On the samples' device, read every STEPS steps
        # only, so that no step waits for a GPU.
        self._counts: Optional[Tensor] = None

    def observe(self, lessons: Sequence[Lesson]) -> None:
        """Take in the samples of a training step.

        Args:
            lessons (sequence[Lesson]): What the teacher says of each group
                of samples; those without labels are left out.

        Raises:
            InvalidValueError: If the check stops the training.
        """
        self._step += 1
        if self._counts is None:
            first = lessons[0]
            self._counts = torch.zeros((3, first.num_classes + 1),
                                       dtype=torch.long,
                                       device=first.logits.device)
        for lesson in lessons:
            if lesson.samples.labels is not None:
                self._count(lesson)
        # On every rank in the same steps, also on one without labels: the
        # others wait for it.
        if self.stops or self._step % STEPS == 0:
            self._report()

    def _count(self, lesson: Lesson) -> None:
        labels, num_classes = lesson.samples.labels, lesson.num_classes
        teacher, student = lesson.logits, lesson.samples.logits.detach()
        if not self.has_background:
            # Chosen first: a dense head has a thousand times as many.
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
        seen, right, right_by_student = counts.cpu().double()
        occurs = seen > 0
        num_occurring = int(occurs.sum())
        num_foreground = int(seen[:-1].sum())
        if num_foreground < FEWEST_FOREGROUND or num_occurring < 2:
            return
        self.is_finished = True
        accuracy = (right[occurs] / seen[occurs]).mean().item()
        chance = 1 / num_occurring
        on_foreground, of_student = (100 * one[:-1].sum().item() /
                                     num_foreground
                                     for one in (right, right_by_student))
        print_log(
            f'Teacher: {100 * accuracy:.1f} % of the {self.sample_name} of '
            f'the first {self._step} step{"s"[:self._step != 1]} are in the '
            'class that they were '
            f'assigned (mean over {num_occurring} classes'
            f'{" with background" if self.has_background else ""}, '
            f'{num_foreground} foreground {self.sample_name}; chance is '
            f'{100 * chance:.1f} %). On foreground {self.sample_name} alone: '
            f'teacher {on_foreground:.1f} %, student {of_student:.1f} %',
            'current')
        if accuracy >= chance + LEAST_SKILL * (1 - chance):
            return
        problem = (
            f'hardly better than chance ({100 * accuracy:.1f} %, chance is '
            f'{100 * chance:.1f} %) on the {self.sample_name} that it is to '
            'teach: is `teacher.checkpoint` trained, is its order of the '
            "classes that of its names, and is the `data_preprocessor` of "
            '`teacher.config` that of its training?')
        if self.stops:
            raise InvalidValueError(
                f'`teacher.check` found the teacher {problem}')
        print_log(
            f'The teacher is {problem}', 'current', level=logging.WARNING)
