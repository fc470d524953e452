"""Calibrator with a scale and a bias for each class."""
from typing import Any, Callable, Dict, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .calibration_data import check_calibration_data, check_fitted
from .calibrator import Calibrator, check_bias, check_scale
from .fitting import fit_vector_scaling


@MODELS.register_module()
class VectorScaling(Calibrator):
    r"""Scale and shift the teacher's logits class by class.

    The calibrated logit is :math:`w_k z_k + b_k`; for softmax heads. Unlike
    one temperature, it can correct a background class that is over-confident
    while the object classes are not. It can change the ranking of the
    classes, and needs samples of each class.

    Args:
        scale (Sequence[float], optional): Scales w, > 0, shape (C,),
            background last. Defaults to None: to be fitted.
        bias (Sequence[float], optional): Biases b, shape (C,). Defaults to
            None: to be fitted.
        load_from (str, optional): Path to a JSON file with the parameters.
            Defaults to None.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
        section 4.2.
    """

    activation = 'softmax'
    fitted_parameters = ('scale', 'bias')

    def __init__(self,
                 scale: Optional[Sequence[float]] = None,
                 bias: Optional[Sequence[float]] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(dict(scale=scale, bias=bias), load_from)

    def _set_parameters(self, scale: Optional[Sequence[float]],
                        bias: Optional[Sequence[float]]) -> None:
        if (scale is None) != (bias is None):
            raise InvalidValueError(
                '`scale` and `bias` must be given together or not at all, '
                f'but got scale={scale!r} and bias={bias!r}')
        scale = _as_vector('scale', scale, check_scale)
        bias = _as_vector('bias', bias, check_bias)
        if scale is not None and scale.shape != bias.shape:
            raise InvalidValueError(
                '`scale` and `bias` must have one entry per class, but got '
                f'{len(scale)} and {len(bias)} entries')
        # Not in the state dict: the parameters are stored as JSON.
        self.register_buffer('scale', scale, persistent=False)
        self.register_buffer('bias', bias, persistent=False)

    @property
    def cls_channels(self) -> Optional[int]:
        """Number of columns, including background; None if not fitted."""
        return None if self.scale is None else len(self.scale)

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, C).

        Returns:
            Tensor: Calibrated logits, same shape, at least float32.
        """
        self.check_cls_channels(logits.shape[1])
        logits = at_least_float32(logits)
        return logits * self.scale.to(logits) + self.bias.to(logits)

    def fit(self, logits: Tensor, labels: Tensor) -> 'VectorScaling':
        """Fit scales and biases with the smallest NLL on held-out samples.

        Args:
            logits (Tensor): Uncalibrated logits of the teacher, shape (N, C).
            labels (Tensor): Labels in [0, C), where C - 1 is background,
                shape (N,).

        Returns:
            VectorScaling: This calibrator.

        Raises:
            InvalidTypeError: If the samples have a wrong type.
            InvalidValueError: If the samples have a wrong shape or value.
        """
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        scale, bias = fit_vector_scaling(logits, labels)
        check_fitted('scale', scale, logits.dtype)
        check_fitted('bias', bias, logits.dtype)
        self._set_parameters(scale=scale.tolist(), bias=bias.tolist())
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """Return the config dict ``{"type": ..., ...}`` of this calibrator."""
        return dict(
            type='VectorScaling',
            scale=None if self.scale is None else self.scale.tolist(),
            bias=None if self.bias is None else self.bias.tolist())

    def extra_repr(self) -> str:
        """Return the parameters that ``repr`` and the log show."""
        if not self.is_fitted:
            return 'not fitted'
        return (f'cls_channels={self.cls_channels}, '
                f'scale={_as_range(self.scale)}, bias={_as_range(self.bias)}')


def _as_vector(name: str, values: Optional[Sequence[float]],
               check: Callable[[str, float], float]) -> Optional[Tensor]:
    """Convert numbers that pass ``check`` to a float64 tensor, shape (C,)."""
    if values is None:
        return None
    if isinstance(values, (np.ndarray, Tensor)):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        raise InvalidTypeError(f'`{name}` must be a list of numbers, but got '
                               f'{shortened(values)}')
    if len(values) < 2:
        raise InvalidValueError(
            f'`{name}` must be a list of at least 2 numbers, one per class '
            f'with background last, but got {shortened(values)}')
    numbers = [
        check(f'{name}[{index}]', value) for index, value in enumerate(values)
    ]
    return torch.tensor(numbers, dtype=torch.float64)


def _as_range(vector: Tensor) -> str:
    return f'{vector.min().item():.4g}..{vector.max().item():.4g}'
