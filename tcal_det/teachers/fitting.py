"""Fit the calibrator of a teacher to images and write the result."""
import warnings
from typing import Any, Dict, Optional, Tuple, Union

import torch.nn as nn
from torch.utils.data import DataLoader

from tcal_det.errors import TcalDetWarning
from tcal_det.fileio import make_output_folder
from tcal_det.models.head_adapters import adapter_for
from tcal_det.teacher_options import MAX_SAMPLES
from .calibration import (TeacherCalibration, calibrate_teacher,
                          choose_calibrator, write_teacher_calibration)
from .logits import TeacherSamples, collect_teacher_samples
from .pairs import TeacherPairs
from .sigmoid_calibration import (SigmoidCalibration, calibrate_pairs,
                                  focal_parameters)

Calibration = Union[TeacherCalibration, SigmoidCalibration]
# Samples of objects; with fewer the fitted parameters scatter widely.
FEWEST_OBJECTS = 100


def fit_teacher(detector: nn.Module,
                dataloader: DataLoader,
                out: str,
                teacher: Dict[str, Any],
                data: Dict[str, Any],
                calibrator: Optional[str] = None,
                objective: str = 'nll',
                fit_to: str = 'scored',
                softening: float = 1.0,
                protocol: str = 'train',
                max_samples: int = MAX_SAMPLES,
                seed: int = 0) -> Tuple[Calibration, str]:
    """Fit a calibrator, and write ``teacher_calibration.json`` and figures.

    Args:
        detector (nn.Module): Teacher with loaded weights; it is set to
            evaluation mode.
        dataloader (DataLoader): Dataloader from
            ``build_calibration_dataloader``.
        out (str): Folder to write to, created if it is missing.
        teacher (dict): Origin of the teacher, for the JSON file.
        data (dict): Origin of the images, for the JSON file.
        calibrator (str, optional): Name of the calibrator, one of
            ``CALIBRATORS``. Defaults to None, the default of the head's
            activation.
        objective (str): Quantity to minimise: 'nll' or, for a temperature of
            a softmax head, 'ece'. Defaults to 'nll'.
        fit_to (str): Selection of pairs to which the calibrator of a sigmoid
            head is fitted, 'scored' or 'all'. Defaults to 'scored'.
        softening (float): Softening factor, see ``calibrate_teacher`` and
            ``calibrate_pairs``. Defaults to 1.0.
        protocol (str): Sampling protocol, see ``collect_teacher_samples``.
            Defaults to 'train'.
        max_samples (int): Maximum number of samples, see
            ``collect_teacher_samples``. Defaults to 500000.
        seed (int): Random seed of the samples and of the folds. Defaults
            to 0.

    Returns:
        tuple[TeacherCalibration or SigmoidCalibration, str]: Calibration with
        its measurements, and path of the JSON file.

    Raises:
        InvalidTypeError: If the head of the teacher is not supported, or an
            option has the wrong type.
        InvalidValueError: If the options cannot be combined, or if the images
            have no samples to fit to.
    """
    adapter = adapter_for(detector, 'teacher')
    calibrator = choose_calibrator(calibrator, objective, adapter.activation,
                                   adapter.name)
    focal = None
    if calibrator == 'FocalPosterior':
        focal = focal_parameters(adapter)
    make_output_folder(out)
    samples = collect_teacher_samples(detector, dataloader, protocol,
                                      max_samples, seed)
    if samples.activation == 'sigmoid':
        calibration = calibrate_pairs(samples, calibrator, softening, seed,
                                      focal, fit_to)
    else:
        calibration = calibrate_teacher(samples, calibrator, objective,
                                        softening, seed)
    if calibrator != 'FocalPosterior':
        _warn_of_few_objects(samples)
    path = write_teacher_calibration(
        out,
        calibration,
        teacher=teacher,
        data=dict(data, num_images=samples.num_images),
        samples=dict(
            samples.describe(),
            protocol=protocol,
            rule=f'uniform over all {samples.unit} seen, at most '
            f'{max_samples}, reservoir sampling with seed {seed}'))
    return calibration, path


def _warn_of_few_objects(samples: Union[TeacherSamples, TeacherPairs]) -> None:
    """Warn if the parameters that are fitted to these samples scatter."""
    more = 'more images'
    if isinstance(samples, TeacherSamples):
        number = int(samples.is_foreground.sum())
        found = f'only {number} samples have an object as their label'
        if samples.num_seen > len(samples.labels):
            more += ' or a larger number of samples'
    else:
        number = samples.sum_targets
        found = f'the targets of all samples sum up to only {number:.0f}'
    if number < FEWEST_OBJECTS:
        warnings.warn(
            f'{found}, fewer than {FEWEST_OBJECTS}: the calibrator is '
            'uncertain. Compare it with the fits to half of the images, or '
            f'use {more}',
            TcalDetWarning,
            stacklevel=3)
