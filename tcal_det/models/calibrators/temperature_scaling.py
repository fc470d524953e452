"""Calibrator with one temperature for all classes."""
from typing import Any, Dict, Optional

from torch import Tensor

from tcal_det.checks import check_choice, check_count, check_positive
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .calibration_data import (ACTIVATIONS, Labels, Logits,
                               check_calibration_data, check_fitted)
from .calibrator import REFIT, Calibrator, check_scale
from .fitting import fit_temperature, fit_temperature_by_ece
from .softening import SofteningMixin

FIT_BY_OBJECTIVE = dict(nll=fit_temperature, ece=fit_temperature_by_ece)


@MODELS.register_module()
class TemperatureScaling(SofteningMixin, Calibrator):
    r"""Divide the teacher's logits by one temperature: :math:`z_t / T`.

    For softmax and sigmoid heads. The ranking of the classes, and so the
    accuracy, never changes. T > 1 makes an over-confident teacher less
    confident; the student's logits are never divided. Sigmoid heads trained
    with focal or quality focal loss are under-confident and need T < 1. Focal
    loss also causes an offset, which only :class:`PlattScaling` or
    :class:`FocalPosterior` removes.

    Args:
        temperature (float, optional): Temperature, > 0; 1.5 to 3.0 is the
            useful range of the paper, for softmax. Defaults to 1.5 for
            softmax, and to None, to be fitted, for sigmoid.
        softening (float, optional): Additional softening, > 0; above 1 it
            makes a calibrated teacher slightly under-confident, which the
            paper finds best. For softmax it multiplies the temperature: T =
            temperature * softening. For sigmoid it divides the distance of
            the calibrated logits from the base rate's logit, see
            :class:`SofteningMixin`. May be given with ``load_from``. Defaults
            to 1.0.
        activation (str, optional): Activation of the head, 'softmax' or
            'sigmoid'. Defaults to 'softmax'.
        cls_channels (int, optional): Number of columns of the logits in the
            fit, including background for softmax. Defaults to None: any
            number.
        base_rate (float, optional): Mean target over all pairs of a sample
            and a class, in (0, 1); used for sigmoid if ``softening`` is not
            1. Defaults to None: to be fitted.
        load_from (str, optional): Path to a JSON file with the parameters.
            Defaults to None.

    Example:
        >>> TemperatureScaling(temperature=2.0, softening=1.25)
        TemperatureScaling(temperature=2.0, softening=1.25, effective_temperature=2.5)
        >>> TemperatureScaling(activation='sigmoid')
        TemperatureScaling(not fitted, activation='sigmoid')

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
        section 4.2; Kim et al., arXiv 2508.20224.
    """  # noqa: E501

    fitted_parameters = ('temperature', )

    def __init__(self,
                 temperature: Optional[float] = None,
                 softening: Optional[float] = None,
                 activation: Optional[str] = None,
                 cls_channels: Optional[int] = None,
                 base_rate: Optional[float] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(
            dict(
                temperature=temperature,
                softening=softening,
                activation=activation,
                cls_channels=cls_channels,
                base_rate=base_rate), load_from)

    def _set_parameters(self, temperature: Optional[float],
                        softening: Optional[float], activation: Optional[str],
                        cls_channels: Optional[int],
                        base_rate: Optional[float]) -> None:
        self.activation = check_choice(
            'activation', 'softmax' if activation is None else activation,
            ACTIVATIONS)
        if temperature is None and self.activation == 'softmax':
            temperature = 1.5
        self.temperature = (None if temperature is None else check_positive(
            'temperature', temperature))
        self.softening = check_positive(
            'softening', 1.0 if softening is None else softening)
        if self.temperature is not None:
            check_scale('temperature * softening', self.effective_temperature)
            if self.activation == 'sigmoid':
                check_scale('temperature', self.temperature)
        self._set_softening(softening, base_rate)
        if self.activation == 'softmax':
            self._refuse_base_rate(base_rate)
        self.cls_channels = (None if cls_channels is None else check_count(
            'cls_channels', cls_channels))

    @property
    def effective_temperature(self) -> Optional[float]:
        """Temperature times softening; None if not fitted.

        It is the divisor of the logits of a softmax head.
        """
        if self.temperature is None:
            return None
        return self.temperature * self.softening

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, C).

        Returns:
            Tensor: Calibrated logits, same shape, at least float32.
        """
        self.check_cls_channels(logits.shape[1])
        logits = at_least_float32(logits)
        if self.activation == 'softmax':
            return logits / self.effective_temperature
        return self._soften(logits / self.temperature)

    def fit(self,
            logits: Logits,
            labels: Labels,
            objective: str = 'nll',
            base_rate: Optional[float] = None) -> 'TemperatureScaling':
        """Fit the temperature to held-out samples.

        ``softening`` does not change.

        Args:
            logits (Tensor): Uncalibrated logits of the teacher, shape (N, C).
            labels (Tensor): Labels, shape (N,): in [0, C) for softmax, where
                C - 1 is background; in [0, C] for sigmoid, where C is
                background. Or, for sigmoid, soft targets: floats in [0, 1],
                shape (N, C).
            objective (str): Quantity to minimise: 'nll', the negative
                log-likelihood, or 'ece', the expected calibration error of
                the predicted class. Defaults to 'nll'.
            base_rate (float, optional): For sigmoid, the mean target over
                all pairs of a sample and a class; needed if the given samples
                are a selection. Defaults to None: the mean target of the
                samples.

        Returns:
            TemperatureScaling: This calibrator.

        Raises:
            InvalidTypeError: If the samples or the options have a wrong type.
            InvalidValueError: If the samples or the options have a wrong
                shape or value, or the temperature is outside the range of the
                logits' type.
        """
        check_choice('objective', objective, tuple(FIT_BY_OBJECTIVE))
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        if self.activation == 'softmax':
            self._refuse_base_rate(base_rate)
        else:
            base_rate = self._fitted_base_rate(labels, logits.shape[1],
                                               base_rate)
        if objective == 'ece' and labels.ndim == 2:
            raise InvalidValueError(
                "`objective` must be 'nll' for soft targets, but got 'ece', "
                'which counts how often the predicted class is right: soft '
                'targets have no right class')
        temperature = FIT_BY_OBJECTIVE[objective](logits, labels,
                                                  self.activation)
        check_fitted('temperature', temperature * self.softening, logits.dtype)
        if self.activation == 'sigmoid':
            check_fitted('temperature', temperature, logits.dtype)
        self.temperature = temperature
        self.base_rate = base_rate
        self.cls_channels = logits.shape[1]
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """Return the config dict ``{"type": ..., ...}`` of this calibrator."""
        return dict(
            type='TemperatureScaling',
            temperature=self.temperature,
            softening=self.softening,
            base_rate=self.base_rate,
            activation=self.activation,
            cls_channels=self.cls_channels)

    def extra_repr(self) -> str:
        """Return the parameters that ``repr`` and the log show."""
        parts = [
            f'temperature={self.temperature}'
            if self.is_fitted else 'not fitted'
        ]
        if self.activation == 'sigmoid':
            parts += self._softening_repr()
            parts.append(f'activation={self.activation!r}')
        elif self.softening != 1:
            parts += [
                f'softening={self.softening}',
                f'effective_temperature={self.effective_temperature}'
            ]
        if self.cls_channels is not None:
            parts.append(f'cls_channels={self.cls_channels}')
        return ', '.join(parts)

    def _remedy_without_fit(self) -> str:
        # Only a sigmoid head's temperature can be missing.
        return (f'{REFIT}, or give `temperature` (below 1 for focal and '
                'quality focal heads, which are under-confident: the 1.5 of '
                'softmax heads is not valid for them)')

    def _refuse_base_rate(self, base_rate: Optional[float]) -> None:
        if base_rate is not None:
            raise InvalidValueError(
                '`base_rate` must be left out for softmax, where `softening` '
                f'multiplies the temperature, but got {base_rate!r}: remove '
                "it, or give activation='sigmoid'")
