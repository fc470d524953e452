"""One temperature for all classes."""
from typing import Any, Dict, Optional

from torch import Tensor

from tcal_det.arguments import check_count, check_positive
from tcal_det.evaluation.functional.array_checks import check_choice
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .calibration_data import ACTIVATIONS, check_calibration_data, check_fitted
from .calibrator import Calibrator, check_scale
from .fitting import fit_temperature, fit_temperature_by_ece

FIT_BY_OBJECTIVE = dict(nll=fit_temperature, ece=fit_temperature_by_ece)


@MODELS.register_module()
class TemperatureScaling(Calibrator):
    r"""Divide the teacher's logits by one temperature: :math:`z_t / T`.

    The ranking of the classes, and so the accuracy, never changes. T > 1
    makes an over-confident teacher less sure; the student is never divided.

    Args:
        temperature (float, optional): > 0; 1.5 to 3.0 is the useful range of
            the paper. Defaults to 1.5.
        softening (float, optional): Multiplies the temperature, > 0: T =
            temperature * softening. Above 1 it makes a calibrated teacher
            slightly under-confident, which the paper finds best. May be
            given with ``load_from``. Defaults to 1.0.
        activation (str, optional): What the head applies to the logits,
            'softmax' or 'sigmoid'; only fitting depends on it. Defaults to
            'softmax'.
        num_classes (int, optional): Columns of the logits that it was fitted
            to, background included for softmax. Defaults to None, any.
        load_from (str, optional): Read the parameters from this JSON file.
            Defaults to None.

    Example:
        >>> TemperatureScaling(temperature=2.0, softening=1.25)
        TemperatureScaling(temperature=2.0, softening=1.25, effective_temperature=2.5)

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML
    2017, section 4.2; Kim et al., arXiv 2508.20224.
    """  # noqa: E501

    fitted_parameters = ('temperature', )
    beside_file = ('softening', )

    def __init__(self,
                 temperature: Optional[float] = None,
                 softening: Optional[float] = None,
                 activation: Optional[str] = None,
                 num_classes: Optional[int] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(
            dict(
                temperature=temperature,
                softening=softening,
                activation=activation,
                num_classes=num_classes), load_from)

    def _set_parameters(self, temperature: Optional[float],
                        softening: Optional[float], activation: Optional[str],
                        num_classes: Optional[int]) -> None:
        self.temperature = check_positive(
            'temperature', 1.5 if temperature is None else temperature)
        self.softening = check_positive(
            'softening', 1.0 if softening is None else softening)
        check_scale('temperature * softening', self.effective_temperature)
        self.activation = check_choice(
            'activation', 'softmax' if activation is None else activation,
            ACTIVATIONS)
        self.num_classes = (None if num_classes is None else check_count(
            'num_classes', num_classes))

    @property
    def effective_temperature(self) -> float:
        """What the logits are divided by."""
        return self.temperature * self.softening

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, C).

        Returns:
            Tensor: Same shape, at least float32.
        """
        self.check_num_classes(logits.shape[1])
        return at_least_float32(logits) / self.effective_temperature

    def fit(self,
            logits: Tensor,
            labels: Tensor,
            objective: str = 'nll') -> 'TemperatureScaling':
        """Find the temperature on held-out samples; ``softening`` stays.

        Args:
            logits (Tensor): The teacher's, uncalibrated, shape (N, C).
            labels (Tensor): Shape (N,): softmax in [0, C), background is
                C - 1; sigmoid in [0, C], background is C.
            objective (str): What is smallest at the temperature: 'nll', the
                negative log-likelihood, or 'ece', the expected calibration
                error of the predicted class. Defaults to 'nll'.

        Returns:
            TemperatureScaling: Itself.

        Raises:
            InvalidTypeError, InvalidValueError: If the samples or the
                objective are not as described, or the temperature is beyond
                the numbers of the logits' own type.
        """
        check_choice('objective', objective, tuple(FIT_BY_OBJECTIVE))
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        temperature = FIT_BY_OBJECTIVE[objective](logits, labels,
                                                  self.activation)
        check_fitted('temperature', temperature * self.softening, logits.dtype)
        self.temperature = temperature
        self.num_classes = logits.shape[1]
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """``{"type": ..., ...}``, which a config takes as it is."""
        return dict(
            type='TemperatureScaling',
            temperature=self.temperature,
            softening=self.softening,
            activation=self.activation,
            num_classes=self.num_classes)

    def extra_repr(self) -> str:
        """What the run's log prints of it."""
        parts = [f'temperature={self.temperature}']
        if self.softening != 1:
            parts += [
                f'softening={self.softening}',
                f'effective_temperature={self.effective_temperature}'
            ]
        if self.activation != 'softmax':
            parts.append(f'activation={self.activation!r}')
        if self.num_classes is not None:
            parts.append(f'num_classes={self.num_classes}')
        return ', '.join(parts)
