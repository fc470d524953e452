"""Measure a detector under a shift of its images."""
from typing import Iterable, Sequence

import numpy as np
import torch.nn as nn
from torch.utils.data import DataLoader

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.bootstrap import check_resampling, resample_figures
from tcal_det.evaluation.functional import DetectionCalibrationReport
from tcal_det.teachers.detections import (CollectedDetections,
                                          collect_detections)
from .cells import FIGURES, Cell, Figures
from .corruption import ImageCorruption
from .detector_attack import AttackedBatches
from .options import CONFIDENCE, NUM_RESAMPLES
from .shifts import Shift


class ShiftedDetector:
    """A detector on the same images under different shifts.

    Args:
        detector (nn.Module): Detector in eval mode.
        dataloader (DataLoader): Dataloader from :func:`build_images`.
        corruption (ImageCorruption): Transform from the same call.
        class_names (Sequence[str]): Names of the classes in the order of the
            labels.
        num_resamples (int): Number of bootstrap samples of the images; 0 for
            no intervals. Defaults to 500.
        seed (int): Random seed of the bootstrap samples and of the attacks.
            Defaults to 0.

    Raises:
        InvalidValueError: If ``num_resamples`` is too small for an interval,
            or the detector has another number of classes.
    """

    def __init__(self,
                 detector: nn.Module,
                 dataloader: DataLoader,
                 corruption: ImageCorruption,
                 class_names: Sequence[str],
                 num_resamples: int = NUM_RESAMPLES,
                 seed: int = 0) -> None:
        if num_resamples:
            check_resampling(num_resamples, CONFIDENCE)
        _check_num_classes(detector, len(class_names))
        self._detector = detector
        self._dataloader = dataloader
        self._corruption = corruption
        self._class_names = class_names
        self._num_resamples = num_resamples
        self._seed = seed

    def measure(self, shift: Shift) -> Cell:
        """Run the detector on all images under a shift, and measure it.

        Args:
            shift (Shift): Change of the images.

        Returns:
            Cell: Shift with its figures.
        """
        collected = self.collect(shift)
        return Cell(
            shift, measured_figures(collected, self._num_resamples,
                                    self._seed), len(collected.detections))

    def collect(self, shift: Shift) -> CollectedDetections:
        """Run the detector on all images under a shift.

        Args:
            shift (Shift): Change of the images.

        Returns:
            CollectedDetections: Objects and detections.
        """
        batches: Iterable[dict] = self._dataloader
        if shift.kind == 'attack':
            batches = AttackedBatches(batches, self._detector, shift.name,
                                      shift.strength, self._seed)
        elif shift.kind == 'corruption':
            self._corruption.choose(shift.name, int(shift.strength))
        try:
            return collect_detections(self._detector, batches,
                                      len(self._class_names),
                                      self._class_names)
        finally:
            self._corruption.choose('', 0)


def measured_figures(collected: CollectedDetections, num_resamples: int,
                     seed: int) -> Figures:
    """Figures of detections, and of resamples of their images.

    Args:
        collected (CollectedDetections): Objects and detections.
        num_resamples (int): Number of bootstrap samples; 0 for none.
        seed (int): Random seed of the bootstrap samples.

    Returns:
        Figures: Figures with the keys of ``FIGURES``.
    """
    ground_truth, detections, _ = collected
    if num_resamples == 0:
        values = DetectionCalibrationReport.from_detections(
            ground_truth, detections).figures(FIGURES)
        return Figures(values, dict.fromkeys(FIGURES, np.zeros(0)))
    resampled, = resample_figures(ground_truth, [detections], num_resamples,
                                  seed)
    return Figures({key: resampled.values[key]
                    for key in FIGURES},
                   {key: resampled.resamples[key]
                    for key in FIGURES})


def _check_num_classes(detector: nn.Module, num_classes: int) -> None:
    for name, module in detector.named_modules():
        head_classes = getattr(module, 'num_classes', num_classes)
        if 'bbox_head' in name.split('.')[-2:] and head_classes != num_classes:
            raise InvalidValueError(
                f'the data set must have the classes of the detector, but '
                f'names {num_classes} and `{name}` has {head_classes}: set '
                '`metainfo.classes` of the dataset, or the `num_classes` of '
                'the head')
