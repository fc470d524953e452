"""Softening of sigmoid scores towards the base rate."""
import math
from typing import Any, Dict, List, Optional

import numpy as np
from torch import Tensor

from tcal_det.errors import InvalidValueError
from .calibration_data import mean_target
from .calibrator import REFIT, check_inner_fraction, check_scale


class SofteningMixin:
    r"""Mixin for calibrators that soften the logits of a sigmoid head.

    The softened logit is :math:`b + (z - b) / s` with the softening s and the
    logit b of the base rate, the mean target over all (sample, class) pairs.
    For s > 1 every score moves towards the base rate. Nearly all pairs of a
    detector are background. A division by s alone would move their scores
    towards one half, and their sum would then exceed that of all objects.

    Attributes:
        softening (float): Softening s, > 0; 1 changes nothing.
        base_rate (float, optional): Base rate, in (0, 1); needed unless s is
            1.
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
        """Check the number of columns, and the base rate if it is needed."""
        super().check_cls_channels(cls_channels)
        if (self.activation == 'sigmoid' and self.softening != 1
                and self.base_rate is None):
            raise InvalidValueError(
                f'{type(self).__name__} must have `base_rate`, in (0, 1), '
                f'where `softening` is not 1, but has none with softening='
                f'{self.softening:g}: give the mean target over all samples '
                f'and classes, or {REFIT}')

    def _soften(self, logits: Tensor) -> Tensor:
        if self.softening == 1:
            return logits
        pivot = math.log(self.base_rate) - math.log1p(-self.base_rate)
        return pivot + (logits - pivot) / self.softening

    def _fitted_base_rate(self, labels: np.ndarray, cls_channels: int,
                          base_rate: Optional[float]) -> float:
        """Return the given base rate, or the mean target of the samples."""
        if base_rate is None:
            return mean_target(labels, cls_channels)
        return check_inner_fraction('base_rate', base_rate)

    def _softening_to_json(self) -> Dict[str, Any]:
        return dict(softening=self.softening, base_rate=self.base_rate)

    def _softening_repr(self) -> List[str]:
        if self.softening == 1:
            return []
        return [f'softening={self.softening}', f'base_rate={self.base_rate}']
