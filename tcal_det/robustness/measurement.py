"""Measure a detector under one shift after the other."""
import hashlib
import json
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

import numpy as np
import torch.nn as nn
from mmengine.config import Config
from torch.utils.data import DataLoader

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.bootstrap import check_resampling, resample_figures
from tcal_det.evaluation.functional import DetectionCalibrationReport
from tcal_det.fileio import plain_json
from tcal_det.teachers.detections import (CollectedDetections,
                                          collect_detections)
from .cell_file import CellFile
from .cells import CONFIDENCE, FIGURES, Cell, Figures
from .corruption import ImageCorruption
from .detector_attack import AttackedBatches
from .shifts import Shift

# Without influence on what is measured.
_SPEED_KEYS = ('num_workers', 'persistent_workers', 'pin_memory',
               'prefetch_factor')


class ShiftedDetector:
    """A detector on the same images under different shifts.

    Args:
        detector (nn.Module): In eval.
        dataloader (DataLoader): Of :func:`build_images`.
        corruption (ImageCorruption): Of the same call.
        class_names (Sequence[str]): In the order of the labels.
        num_resamples (int): Bootstrap samples of the images; 0 for no
            intervals. Defaults to 500.
        seed (int): Random seed of those and of the attacks. Defaults to 0.

    Raises:
        InvalidValueError: If no interval follows from so few samples, or
            the detector has another number of classes.
    """

    def __init__(self,
                 detector: nn.Module,
                 dataloader: DataLoader,
                 corruption: ImageCorruption,
                 class_names: Sequence[str],
                 num_resamples: int = 500,
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
        """Detect on all images under a shift, and measure.

        Args:
            shift (Shift): What is done to the images.
        """
        collected = self.collect(shift)
        return Cell(
            shift,
            measured_figures(collected, self._num_resamples, self._seed),
            len(collected.detections))

    def collect(self, shift: Shift) -> CollectedDetections:
        """Objects and detections under a shift.

        Args:
            shift (Shift): What is done to the images.
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
    """The figures of detections, and of resamples of their images.

    Args:
        collected (CollectedDetections): Objects and detections.
        num_resamples (int): Bootstrap samples; 0 for none.
        seed (int): Random seed of the samples.
    """
    ground_truth, detections, _ = collected
    if num_resamples == 0:
        values = DetectionCalibrationReport.of(ground_truth,
                                               detections).figures(FIGURES)
        return Figures(values, dict.fromkeys(FIGURES, np.zeros(0)))
    resampled, = resample_figures(ground_truth, [detections], num_resamples,
                                  seed)
    return Figures({key: resampled.values[key] for key in FIGURES},
                   {key: resampled.resamples[key] for key in FIGURES})


def measure_all(shifted: ShiftedDetector,
                shifts: Sequence[Shift],
                cell_file: CellFile,
                say: Callable[[str], None] = print) -> List[Cell]:
    """Measure the shifts that a file does not hold yet.

    Args:
        shifted (ShiftedDetector): Measures them.
        shifts (Sequence[Shift]): All that are wanted.
        cell_file (CellFile): Gets each cell as soon as it is measured.
        say (Callable): Called with lines on the progress. Defaults to print.

    Returns:
        list[Cell]: In the order of the shifts.
    """
    missing = [one for one in shifts if one not in cell_file.cells]
    if len(missing) < len(shifts):
        taken = ', '.join(
            str(one) for one in shifts if one in cell_file.cells)
        say(f'taken over from {cell_file.path}: {taken}')
    remaining = _RemainingTime(missing)
    for number, shift in enumerate(missing):
        say(f'{shift} (cell {number + 1} of {len(missing)}'
            f'{remaining.text(number)})')
        cell_file.add(shifted.measure(shift))
        remaining.done(shift)
    return [cell_file.cells[one] for one in shifts]


class _RemainingTime:
    """Seconds that are left, by what shifts of a kind have taken so far."""

    def __init__(self, shifts: Sequence[Shift]) -> None:
        self._shifts = shifts
        self._seconds: Dict[str, List[float]] = {}
        self._last = time.monotonic()

    def done(self, shift: Shift) -> None:
        now = time.monotonic()
        self._seconds.setdefault(_pace(shift), []).append(now - self._last)
        self._last = now

    def text(self, number: int) -> str:
        """Of the shifts from a number on; empty before any was measured."""
        if not self._seconds:
            return ''
        means = {key: np.mean(times) for key, times in self._seconds.items()}
        ahead = [_pace(shift) for shift in self._shifts[number:]]
        known = sum(means[pace] for pace in ahead if pace in means)
        minutes = int(round(known / 60))
        unknown = sorted(set(ahead) - set(means))
        text = f'about {minutes} min left' if minutes else 'under a minute'
        return f', {text}' + (f' without {" and ".join(unknown)}'
                              if unknown else '')


def _pace(shift: Shift) -> str:
    """Shifts of one name and kind take about the same time."""
    return shift.name if shift.kind == 'attack' else shift.kind


def settings_of(cfg: Config, detector: nn.Module, split: str,
                max_images: Optional[int], num_resamples: int,
                seed: int) -> Dict[str, Any]:
    """What the figures depend on beside the shift, for :class:`CellFile`.

    Args:
        cfg (Config): Of the detector.
        detector (nn.Module): With its weights.
        split (str): 'test', 'val' or 'train'.
        max_images (int, optional): Largest number of images.
        num_resamples (int): Bootstrap samples of the images.
        seed (int): Random seed.
    """
    weights = hashlib.sha256()
    for name, value in sorted(detector.state_dict().items()):
        weights.update(name.encode())
        weights.update(value.cpu().numpy().tobytes())
    loader = {
        key: value
        for key, value in cfg[f'{split}_dataloader'].items()
        if key not in _SPEED_KEYS
    }
    return dict(
        weights=weights.hexdigest(),
        model=_digest(cfg['model']),
        dataloader=_digest(loader),
        split=split,
        max_images=max_images,
        num_resamples=num_resamples,
        seed=seed)


def _digest(part: Any) -> str:
    text = json.dumps(plain_json(part), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_num_classes(detector: nn.Module, num_classes: int) -> None:
    for name, module in detector.named_modules():
        own = getattr(module, 'num_classes', num_classes)
        if 'bbox_head' in name.split('.')[-2:] and own != num_classes:
            raise InvalidValueError(
                f'the data set must have the classes of the detector, but '
                f'names {num_classes} and `{name}` has {own}: set '
                '`metainfo.classes` of the dataset, or the `num_classes` of '
                'the head')
