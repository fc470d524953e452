"""Calibrator with one scale and one bias, for sigmoid heads."""
from typing import Any, Dict, Optional

from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .calibration_data import (Labels, Logits, check_calibration_data,
                               check_fitted)
from .calibrator import Calibrator, check_bias, check_scale
from .fitting import fit_platt_scaling
from .softening import SofteningMixin


@MODELS.register_module()
class PlattScaling(SofteningMixin, Calibrator):
    r"""Scale and shift a sigmoid head's logits: :math:`a z + b`.

    For every sigmoid head, independent of its loss; if fitted to soft
    targets, also for IoU-aware heads. All classes share one scale and one
    bias. Unlike a temperature, the bias can move the logit at which the score
    is one half. This is needed after focal loss, which shifts that point.

    Args:
        scale (float, optional): Scale a, > 0. Defaults to None: to be fitted.
        bias (float, optional): Bias b. Defaults to None: to be fitted.
        cls_channels (int, optional): Number of columns of the logits in the
            fit. Defaults to None: any number.
        softening (float, optional): Divisor of the distance from the base
            rate's logit, > 0; above 1 the calibrated teacher becomes slightly
            under-confident, see :class:`SofteningMixin`. May be given with
            ``load_from``. Defaults to 1.0.
        base_rate (float, optional): Mean target over all pairs of a sample
            and a class, in (0, 1); used if ``softening`` is not 1. Defaults
            to None: to be fitted.
        load_from (str, optional): Path to a JSON file with the parameters.
            Defaults to None.

    Example:
        >>> PlattScaling(scale=2.0, bias=1.0, softening=1.2, base_rate=0.01)
        PlattScaling(scale=2.0, bias=1.0, softening=1.2, base_rate=0.01)

    Reference:
        Platt, "Probabilistic outputs for support vector machines", 1999;
        Guo et al., ICML 2017, section 4.1.
    """

    activation = 'sigmoid'
    fitted_parameters = ('scale', 'bias')

    def __init__(self,
                 scale: Optional[float] = None,
                 bias: Optional[float] = None,
                 cls_channels: Optional[int] = None,
                 softening: Optional[float] = None,
                 base_rate: Optional[float] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(
            dict(
                scale=scale,
                bias=bias,
                cls_channels=cls_channels,
                softening=softening,
                base_rate=base_rate), load_from)

    def _set_parameters(self, scale: Optional[float], bias: Optional[float],
                        cls_channels: Optional[int],
                        softening: Optional[float],
                        base_rate: Optional[float]) -> None:
        if (scale is None) != (bias is None):
            raise InvalidValueError(
                '`scale` and `bias` must be given together or not at all, '
                f'but got scale={scale!r} and bias={bias!r}')
        self.scale = None if scale is None else check_scale('scale', scale)
        self.bias = None if bias is None else check_bias('bias', bias)
        self.cls_channels = (None if cls_channels is None else check_count(
            'cls_channels', cls_channels))
        self._set_softening(softening, base_rate)

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, K).

        Returns:
            Tensor: Calibrated logits, same shape, at least float32.
        """
        self.check_cls_channels(logits.shape[1])
        # In place: a dense head has millions of logits.
        scaled = (at_least_float32(logits) * self.scale).add_(self.bias)
        return self._soften(scaled)

    def fit(self,
            logits: Logits,
            labels: Labels,
            base_rate: Optional[float] = None) -> 'PlattScaling':
        """Fit scale and bias with the smallest NLL on held-out samples.

        ``softening`` does not change.

        Args:
            logits (Tensor): Uncalibrated logits of the teacher, shape (N, K).
            labels (Tensor): Labels in [0, K], where K is background, shape
                (N,); or soft targets: floats in [0, 1], shape (N, K).
            base_rate (float, optional): Mean target over all pairs of a
                sample and a class; needed if the given samples are a
                selection. Defaults to None: the mean target of the samples.

        Returns:
            PlattScaling: This calibrator.

        Raises:
            InvalidTypeError: If the samples or the base rate have a wrong
                type.
            InvalidValueError: If the samples or the base rate have a wrong
                shape or value.
        """
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        base_rate = self._fitted_base_rate(labels, logits.shape[1], base_rate)
        scale, bias = fit_platt_scaling(logits, labels)
        check_fitted('scale', scale, logits.dtype)
        check_fitted('bias', bias, logits.dtype)
        self.scale, self.bias = scale, bias
        self.base_rate = base_rate
        self.cls_channels = logits.shape[1]
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """Return the config dict ``{"type": ..., ...}`` of this calibrator."""
        return dict(
            type='PlattScaling',
            scale=self.scale,
            bias=self.bias,
            softening=self.softening,
            base_rate=self.base_rate,
            cls_channels=self.cls_channels)

    def extra_repr(self) -> str:
        """Return the parameters that ``repr`` and the log show."""
        parts = ([f'scale={self.scale}', f'bias={self.bias}']
                 if self.is_fitted else ['not fitted'])
        parts += self._softening_repr()
        if self.cls_channels is not None:
            parts.append(f'cls_channels={self.cls_channels}')
        return ', '.join(parts)
