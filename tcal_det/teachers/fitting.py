"""Fit a teacher's calibrator to images, and write what was found."""
from typing import Any, Dict, Optional, Tuple, Union

import torch.nn as nn
from torch.utils.data import DataLoader

from tcal_det.fileio import make_output_folder
from tcal_det.models.head_adapters import adapter_for
from tcal_det.teacher_options import MAX_SAMPLES
from .calibration import (TeacherCalibration, calibrate_teacher,
                          choose_calibrator, write_teacher_calibration)
from .logits import collect_teacher_samples
from .sigmoid_calibration import (SigmoidCalibration, calibrate_pairs,
                                  focal_parameters)

Calibration = Union[TeacherCalibration, SigmoidCalibration]


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
        detector (nn.Module): The teacher, loaded; put in eval.
        dataloader (DataLoader): Of ``build_calibration_dataloader``.
        out (str): The folder to write to; made if it is missing.
        teacher (dict): Where the teacher comes from, for the JSON file.
        data (dict): Where the images come from, for the JSON file.
        calibrator (str, optional): One of ``CALIBRATORS``. Defaults to None,
            the default of the head's activation.
        objective (str): 'nll' or, for a temperature of a softmax head,
            'ece'. Defaults to 'nll'.
        fit_to (str): Pairs of a sigmoid head, 'scored' or 'all'. Defaults to
            'scored'.
        softening (float): See ``calibrate_teacher`` and ``calibrate_pairs``.
            Defaults to 1.0.
        protocol (str): See ``collect_teacher_samples``. Defaults to 'train'.
        max_samples (int): The same. Defaults to 500000.
        seed (int): Of the samples and of the folds. Defaults to 0.

    Returns:
        tuple: The calibrator with its evidence, and the JSON file's path.

    Raises:
        InvalidTypeError, InvalidValueError: If the teacher cannot be
            labelled, the options do not go together, or the images give
            nothing to fit to.
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
