"""How well calibrated teacher and student are while training.

Shapes: R sampled RoIs of a step, C = K + 1 classes with background last.
"""
from typing import Dict, List

import numpy as np
import torch
import torch.nn as nn
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from tcal_det.arguments import check_count
from tcal_det.errors import InvalidTypeError
from tcal_det.evaluation.functional.binning import BinTable, make_bin_table
from tcal_det.evaluation.functional.calibration_error import CalibrationError
from tcal_det.registry import HOOKS
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

    Every ``interval`` iterations, on the RoIs of that step: ECE and its
    over- and under-confident parts of the teacher before its calibrator
    (``train/teacher_ece``, ``train/teacher_ece_over``,
    ``train/teacher_ece_under``), after it (``train/calibrated_teacher_ece``,
    ...) and of the student (``train/student_ece``, ...). The two of the
    teacher are equal if it has no calibrator. After every epoch, and where a
    validation begins, the sampled steps since the last time become one
    reliability figure, ``train_reliability``, for each backend of the
    visualizer. RoIs of all ranks count. They are the student's proposals on
    training images, easier for the teacher than its own on held-out ones:
    watch how the figures change, and measure with
    ``tools/calibrate_teacher.py``.

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
        self._logits: Dict[str, Tensor] = {}
        self._handles: list = []
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

        def record_teacher(_, args):
            self._logits['teacher'] = args[0].detach()

        def record_students(_, args, kwargs):
            self._logits['student'] = args[0].detach()
            self._logits['calibrated_teacher'] = args[1].detach()
            self._labels = kwargs['labels']

        # Every loss is given the same logits: one tells of all.
        distill_loss = next(iter(model.distill_losses.values()))
        self._handles = [
            model.teacher.calibrator.register_forward_pre_hook(record_teacher),
            distill_loss.register_forward_pre_hook(
                record_students, with_kwargs=True)
        ]

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: dict = None) -> None:
        """Measure and log what was heard."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        tables = _gathered(
            measure_logits(self._logits, self._labels, self.num_bins))
        self._logits, self._labels = {}, None
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
                merged, title=f'Sampled RoIs until iteration {runner.iter}')
            runner.visualizer.add_image(
                IMAGE_NAME, figure_as_image(figure), step=runner.iter)


def measure_logits(logits: Dict[str, Tensor], labels: Tensor,
                   num_bins: int) -> Dict[str, BinTable]:
    """Sort the top probabilities of several models into bins.

    Args:
        logits (dict[str, Tensor]): Of the same RoIs, shape (R, C) each.
        labels (Tensor, optional): Assigned classes, shape (R,); None, as in
            the distiller, where R = 0.
        num_bins (int): Number of bins.

    Returns:
        dict[str, BinTable]: By the names of ``logits``; empty if R = 0 or
        a logit is NaN.
    """
    if labels is None or len(labels) == 0:
        return {}
    rows = []
    for values in logits.values():
        confidence, predicted = values.double().softmax(dim=1).max(dim=1)
        rows += [confidence, (predicted == labels).double()]
    # One transfer, and so one synchronisation, for all.
    rows = torch.stack(rows).cpu().numpy()
    # Watching a run that diverges must not be what ends it.
    if not np.isfinite(rows).all():
        return {}
    return {
        name: make_bin_table(confidence, correct, num_bins, 'right')
        for name, confidence, correct in zip(logits, rows[::2], rows[1::2])
    }


def _gathered(tables: Dict[str, BinTable]) -> Dict[str, BinTable]:
    """The tables of the RoIs of all ranks; every rank must call this."""
    of_ranks = [part for part in all_gather_object(tables) if part]
    return {
        name: BinTable.merge([part[name] for part in of_ranks])
        for name in HEADINGS if of_ranks
    }


def _unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model
