"""Measure the calibration of teacher and student during training.

Shapes: S samples (RoIs, priors or queries) of a stage, level or layer; C
columns of logits; P measured predictions.
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
from tcal_det.models.distillers.distillation_group import (BaseTeacher,
                                                           DistillationGroup)
from tcal_det.models.distillers.frozen_teacher import FrozenTeacher
from tcal_det.models.distillers.teacher_ensemble import TeacherEnsemble
from tcal_det.models.head_adapters import ClassificationSamples, adapter_for
from tcal_det.registry import HOOKS
from tcal_det.teachers.pairs import SCORE_THRESHOLD, pair_targets
from tcal_det.visualization import figure_as_image, reliability_comparison

# Headings of the measured models, by the beginning of their keys in the log.
HEADINGS = dict(
    teacher='Teacher',
    calibrated_teacher='Calibrated teacher',
    student='Student')
IMAGE_NAME = 'train_reliability'


@HOOKS.register_module()
class TeacherCalibrationHook(Hook):
    """Log the calibration errors of teacher and student during training.

    Every ``interval`` iterations, ECE and its over- and under-confident parts
    are measured on the samples (RoIs, priors of a dense head, queries) of
    that step that the teacher classifies. They are logged for

    - the teacher before its calibrator: ``train/teacher_ece``,
      ``train/teacher_ece_over``, ``train/teacher_ece_under``;
    - the teacher after its calibrator: ``train/calibrated_teacher_ece``, ...;
    - the student: ``train/student_ece``, ....

    The two errors of the teacher are equal if it has no calibrator. Teacher
    and student are measured on the classes that they share. If the teacher
    has other samples or other classes than the student, its calibrator is not
    applied to the shared ones, and the teacher before the calibrator is not
    logged. Several teachers have separate keys,
    ``train/NAME/calibrated_teacher_ece``; their mixture, if a loss uses it,
    has the keys without a name.

    After every epoch, and before every validation, the steps that were
    sampled since the last figure are drawn as one reliability figure,
    ``train_reliability`` (``train_reliability_NAME``), in each backend of the
    visualizer. Samples of all ranks and of all stages and levels count.

    The samples are the student's samples on training images, which are easier
    for the teacher than its own samples on held-out images. Use the figures
    to observe changes, and ``tools/calibrate_teacher.py`` to measure.

    For a softmax head, the top class of each sample is measured. For a
    sigmoid head, each pair of a sample and a class with a score above 0.05 is
    measured; the student's pairs are selected by its own scores, and the
    teacher's pairs, calibrated or not, by the scores before calibration. The
    target of a pair is the target of the student's own loss: 1 for the
    assigned class, or its IoU.

    The hook records the teacher's outputs only in the sampled iterations, so
    the other iterations cost nothing. It does not change what the model
    computes.

    Args:
        interval (int): Number of iterations between sampled steps, >= 1. Use
            a multiple of the logger's interval, because the logger repeats
            the last measured figures. Defaults to 50.
        num_bins (int): Number of confidence bins, >= 1. Defaults to 15.

    Raises:
        InvalidTypeError: If an argument is not a whole number, or, at the
            start of the training, if the model has no teacher.
        InvalidValueError: If an argument is out of range, or, at the start of
            the training, if no loss uses the teacher's logits.

    Example:
        >>> custom_hooks = [dict(type='tcal_det.TeacherCalibrationHook')]
    """

    def __init__(self, interval: int = 50, num_bins: int = 15) -> None:
        self.interval = check_count('interval', interval)
        self.num_bins = check_count('num_bins', num_bins)
        self._exit_stack: Optional[ExitStack] = None
        self._recordings: List[_Recording] = []
        self._make_predictions = top_classes
        # Tables by teacher, of each step by the names of HEADINGS.
        self._tables: Dict[str, List[Dict[str, BinTable]]] = {}

    def before_train(self, runner: Runner) -> None:
        """Check that the model learns from the logits of a teacher."""
        model = _unwrapped(runner)
        if not getattr(model, 'is_distilling', False):
            raise InvalidTypeError(
                'TeacherCalibrationHook needs a CalibratedTeacherDistiller '
                'with `distill_losses`, but the model is a '
                f'{type(model).__name__} without: remove the '
                'hook from `custom_hooks`')
        if not model.teacher.needs_logits:
            raise InvalidValueError(
                'TeacherCalibrationHook needs a loss on logits in '
                '`distill_losses`, whose calibration it measures, but there '
                f'are only {sorted(model.distill_losses)}: add one, or '
                'remove the hook from `custom_hooks`')

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: DATA_BATCH = None) -> None:
        """Start to record the teacher if this iteration is sampled."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = _unwrapped(runner)
        adapter = adapter_for(model, 'student')
        self._make_predictions = (
            scored_pairs if adapter.activation == 'sigmoid' else top_classes)

        self._exit_stack = ExitStack()
        self._recordings = [
            self._start_recording(name, teacher)
            for name, teacher in _recorded_teachers(model.teacher).items()
        ]

    def _start_recording(self, name: str,
                         teacher: BaseTeacher) -> '_Recording':
        distill_groups = self._exit_stack.enter_context(
            teacher.recorded_groups())
        recording = _Recording(name, teacher, distill_groups, [])
        if isinstance(teacher, FrozenTeacher):
            hook = teacher.calibrator.register_forward_hook(
                lambda _, args, output: recording.uncalibrated.append(args[0]))
            self._exit_stack.callback(hook.remove)
        return recording

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: dict = None) -> None:
        """Measure and log the recorded logits."""
        if self._exit_stack is None:
            return
        self._exit_stack.close()
        for recording in self._recordings:
            predictions = [
                self._make_predictions(distill_group.samples, logits,
                                       distill_group.logits)
                for distill_group, logits in zip(recording.distill_groups,
                                                 recording.teacher_logits())
            ]
            tables = _gathered(make_tables(predictions, self.num_bins))
            if tables:
                self._tables.setdefault(recording.name, []).append(tables)
            self._log(runner, recording.name, tables)
        self._exit_stack = None
        self._recordings = []

    def _log(self, runner: Runner, teacher: str,
             tables: Dict[str, BinTable]) -> None:
        folder = f'train/{teacher}/' if teacher else 'train/'
        for name, table in tables.items():
            error = CalibrationError.from_bins(table)
            for suffix, value in (('', error.ece), ('_over', error.over),
                                  ('_under', error.under)):
                # The name must not contain 'loss': mmengine would log a mean
                # over the last iterations.
                runner.message_hub.update_scalar(f'{folder}{name}_ece{suffix}',
                                                 value)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw the steps that were sampled in this epoch."""
        self._draw(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Draw the sampled steps, in trainings without epochs."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        for teacher, steps in self._tables.items():
            merged = {
                HEADINGS[name]:
                BinTable.merge([tables[name] for tables in steps])
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


class _Recording(NamedTuple):
    """Recorded outputs of one teacher, or of the mixture, in a step.

    Attributes:
        name (str): Name of the teacher if there are several; else ''.
        teacher (BaseTeacher): Teacher or mixture that is recorded.
        distill_groups (list[DistillationGroup]): Recorded samples with their
            logits.
        uncalibrated (list[Tensor]): Inputs of the teacher's calibrator.
    """
    name: str
    teacher: BaseTeacher
    distill_groups: List[DistillationGroup]
    uncalibrated: List[Tensor]

    def teacher_logits(self) -> Sequence[Optional[Tensor]]:
        """Return the logits of each group before the calibrator.

        An entry is None if the calibrator has other samples than the group.
        """
        if (isinstance(self.teacher, FrozenTeacher)
                and self.teacher.calibrates_own_samples):
            return self.uncalibrated
        return [None] * len(self.distill_groups)


def _recorded_teachers(
        teacher: Union[FrozenTeacher,
                       TeacherEnsemble]) -> Dict[str, BaseTeacher]:
    """Return teachers by name; a single teacher or the mixture has ''."""
    if isinstance(teacher, TeacherEnsemble):
        return {'': teacher, **teacher.used_teachers}
    return {'': teacher}


Predictions = Dict[str, Tuple[Tensor, Tensor]]


def top_classes(group: ClassificationSamples, teacher: Optional[Tensor],
                calibrated_teacher: Tensor) -> Predictions:
    """Return the top probabilities of softmax heads, with correctness.

    Args:
        group (ClassificationSamples): Samples of the student.
        teacher (Tensor, optional): Uncalibrated logits of the teacher on
            these samples, shape (S, C); None if they are not available.
        calibrated_teacher (Tensor): Calibrated logits of the teacher, shape
            (S, C).

    Returns:
        dict[str, tuple[Tensor, Tensor]]: Confidence and target by the names
        of ``HEADINGS``, float64, shape (P,) each with P = S. The entry
        'teacher' is missing if ``teacher`` is None. Empty for a group without
        labels.
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
    """Return the scores above 0.05 of sigmoid heads, with their targets.

    Samples of weight 0 are ignored.

    Args:
        group (ClassificationSamples): Samples of the student.
        teacher (Tensor, optional): Uncalibrated logits of the teacher on
            these samples, shape (S, C); None if they are not available.
        calibrated_teacher (Tensor): Calibrated logits of the teacher, shape
            (S, C).

    Returns:
        dict[str, tuple[Tensor, Tensor]]: Confidence and target by the names
        of ``HEADINGS``, float64, shape (P,) each; P differs between the
        teacher and the student. The entry 'teacher' is missing if ``teacher``
        is None. Empty for a group without labels.
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
        # NaN is chosen as well, so that a diverged model is not overlooked.
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
        predictions (Sequence[dict]): Predictions of each group.
        num_bins (int): Number of bins.

    Returns:
        dict[str, BinTable]: Bin tables by the names of ``HEADINGS``; empty if
        there is no prediction, or if a prediction is NaN.
    """
    predictions = [prediction for prediction in predictions if prediction]
    if not predictions:
        return {}
    names = list(predictions[0])
    counts, rows = [], []
    for name in names:
        parts = [prediction[name] for prediction in predictions]
        counts.append(sum(len(confidence) for confidence, _ in parts))
        rows.append(torch.stack([torch.cat(part) for part in zip(*parts)]))
    # One transfer for all, and therefore one synchronisation.
    rows = torch.cat(rows, dim=1).cpu().numpy()
    # The hook must not be the part that stops a diverging run.
    if rows.size == 0 or not np.isfinite(rows).all():
        return {}
    ends = np.cumsum(counts)[:-1]
    return {
        name: make_bin_table(confidence, target, num_bins, 'right')
        for name, (confidence,
                   target) in zip(names, np.split(rows, ends, axis=1))
    }


def _gathered(tables: Dict[str, BinTable]) -> Dict[str, BinTable]:
    """Merge the tables of all ranks; every rank must call this."""
    of_ranks = [part for part in all_gather_object(tables) if part]
    return {
        name: BinTable.merge([part[name] for part in of_ranks])
        for name in (of_ranks[0] if of_ranks else ())
    }


def _unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
