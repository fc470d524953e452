"""How well calibrated teacher and student are while training.

Shapes: S samples (RoIs, priors or queries) of a stage, level or layer, C
columns of logits; P predictions that are measured.
"""
from contextlib import ExitStack
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn as nn
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional.binning import BinTable, make_bin_table
from tcal_det.evaluation.functional.calibration_error import CalibrationError
from tcal_det.models.distillers.frozen_teacher import FrozenTeacher
from tcal_det.models.distillers.lesson import Lecturer, Lesson
from tcal_det.models.distillers.teacher_ensemble import TeacherEnsemble
from tcal_det.models.head_adapters import ClassificationSamples, adapter_for
from tcal_det.registry import HOOKS
from tcal_det.teachers.pairs import SCORE_THRESHOLD, pair_targets
from tcal_det.visualization import figure_as_image, reliability_comparison

# What is measured, by the beginning of its keys in the log.
HEADINGS = dict(
    teacher='Teacher',
    calibrated_teacher='Calibrated teacher',
    student='Student')
IMAGE_NAME = 'train_reliability'


@HOOKS.register_module()
class TeacherCalibrationHook(Hook):
    """Log the calibration errors of teacher and student in training.

    Every ``interval`` iterations, on the samples (RoIs, priors of a dense
    head, queries) of that step for which the teacher answers: ECE and its
    over- and under-confident parts of the teacher before its calibrator
    (``train/teacher_ece``, ``train/teacher_ece_over``,
    ``train/teacher_ece_under``), after it (``train/calibrated_teacher_ece``,
    ...) and of the student (``train/student_ece``, ...). The two of the
    teacher are equal if it has no calibrator. Both sides are measured on the
    classes that they share. Where the teacher has other samples or other
    classes than the student, its calibrator sees neither: the teacher before
    it is left out. Several teachers have keys of their own,
    ``train/NAME/calibrated_teacher_ece``, and their mixture, if a loss meets
    it, those without a name. After every epoch, and where a
    validation begins, the sampled steps since the last time become one
    reliability figure, ``train_reliability`` (``train_reliability_NAME``),
    for each backend of the visualizer. Samples of all ranks and of all stages
    and levels count. They are the student's on training images, easier for
    the teacher than its own on held-out ones: watch how the figures change,
    and measure with ``tools/calibrate_teacher.py``.

    Of a softmax head the top class of each sample is measured; of a sigmoid
    head each pair of a sample and a class with a score above 0.05, the
    student's by its own scores, the teacher's, calibrated or not, by those
    before calibration. A pair's target is what the student's own loss gives
    it: 1 for the assigned class, or its IoU.

    The teacher is listened to in the sampled iterations only: the others
    cost nothing. Nothing the model computes changes.

    Args:
        interval (int): Iterations from one sampled step to the next, >= 1; a
            multiple of the logger's, as figures are logged as they were
            when last measured. Defaults to 50.
        num_bins (int): Of confidence, >= 1. Defaults to 15.

    Raises:
        InvalidTypeError: If an argument is no whole number, or, when
            training starts, the model has no teacher.
        InvalidValueError: If an argument is out of range.

    Example:
        >>> custom_hooks = [dict(type='tcal_det.TeacherCalibrationHook')]
    """

    def __init__(self, interval: int = 50, num_bins: int = 15) -> None:
        self.interval = check_count('interval', interval)
        self.num_bins = check_count('num_bins', num_bins)
        self._listening: Optional[ExitStack] = None
        self._heard: List[_Heard] = []
        self._make_predictions = top_classes
        # By teacher, and then by the names of HEADINGS.
        self._tables: Dict[str, List[Dict[str, BinTable]]] = {}

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that learns from no teacher's logits."""
        model = _unwrapped(runner)
        if not getattr(model, 'is_distilling', False):
            raise InvalidTypeError(
                'TeacherCalibrationHook needs a CalibratedTeacherDistiller '
                'with `distill_losses`, but the model is a '
                f'{type(model).__name__} without: remove the '
                'hook from `custom_hooks`')
        if not model.teacher.answers:
            raise InvalidValueError(
                'TeacherCalibrationHook needs a loss on logits in '
                '`distill_losses`, of which the calibration is measured, but '
                f'there are {sorted(model.distill_losses)}: add one, or '
                'remove the hook from `custom_hooks`')

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: DATA_BATCH = None) -> None:
        """Listen to the model, if this iteration is sampled."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = _unwrapped(runner)
        adapter = adapter_for(model, 'student')
        self._make_predictions = (
            scored_pairs if adapter.activation == 'sigmoid' else top_classes)

        self._listening = ExitStack()
        self._heard = [
            self._listen(name, lecturer)
            for name, lecturer in _lecturers(model.teacher).items()
        ]

    def _listen(self, name: str, lecturer: Lecturer) -> '_Heard':
        lessons = self._listening.enter_context(lecturer.heard())
        heard = _Heard(name, lecturer, lessons, [])
        if isinstance(lecturer, FrozenTeacher):
            hook = lecturer.calibrator.register_forward_hook(
                lambda _, args, output: heard.uncalibrated.append(args[0]))
            self._listening.callback(hook.remove)
        return heard

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: dict = None) -> None:
        """Measure and log what was heard."""
        if self._listening is None:
            return
        self._listening.close()
        for heard in self._heard:
            predictions = [
                self._make_predictions(lesson.samples, teacher, lesson.logits)
                for lesson, teacher in zip(heard.lessons, heard.teacher())
            ]
            tables = _gathered(make_tables(predictions, self.num_bins))
            if tables:
                self._tables.setdefault(heard.name, []).append(tables)
            self._log(runner, heard.name, tables)
        self._listening = None
        self._heard = []

    def _log(self, runner: Runner, teacher: str,
             tables: Dict[str, BinTable]) -> None:
        folder = f'train/{teacher}/' if teacher else 'train/'
        for name, table in tables.items():
            error = CalibrationError.from_bins(table)
            for suffix, value in (('', error.ece), ('_over', error.over),
                                  ('_under', error.under)):
                # Without 'loss' in its name, of which mmengine would log a
                # mean over the last iterations.
                runner.message_hub.update_scalar(f'{folder}{name}_ece{suffix}',
                                                 value)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw the epoch."""
        self._draw(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Draw what a training without epochs has sampled until here."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        for teacher, steps in self._tables.items():
            merged = {
                HEADINGS[name]: BinTable.merge([one[name] for one in steps])
                for name in steps[0]
            }
            if is_main_process():
                title = f'Sampled steps until iteration {runner.iter}'
                figure = reliability_comparison(
                    merged, title=f'{teacher}. {title}' if teacher else title)
                runner.visualizer.add_image(
                    f'{IMAGE_NAME}_{teacher}' if teacher else IMAGE_NAME,
                    figure_as_image(figure),
                    step=runner.iter)
        self._tables.clear()


class _Heard(NamedTuple):
    """What is heard in a step of one teacher, or of the mixture.

    Attributes:
        name (str): That of several teachers; else ''.
        lecturer (Lecturer): Who is heard.
        lessons (list[Lesson]): What it says.
        uncalibrated (list[Tensor]): What its calibrator is given.
    """
    name: str
    lecturer: Lecturer
    lessons: List[Lesson]
    uncalibrated: List[Tensor]

    def teacher(self) -> Sequence[Optional[Tensor]]:
        """Logits before the calibrator of each lesson, if comparable."""
        if (isinstance(self.lecturer, FrozenTeacher)
                and self.lecturer.calibrates_own_samples):
            return self.uncalibrated
        return [None] * len(self.lessons)


def _lecturers(
        teacher: Union[FrozenTeacher, TeacherEnsemble]) -> Dict[str, Lecturer]:
    """By name; the only teacher, or the mixture, has none."""
    if isinstance(teacher, TeacherEnsemble):
        return {'': teacher, **teacher.asked}
    return {'': teacher}


Predictions = Dict[str, Tuple[Tensor, Tensor]]


def top_classes(group: ClassificationSamples, teacher: Optional[Tensor],
                calibrated_teacher: Tensor) -> Predictions:
    """Top probabilities of a softmax head, and whether they are right.

    Args:
        group (ClassificationSamples): The student's.
        teacher (Tensor, optional): Logits of the same samples, shape (S, C);
            None where there are none.
        calibrated_teacher (Tensor): After the calibrator, shape (S, C).

    Returns:
        dict[str, tuple[Tensor, Tensor]]: By the names of ``HEADINGS``,
        confidence and target of float64, shape (P,) each, P = S, without
        'teacher' where that is None; empty for a group without labels.
    """
    if group.labels is None:
        return {}
    predictions = {}
    for name, logits in (('teacher', teacher), ('calibrated_teacher',
                                                calibrated_teacher),
                         ('student', group.logits.detach())):
        if logits is None:
            continue
        confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
        predictions[name] = confidence, (predicted == group.labels).double()
    return predictions


def scored_pairs(group: ClassificationSamples, teacher: Optional[Tensor],
                 calibrated_teacher: Tensor) -> Predictions:
    """Scores of a sigmoid head above 0.05, and what they should be.

    Samples of weight 0 are ignored.

    Args:
        group (ClassificationSamples): The student's.
        teacher (Tensor, optional): Logits of the same samples, shape (S, C);
            None where there are none.
        calibrated_teacher (Tensor): After the calibrator, shape (S, C).

    Returns:
        dict[str, tuple[Tensor, Tensor]]: As of :func:`top_classes`; P
        differs between the teacher and the student.
    """
    if group.labels is None:
        return {}
    targets = pair_targets(group).double()
    student = group.logits.detach()
    before = calibrated_teacher if teacher is None else teacher
    predictions = {}
    for name, logits, chosen_by in (('teacher', teacher, before),
                                    ('calibrated_teacher', calibrated_teacher,
                                     before), ('student', student, student)):
        if logits is None:
            continue
        # NaN is not below the threshold: what diverged must be seen.
        is_chosen = ~(chosen_by.float().sigmoid() <= SCORE_THRESHOLD)
        if group.weight is not None:
            is_chosen &= (group.weight > 0)[:, None]
        predictions[name] = (logits[is_chosen].double().sigmoid(),
                             targets[is_chosen])
    return predictions


def make_tables(predictions: Sequence[Predictions],
                num_bins: int) -> Dict[str, BinTable]:
    """Sort the predictions of several models into bins.

    Args:
        predictions (sequence[dict]): Those of each group.
        num_bins (int): Number of bins.

    Returns:
        dict[str, BinTable]: By the names of ``HEADINGS``; empty if there is
        no prediction, or one is NaN.
    """
    predictions = [one for one in predictions if one]
    if not predictions:
        return {}
    names = list(predictions[0])
    counts, rows = [], []
    for name in names:
        parts = [one[name] for one in predictions]
        counts.append(sum(len(confidence) for confidence, _ in parts))
        rows.append(torch.stack([torch.cat(part) for part in zip(*parts)]))
    # One transfer, and so one synchronisation, for all.
    rows = torch.cat(rows, dim=1).cpu().numpy()
    # Watching a run that diverges must not be what ends it.
    if rows.size == 0 or not np.isfinite(rows).all():
        return {}
    ends = np.cumsum(counts)[:-1]
    return {
        name: make_bin_table(confidence, target, num_bins, 'right')
        for name, (confidence,
                   target) in zip(names, np.split(rows, ends, axis=1))
    }


def _gathered(tables: Dict[str, BinTable]) -> Dict[str, BinTable]:
    """The tables of the samples of all ranks; every rank must call this."""
    of_ranks = [part for part in all_gather_object(tables) if part]
    return {
        name: BinTable.merge([part[name] for part in of_ranks])
        for name in (of_ranks[0] if of_ranks else ())
    }


def _unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
