"""A look at the teacher in the first training steps.

A teacher with the student's classes in another order, or without training,
makes no error: its student only gets worse.
"""
import logging
from typing import Optional, Sequence

import torch
from mmengine.logging import MessageHub, print_log
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..class_names import dataset_class_names, differing_class

STEPS = 10
FEWEST_FOREGROUND = 100
# Share of the way from chance to no error.
LEAST_SKILL = 0.1


def check_class_names(teacher: Optional[Sequence[str]],
                      student: Optional[Sequence[str]]) -> None:
    """Refuse a teacher of other classes, or of another order.

    Args:
        teacher (sequence[str], optional): Class names in the order of the
            labels; None, unknown, is not compared.
        student (sequence[str], optional): The same of the student.

    Raises:
        InvalidValueError: If names differ by more than upper case, spaces,
            hyphens and underscores; those are only logged.
    """
    if (teacher is None or student is None or len(teacher) != len(student)
            or tuple(teacher) == tuple(student)):
        return
    label = differing_class(teacher, student)
    if label is not None:
        raise InvalidValueError(
            'teacher and student must have the same classes in the same '
            f'order, but class {label} is {teacher[label]!r} in '
            f'`teacher.checkpoint` and {student[label]!r} in the train '
            "dataset: give the datasets the teacher's order "
            '(`metainfo=dict(classes=(...))`) or choose another teacher; if '
            'only the words differ, give a checkpoint that has no '
            '`meta.dataset_meta`')
    first = next(
        label for label in range(len(teacher))
        if teacher[label] != student[label])
    print_log(
        'Teacher and student write their classes differently, e.g. '
        f'{teacher[first]!r} and {student[first]!r}; they are taken to be '
        'the same',
        'current',
        level=logging.WARNING)


class TeacherCheck:
    """Compares class names, then counts the teacher's right answers.

    The figure is the mean, over background and the classes that occur, of
    the share of samples that the teacher puts in their class. A teacher
    whose answer has nothing to do with the sample has 1 / number of these
    classes, however often each occurs. Of a head whose logits have no column
    for background, only the samples of objects count.

    Args:
        num_classes (int): Number of classes K, without background.
        classes (sequence[str], optional): The teacher's class names.
            Defaults to None, unknown.
        has_background (bool): Whether the last column of the logits is
            background. Defaults to True.
        sample_name (str): What is classified, in the plural, for the log.
            Defaults to 'RoIs'.
    """

    def __init__(self,
                 num_classes: int,
                 classes: Optional[Sequence[str]] = None,
                 has_background: bool = True,
                 sample_name: str = 'RoIs') -> None:
        self.num_classes = num_classes
        self.has_background = has_background
        self.sample_name = sample_name
        self.classes = classes
        self.is_finished = False
        self._step = 0
        # Per class, background last; tensors on the samples' device, read
        # every STEPS steps only, so that no step waits for a GPU.
        self._seen: Optional[Tensor] = None
        self._right: Optional[Tensor] = None

    def observe(self, answers: Sequence[Tensor],
                labels: Sequence[Optional[Tensor]]) -> None:
        """Take in the samples of a training step.

        Args:
            answers (sequence[Tensor]): Logits of the teacher for each group
                of samples, shape (S, C).
            labels (sequence[Tensor]): Assigned classes, K for background,
                shape (S,); None where there are none.

        Raises:
            InvalidValueError: In the first step, if the run's train dataset
                has other classes than the teacher.
        """
        if self._step == 0:
            # mmengine's RuntimeInfoHook writes it when training starts.
            metainfo = MessageHub.get_current_instance().get_info(
                'dataset_meta')
            check_class_names(self.classes, dataset_class_names(metainfo))
        self._step += 1
        for logits, assigned in zip(answers, labels):
            if assigned is not None:
                self._count(logits, assigned)
        if self._step % STEPS == 0 and self._seen is not None:
            self._report()

    def _count(self, logits: Tensor, labels: Tensor) -> None:
        if not self.has_background:
            # Chosen first: a dense head has a thousand times as many.
            is_object = (labels >= 0) & (labels < self.num_classes)
            logits, labels = logits[is_object], labels[is_object]
        is_of_class = labels[:, None] == torch.arange(
            self.num_classes + 1, device=labels.device)
        is_right = logits.argmax(dim=1) == labels
        seen = is_of_class.sum(dim=0)
        right = (is_of_class & is_right[:, None]).sum(dim=0)
        if self._seen is not None:
            seen, right = self._seen + seen, self._right + right
        self._seen, self._right = seen, right

    def _report(self) -> None:
        seen, right = self._seen.cpu().double(), self._right.cpu().double()
        occurs = seen > 0
        num_occurring = int(occurs.sum())
        if seen[:-1].sum() < FEWEST_FOREGROUND or num_occurring < 2:
            return
        self.is_finished = True
        accuracy = (right[occurs] / seen[occurs]).mean().item()
        chance = 1 / num_occurring
        print_log(
            f'Teacher: {100 * accuracy:.1f} % of the {self.sample_name} of '
            f'the first {self._step} steps are in the class that they were '
            f'assigned (mean over {num_occurring} classes'
            f'{" with background" if self.has_background else ""}, '
            f'{int(seen[:-1].sum())} foreground {self.sample_name}; chance is '
            f'{100 * chance:.1f} %)', 'current')
        if accuracy < chance + LEAST_SKILL * (1 - chance):
            print_log(
                'The teacher does hardly better than chance on the '
                f'{self.sample_name} that it is to teach: is '
                '`teacher.checkpoint` trained, for the '
                "student's classes in this order, and the `data_preprocessor` "
                'of `teacher.config` that of its training?',
                'current',
                level=logging.WARNING)
