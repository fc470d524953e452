"""How well calibrated teacher and student are while training.

Shapes: S samples (RoIs or priors) of a stage or level, C columns of logits;
P predictions that are measured.
"""
from contextlib import ExitStack
from typing import Dict, List, Optional, Sequence, Tuple

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
from tcal_det.errors import InvalidTypeError
from tcal_det.evaluation.functional.binning import BinTable, make_bin_table
from tcal_det.evaluation.functional.calibration_error import CalibrationError
from tcal_det.models.head_adapters import (ClassificationSamples, Observation,
                                           adapter_for)
from tcal_det.registry import HOOKS
from tcal_det.visualization import figure_as_image, reliability_comparison
from ..teacher_pairs import SCORE_THRESHOLD, pair_targets

# What is measured, by the beginning of its keys in the log.
HEADINGS = dict(
    teacher='Teacher',
    calibrated_teacher='Calibrated teacher',
    student='Student')
IMAGE_NAME = 'train_reliability'


@HOOKS.register_module()
class TeacherCalibrationHook(Hook):
    """Log the calibration errors of teacher and student in training.

    Every ``interval`` iterations, on the samples (RoIs, or priors of a dense
    head) of that step: ECE and its over- and under-confident parts of the
    teacher before its calibrator
    (``train/teacher_ece``, ``train/teacher_ece_over``,
    ``train/teacher_ece_under``), after it (``train/calibrated_teacher_ece``,
    ...) and of the student (``train/student_ece``, ...). The two of the
    teacher are equal if it has no calibrator. After every epoch, and where a
    validation begins, the sampled steps since the last time become one
    reliability figure, ``train_reliability``, for each backend of the
    visualizer. Samples of all ranks and of all stages and levels count. They
    are the student's on training images, easier for the teacher than its own
    on held-out ones: watch how the figures change, and measure with
    ``tools/calibrate_teacher.py``.

    Of a softmax head the top class of each sample is measured; of a sigmoid
    head each pair of a sample and a class with a score above 0.05, the
    student's by its own scores, the teacher's, calibrated or not, by those
    before calibration. A pair's target is what the student's own loss gives
    it: 1 for the assigned class, or its IoU.

    The logits are read by forward hooks that exist in the sampled iterations
    only: the others cost nothing. Nothing the model computes changes.

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
        self._observation: Optional[Observation] = None
        self._teacher_logits: List[Tuple[Tensor, Tensor]] = []
        self._make_predictions = top_classes
        self._tables: Dict[str, List[BinTable]] = {
            name: []
            for name in HEADINGS
        }

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that learns from no teacher."""
        if not getattr(_unwrapped(runner), 'is_distilling', False):
            raise InvalidTypeError(
                'TeacherCalibrationHook needs a CalibratedTeacherDistiller '
                'with `distill_losses`, but the model is a '
                f'{type(_unwrapped(runner)).__name__} without: remove the '
                'hook from `custom_hooks`')

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

        def record(_, args, output):
            self._teacher_logits.append((args[0], output))

        self._listening = ExitStack()
        self._observation = self._listening.enter_context(adapter.observe())
        self._listening.callback(
            model.teacher.calibrator.register_forward_hook(record).remove)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: dict = None) -> None:
        """Measure and log what was heard."""
        if self._listening is None:
            return
        self._listening.close()
        predictions = [
            self._make_predictions(group, *logits) for group, logits in zip(
                self._observation.groups, self._teacher_logits)
        ]
        self._listening = self._observation = None
        self._teacher_logits = []
        tables = _gathered(make_tables(predictions, self.num_bins))
        for name, table in tables.items():
            self._tables[name].append(table)
            error = CalibrationError.from_bins(table)
            for suffix, value in (('', error.ece), ('_over', error.over),
                                  ('_under', error.under)):
                # Without 'loss' in its name, of which mmengine would log a
                # mean over the last iterations.
                runner.message_hub.update_scalar(f'train/{name}_ece{suffix}',
                                                 value)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw the epoch."""
        self._draw(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Draw what a training without epochs has sampled until here."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        merged = {
            HEADINGS[name]: BinTable.merge(tables)
            for name, tables in self._tables.items() if tables
        }
        for tables in self._tables.values():
            tables.clear()
        if merged and is_main_process():
            figure = reliability_comparison(
                merged, title=f'Sampled steps until iteration {runner.iter}')
            runner.visualizer.add_image(
                IMAGE_NAME, figure_as_image(figure), step=runner.iter)


Predictions = Dict[str, Tuple[Tensor, Tensor]]


def top_classes(group: ClassificationSamples, teacher: Tensor,
                calibrated_teacher: Tensor) -> Predictions:
    """Top probabilities of a softmax head, and whether they are right.

    Args:
        group (ClassificationSamples): The student's.
        teacher (Tensor): Logits of the same samples, shape (S, C).
        calibrated_teacher (Tensor): After the calibrator, shape (S, C).

    Returns:
        dict[str, tuple[Tensor, Tensor]]: By the names of ``HEADINGS``,
        confidence and target of float64, shape (P,) each, P = S; empty for
        a group without labels.
    """
    if group.labels is None:
        return {}
    predictions = {}
    for name, logits in (('teacher', teacher), ('calibrated_teacher',
                                                calibrated_teacher),
                         ('student', group.logits.detach())):
        confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
        predictions[name] = confidence, (predicted == group.labels).double()
    return predictions


def scored_pairs(group: ClassificationSamples, teacher: Tensor,
                 calibrated_teacher: Tensor) -> Predictions:
    """Scores of a sigmoid head above 0.05, and what they should be.

    Samples of weight 0 are ignored.

    Args:
        group (ClassificationSamples): The student's.
        teacher (Tensor): Logits of the same samples, shape (S, C).
        calibrated_teacher (Tensor): After the calibrator, shape (S, C).

    Returns:
        dict[str, tuple[Tensor, Tensor]]: As of :func:`top_classes`; P
        differs between the teacher and the student.
    """
    if group.labels is None:
        return {}
    targets = pair_targets(group).double()
    student = group.logits.detach()
    predictions = {}
    for name, logits, chosen_by in (('teacher', teacher, teacher),
                                    ('calibrated_teacher', calibrated_teacher,
                                     teacher), ('student', student, student)):
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
    counts, rows = [], []
    for name in HEADINGS:
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
                   target) in zip(HEADINGS, np.split(rows, ends, axis=1))
    }


def _gathered(tables: Dict[str, BinTable]) -> Dict[str, BinTable]:
    """The tables of the samples of all ranks; every rank must call this."""
    of_ranks = [part for part in all_gather_object(tables) if part]
    return {
        name: BinTable.merge([part[name] for part in of_ranks])
        for name in HEADINGS if of_ranks
    }


def _unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
