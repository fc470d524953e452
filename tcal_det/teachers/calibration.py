"""Calibrate a softmax teacher on held-out samples and measure the effect.

Shapes: N samples (RoIs, priors or queries), C = K + 1 classes with background
last.
"""
import os
import os.path as osp
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
import torch

from tcal_det.checks import check_choice, check_positive
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.calibration_error import calibration_error
from tcal_det.fileio import write_json_atomically
from tcal_det.models.calibrators import (Calibrator, MaxLogitScaling,
                                         TemperatureScaling, VectorScaling)
from tcal_det.models.calibrators.fitting import softmax_confidence_and_nll
from tcal_det.teacher_options import (CALIBRATORS, CALIBRATORS_BY_ACTIVATION,
                                      OBJECTIVES, SELECTIONS)
from tcal_det.version import __version__
from tcal_det.visualization import (reliability_comparison, save_figure,
                                    temperature_sweep)
from .image_folds import NUM_FOLDS, cross_fitting_to_dict, fold_of_image
from .logits import TeacherSamples
from .sigmoid_calibration import SigmoidCalibration
from .softmax_measurement import (GROUP_RULE, GROUPS, Measurement,
                                  measure_groups)

SWEEP_TEMPERATURES = np.linspace(0.5, 5.0, 46)
CALIBRATION_FILE = 'teacher_calibration.json'
# Softmax calibrators that are fitted by likelihood and have no softening.
WITHOUT_OPTIONS = dict(
    VectorScaling=VectorScaling, MaxLogitScaling=MaxLogitScaling)


@dataclass(frozen=True, eq=False)
class TeacherCalibration:
    """Fitted calibrator and the measurements before and after it.

    Attributes:
        calibrator (Calibrator): Calibrator fitted to all samples.
        objective (str): Quantity that the fit minimises, 'nll' or 'ece'.
        fold_calibrators (list[Calibrator]): Calibrators fitted to all but one
            fold of the images each; the differences between them show how
            uncertain the parameters are.
        before (dict[str, Measurement]): Figures of the uncalibrated teacher,
            by group.
        after (dict[str, Measurement]): Figures of the calibrated logits, by
            group; each sample is calibrated by the fold calibrator that was
            not fitted to its image.
        sweep (dict[str, list[float]]): Lists of equal length:
            ``temperature``, and ``ece``, ``over``, ``under`` and ``nll`` of
            all samples at each temperature.
        sample_name (str): Name of the classified samples, in the plural.
            Defaults to 'RoIs'.
    """
    calibrator: Calibrator
    objective: str
    fold_calibrators: List[Calibrator]
    before: Dict[str, Measurement]
    after: Dict[str, Measurement]
    sweep: Dict[str, List[float]]
    sample_name: str = 'RoIs'

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists.

        Configs load the entry ``calibrator``.
        """
        result = dict(
            calibrator=self.calibrator.to_json_dict(),
            objective=self.objective,
            cls_channels=self.calibrator.cls_channels)
        if isinstance(self.calibrator, TemperatureScaling):
            result['effective_temperature'] = (
                self.calibrator.effective_temperature)
        return dict(
            result,
            cross_fitting=cross_fitting_to_dict(self.fold_calibrators),
            groups=GROUP_RULE,
            before={name: self.before[name].to_dict()
                    for name in GROUPS},
            after={name: self.after[name].to_dict()
                   for name in GROUPS},
            sweep=self.sweep)

    def table(self) -> str:
        """Format the figures before and after calibration as a table.

        A group without samples is named without figures.
        """
        keys = ('accuracy', 'nll', 'brier', 'ece', 'over', 'under', 'mce',
                'ace')
        lines = [
            f'{"":19}{"samples":>9}' + ''.join(f'{key:>10}' for key in keys)
        ]
        for group in GROUPS:
            measured = dict(before=self.before[group], after=self.after[group])
            if not any(measurement.error.num_samples
                       for measurement in measured.values()):
                lines.append(f'{group:19}{0:9d}  never predicted, so there '
                             'are no figures and no diagram')
                continue
            for phase, measurement in measured.items():
                row = measurement.to_dict()
                lines.append(f'{group:12}{phase:7}{row["num_samples"]:9d}' +
                             ''.join(f'{row[key]:10.4f}' for key in keys))
        return '\n'.join(lines)

    def diagrams(self) -> Dict[str, Tuple[dict, str]]:
        """Return the content of the reliability diagrams.

        Returns:
            dict[str, tuple[dict, str]]: Bin tables by heading, and the title
            of the figure, by group. A group without samples has no tables.
        """
        after = f'After: {_describe(self.calibrator)}'
        diagrams = {}
        for group in GROUPS:
            tables = {
                heading: measured[group].error.bins
                for heading, measured in (('Before', self.before),
                                          (after, self.after))
                if measured[group].error.num_samples
            }
            rule = f' ({GROUP_RULE})' if group != 'all' else ''
            diagrams[group] = (tables,
                               f'Teacher, {group} {self.sample_name}{rule}')
        return diagrams

    target_name = 'Accuracy'

    @property
    def sweep_title(self) -> str:
        """Title of the figure of the temperature sweep."""
        return f'Teacher, all {self.sample_name}'

    @property
    def marked_temperatures(self) -> Tuple[Optional[float], Optional[float]]:
        """Fitted and softened temperature to mark in the sweep.

        Each is None if the calibrator does not have it.
        """
        if not isinstance(self.calibrator, TemperatureScaling):
            return None, None
        softened = None
        if self.calibrator.softening != 1:
            softened = self.calibrator.effective_temperature
        return self.calibrator.temperature, softened


def check_calibration_options(calibrator: Optional[str], objective: str,
                              softening: float) -> None:
    """Check the options of a calibration before the teacher is built.

    Args:
        calibrator (str, optional): Name of a calibrator, one of
            ``CALIBRATORS``; None for the default of the teacher's head.
        objective (str): Quantity to minimise: 'nll', or 'ece' for the
            temperature of a softmax head.
        softening (float): Factor of the fitted temperature, > 0; must be 1
            for 'VectorScaling' and 'MaxLogitScaling'.

    Raises:
        InvalidTypeError: If the softening is not a number.
        InvalidValueError: If an option is not allowed, or if the options
            cannot be combined.
    """
    if calibrator is not None:
        check_choice('calibrator', calibrator, CALIBRATORS)
    check_choice('objective', objective, OBJECTIVES)
    check_positive('softening', softening)
    if calibrator in WITHOUT_OPTIONS and (objective != 'nll'
                                          or softening != 1):
        raise InvalidValueError(
            f"{calibrator} is fitted with objective 'nll' and has no "
            f'softening, but got objective={objective!r} and softening='
            f'{softening}: leave them out or use TemperatureScaling')


def choose_calibrator(calibrator: Optional[str], objective: str,
                      activation: str, teacher: str) -> str:
    """Choose the calibrator of a head by the head's activation.

    Args:
        calibrator (str, optional): Name of a calibrator, one of
            ``CALIBRATORS``; None for the default of the activation.
        objective (str): Quantity to minimise, 'nll' or 'ece'.
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.
        teacher (str): Name of the teacher in messages.

    Returns:
        str: Name of a calibrator for this activation.

    Raises:
        InvalidValueError: If the calibrator or the objective is not for this
            activation.
    """
    allowed = CALIBRATORS_BY_ACTIVATION[activation]
    if calibrator is None:
        calibrator = allowed[0]
    if calibrator not in allowed:
        raise InvalidValueError(
            f'`calibrator` must be one for the {activation} head of the '
            f'teacher {teacher}, but got {calibrator!r}, which is for '
            f'{"softmax" if activation == "sigmoid" else "sigmoid"} heads: '
            f'choose one of {allowed}')
    if objective == 'ece' and (activation,
                               calibrator) != ('softmax',
                                               'TemperatureScaling'):
        raise InvalidValueError(
            "`objective` must be 'nll' for anything but the temperature of a "
            f"softmax head, but got 'ece' for the {calibrator} of the "
            f'{activation} head of the teacher {teacher}: leave it out')
    return calibrator


def calibrate_teacher(samples: TeacherSamples,
                      calibrator: str = 'TemperatureScaling',
                      objective: str = 'nll',
                      softening: float = 1.0,
                      seed: int = 0) -> TeacherCalibration:
    """Fit the calibrator of a softmax head and measure it on unseen images.

    Use ``calibrate_pairs`` for sigmoid heads.

    Args:
        samples (TeacherSamples): Samples of held-out images.
        calibrator (str): Name of the calibrator, 'TemperatureScaling',
            'VectorScaling' or 'MaxLogitScaling'. Defaults to
            'TemperatureScaling'.
        objective (str): Quantity to minimise: 'nll', or 'ece' for a
            temperature. Defaults to 'nll'.
        softening (float): Factor of the fitted temperature, also applied
            when "after" is measured. Defaults to 1.0.
        seed (int): Random seed of the folds. Defaults to 0.

    Returns:
        TeacherCalibration: Calibrator and measurements.

    Raises:
        InvalidValueError: If the samples cannot be fitted or split by image,
            or if the options cannot be combined.
    """
    check_choice('calibrator', calibrator,
                 CALIBRATORS_BY_ACTIVATION['softmax'])
    check_calibration_options(calibrator, objective, softening)
    logits, labels = samples.logits, samples.labels

    def fit(rows: Union[np.ndarray, slice]) -> Calibrator:
        if calibrator in WITHOUT_OPTIONS:
            return WITHOUT_OPTIONS[calibrator]().fit(logits[rows],
                                                     labels[rows])
        return TemperatureScaling(softening=softening).fit(
            logits[rows], labels[rows], objective)

    fold = fold_of_image(samples.image_ids, samples.num_images,
                         seed)[samples.image_ids]
    is_held_out = [fold == index for index in range(NUM_FOLDS)]
    fold_calibrators = [fit(~held_out) for held_out in is_held_out]
    calibrated = np.empty_like(logits)
    for fitted, held_out in zip(fold_calibrators, is_held_out):
        calibrated[held_out] = fitted(torch.from_numpy(
            logits[held_out])).numpy()
    return TeacherCalibration(
        calibrator=fit(slice(None)),
        objective=objective,
        fold_calibrators=fold_calibrators,
        before=measure_groups(logits, labels),
        after=measure_groups(calibrated, labels),
        sweep=sweep_temperatures(logits, labels),
        sample_name=samples.sample_name)


def sweep_temperatures(logits: np.ndarray,
                       labels: np.ndarray) -> Dict[str, List[float]]:
    """Measure ECE and NLL of all samples at temperatures from 0.5 to 5.

    Args:
        logits (ndarray): Uncalibrated logits, shape (N, C).
        labels (ndarray): Assigned classes, in [0, C), shape (N,).

    Returns:
        dict[str, list[float]]: Lists of equal length: ``temperature``,
        ``ece``, ``over``, ``under``, ``nll``.
    """
    correct = logits.argmax(axis=1) == labels
    sweep = dict(
        temperature=SWEEP_TEMPERATURES.tolist(),
        ece=[],
        over=[],
        under=[],
        nll=[])
    for temperature in SWEEP_TEMPERATURES:
        confidence, nll = softmax_confidence_and_nll(logits, labels,
                                                     temperature)
        error = calibration_error(confidence, correct)
        for key in ('ece', 'over', 'under'):
            sweep[key].append(getattr(error, key))
        sweep['nll'].append(nll)
    return sweep


def write_teacher_calibration(out_dir: str,
                              calibration: Union[TeacherCalibration,
                                                 SigmoidCalibration],
                              **provenance: Any) -> str:
    """Write the JSON file and the figures of a calibration.

    The JSON file is written last, so that its presence shows that all files
    are complete. A group without samples has no diagram; a diagram that an
    earlier run has left is removed.

    Args:
        out_dir (str): Folder to write to, created if it is missing.
        calibration (TeacherCalibration or SigmoidCalibration): Calibration to
            write.
        **provenance (Any): Further keys of the JSON file, which describe the
            origin of the samples.

    Returns:
        str: Path of the JSON file, for ``load_from``.
    """
    diagrams = calibration.diagrams()
    for group in sorted({*GROUPS, *SELECTIONS}):
        path = osp.join(out_dir, f'reliability_{group}.png')
        tables, title = diagrams.get(group, ({}, ''))
        if not tables:
            if osp.exists(path):
                os.remove(path)
            continue
        figure = reliability_comparison(
            tables, title=title, target_name=calibration.target_name)
        save_figure(figure, path)
    sweep = calibration.sweep
    save_figure(
        temperature_sweep(
            sweep['temperature'],
            sweep['ece'],
            sweep['nll'],
            *calibration.marked_temperatures,
            title=calibration.sweep_title),
        osp.join(out_dir, 'temperature_sweep.png'))
    path = osp.join(out_dir, CALIBRATION_FILE)
    write_json_atomically(
        path,
        dict(
            calibration.to_dict(), tcal_det_version=__version__, **provenance))
    return path


def _describe(calibrator: Calibrator) -> str:
    if isinstance(calibrator, TemperatureScaling):
        return f'T = {calibrator.effective_temperature:.4g}'
    return type(calibrator).__name__
