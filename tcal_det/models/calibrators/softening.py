"""Softening of sigmoid heads, about the base rate."""
import math
from typing import Any, Dict, List, Optional

import numpy as np
from torch import Tensor

from tcal_det.errors import InvalidValueError
from .calibration_data import mean_target
from .calibrator import REFIT, check_inner_fraction, check_scale


class SofteningMixin:
    r"""Softens a sigmoid head's calibrated logits; for calibrators.

    :math:`b + (z - b) / s` with the softening s and b the logit of the base
    rate, the mean target over all (sample, class) pairs. Above 1 every score
    moves towards the base rate. Nearly all pairs of a detector are
    background; a division by s alone would move those towards one half, and
    their sum would outweigh all objects.

    Attributes:
        softening (float): s, > 0; 1 changes nothing.
        base_rate (float, optional): In (0, 1); needed unless s is 1.
    """

    beside_file = ('softening', )

    softening: float
    base_rate: Optional[float]

    def _set_softening(self, softening: Optional[float],
                       base_rate: Optional[float]) -> None:
        self.softening = check_scale('softening',
                                     1.0 if softening is None else softening)
        self.base_rate = (None if base_rate is None else check_inner_fraction(
            'base_rate', base_rate))

    def check_cls_channels(self, cls_channels: int) -> None:
        """Also refuse to soften without a base rate."""
        super().check_cls_channels(cls_channels)
        if (self.activation == 'sigmoid' and self.softening != 1
                and self.base_rate is None):
            raise InvalidValueError(
                f'{type(self).__name__} must have `base_rate`, in (0, 1), '
                f'where `softening` is not 1, but has none beside softening='
                f'{self.softening:g}: give the mean target over all samples '
                f'and classes, or {REFIT}')

    def _soften(self, logits: Tensor) -> Tensor:
        if self.softening == 1:
            return logits
        pivot = math.log(self.base_rate) - math.log1p(-self.base_rate)
        return pivot + (logits - pivot) / self.softening

    def _fitted_base_rate(self, labels: np.ndarray, cls_channels: int,
                          base_rate: Optional[float]) -> float:
        """The given one, or the mean target of checked samples."""
        if base_rate is None:
            return mean_target(labels, cls_channels)
        return check_inner_fraction('base_rate', base_rate)

    def _softening_to_json(self) -> Dict[str, Any]:
        return dict(softening=self.softening, base_rate=self.base_rate)

    def _softening_repr(self) -> List[str]:
        if self.softening == 1:
            return []
        return [f'softening={self.softening}', f'base_rate={self.base_rate}']
