"""Measure all shifts that are not measured yet, with progress messages."""
import hashlib
import json
import math
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config

from tcal_det.fileio import plain_json
from .cell_file import CellFile
from .cells import Cell
from .measurement import ShiftedDetector
from .shifts import CLEAN, Shift

# Keys of a dataloader that do not change the measurements.
_SPEED_KEYS = ('num_workers', 'persistent_workers', 'pin_memory',
               'prefetch_factor')


def measure_all(shifted: ShiftedDetector,
                shifts: Sequence[Shift],
                cell_file: CellFile,
                log: Callable[[str], None] = print) -> List[Cell]:
    """Measure the shifts that a file does not hold yet.

    Args:
        shifted (ShiftedDetector): Detector to measure.
        shifts (Sequence[Shift]): All shifts of the result.
        cell_file (CellFile): File of the measured cells; each new cell is
            added at once.
        log (Callable): Function that prints a line about the progress.
            Defaults to print.

    Returns:
        list[Cell]: Measured cells in the order of the shifts.
    """
    missing = [shift for shift in shifts if shift not in cell_file.cells]
    reused = [shift for shift in shifts if shift in cell_file.cells]
    if reused:
        log(f'{len(reused)} cells taken over from {cell_file.path}: '
            f'{_listed(reused)}')
    remaining = _RemainingTime(missing)
    for number, shift in enumerate(missing):
        log(f'{shift} (cell {number + 1} of {len(missing)}'
            f'{remaining.text(number)})')
        cell_file.add(shifted.measure(shift))
        remaining.done(shift)
    return [cell_file.cells[shift] for shift in shifts]


def _listed(shifts: Sequence[Shift]) -> str:
    """List the shifts as text: each name once, with its strengths."""
    strengths: Dict[str, List[str]] = {}
    for shift in shifts:
        strengths.setdefault(shift.name, []).append(f'{shift.strength:g}')
    return ', '.join(name if name == CLEAN.name else ' '.join([name, *values])
                     for name, values in strengths.items())


class _RemainingTime:
    """Estimate of the remaining time from the finished shifts of each kind."""

    def __init__(self, shifts: Sequence[Shift]) -> None:
        self._shifts = shifts
        self._seconds: Dict[str, List[float]] = {}
        self._last = time.monotonic()

    def done(self, shift: Shift) -> None:
        now = time.monotonic()
        self._seconds.setdefault(_duration_group(shift),
                                 []).append(now - self._last)
        self._last = now

    def text(self, number: int) -> str:
        """Remaining time from a shift on; '' if there is no estimate yet."""
        means = {key: np.mean(times) for key, times in self._seconds.items()}
        groups = [_duration_group(shift) for shift in self._shifts[number:]]
        if not set(groups) & set(means):
            return ''
        known = sum(means[group] for group in groups if group in means)
        unknown = sorted(set(groups) - set(means))
        text = f', about {math.ceil(known / 60)} min left'
        return text + (f' before {", ".join(unknown)}' if unknown else '')


def _duration_group(shift: Shift) -> str:
    """Name of a group of shifts that take about the same time."""
    return {
        'attack': shift.name.upper(),
        'corruption': 'corruptions'
    }.get(shift.kind, shift.kind)


def settings_of(cfg: Config, detector: nn.Module, split: str,
                max_images: Optional[int], num_resamples: int,
                seed: int) -> Dict[str, Any]:
    """Collect the settings that the figures depend on besides the shift.

    Args:
        cfg (Config): Config of the detector.
        detector (nn.Module): Detector with its weights.
        split (str): Name of the split: 'test', 'val' or 'train'.
        max_images (int, optional): Maximum number of images; None for all.
        num_resamples (int): Number of bootstrap samples of the images.
        seed (int): Random seed of the measurements.

    Returns:
        dict[str, Any]: Plain values for :class:`CellFile`.
    """
    weights = hashlib.sha256()
    for name, value in sorted(detector.state_dict().items()):
        weights.update(name.encode())
        # numpy has no bfloat16.
        bits = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        weights.update(bits.numpy().tobytes())
    loader = {
        key: value
        for key, value in cfg[f'{split}_dataloader'].items()
        if key not in _SPEED_KEYS
    }
    return dict(
        weights=weights.hexdigest(),
        model=_digest(cfg['model']),
        dataloader=_digest(loader),
        # Images of the train split use the pipeline of the val split, and the
        # losses can need masks that the training pipeline loads.
        other_datasets=_digest([
            cfg.get(f'{name}_dataloader', {}).get('dataset')
            for name in ('train', 'val')
        ]),
        split=split,
        max_images=max_images,
        num_resamples=num_resamples,
        seed=seed)


def _digest(part: Any) -> str:
    text = json.dumps(plain_json(part), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
