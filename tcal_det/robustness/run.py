"""Measure what is wanted and not yet there, with the time that is left."""
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

# Without influence on what is measured.
_SPEED_KEYS = ('num_workers', 'persistent_workers', 'pin_memory',
               'prefetch_factor')


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
    taken = [one for one in shifts if one in cell_file.cells]
    if taken:
        say(f'{len(taken)} cells taken over from {cell_file.path}: '
            f'{_listed(taken)}')
    remaining = _RemainingTime(missing)
    for number, shift in enumerate(missing):
        say(f'{shift} (cell {number + 1} of {len(missing)}'
            f'{remaining.text(number)})')
        cell_file.add(shifted.measure(shift))
        remaining.done(shift)
    return [cell_file.cells[one] for one in shifts]


def _listed(shifts: Sequence[Shift]) -> str:
    """Each name once, with its strengths."""
    strengths: Dict[str, List[str]] = {}
    for shift in shifts:
        strengths.setdefault(shift.name, []).append(f'{shift.strength:g}')
    return ', '.join(name if name == CLEAN.name else ' '.join([name, *those])
                     for name, those in strengths.items())


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
        """Of the shifts from a number on; empty while nothing is known."""
        means = {key: np.mean(times) for key, times in self._seconds.items()}
        ahead = [_pace(shift) for shift in self._shifts[number:]]
        if not set(ahead) & set(means):
            return ''
        known = sum(means[pace] for pace in ahead if pace in means)
        unknown = sorted(set(ahead) - set(means))
        text = f', about {math.ceil(known / 60)} min left'
        return text + (f' before {", ".join(unknown)}' if unknown else '')


def _pace(shift: Shift) -> str:
    """Shifts of one name and kind take about the same time."""
    return {
        'attack': shift.name.upper(),
        'corruption': 'corruptions'
    }.get(shift.kind, shift.kind)


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
        # Images of the train split are prepared as those of the val split,
        # and the losses may look at masks that training loads.
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
