"""One scale and one bias for sigmoid heads."""
from typing import Any, Dict, Optional

from torch import Tensor

from tcal_det.arguments import check_count
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .calibration_data import check_calibration_data, check_fitted
from .calibrator import Calibrator, check_bias, check_scale
from .fitting import fit_platt_scaling


@MODELS.register_module()
class PlattScaling(Calibrator):
    r"""Scale and shift a sigmoid head's logits: :math:`a z + b`.

    One pair for all classes. Unlike a temperature it can move the point at
    which a score is one half, which focal loss leaves far from where it
    belongs.

    Args:
        scale (float, optional): a, > 0. Defaults to None, to be fitted.
        bias (float, optional): b. Defaults to None, to be fitted.
        num_classes (int, optional): Columns of the logits that it was fitted
            to. Defaults to None, any.
        load_from (str, optional): Read the parameters from this JSON file.
            Defaults to None.

    Reference: Platt, "Probabilistic outputs for support vector machines",
    1999; Guo et al., ICML 2017, section 4.1.
    """

    activation = 'sigmoid'
    fitted_parameters = ('scale', 'bias')

    def __init__(self,
                 scale: Optional[float] = None,
                 bias: Optional[float] = None,
                 num_classes: Optional[int] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(
            dict(scale=scale, bias=bias, num_classes=num_classes), load_from)

    def _set_parameters(self, scale: Optional[float], bias: Optional[float],
                        num_classes: Optional[int]) -> None:
        if (scale is None) != (bias is None):
            raise InvalidValueError(
                '`scale` and `bias` must be given together or not at all, '
                f'but got scale={scale!r} and bias={bias!r}')
        self.scale = None if scale is None else check_scale('scale', scale)
        self.bias = None if bias is None else check_bias('bias', bias)
        self.num_classes = (None if num_classes is None else check_count(
            'num_classes', num_classes))

    def check_num_classes(self, num_classes: int) -> None:
        """Refuse another number of columns, or to serve without a fit."""
        if self.scale is None:
            raise InvalidValueError(
                'PlattScaling must have `scale` and `bias`, or `load_from`, '
                'but has none: call `fit` with held-out logits and labels')
        super().check_num_classes(num_classes)

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, K).

        Returns:
            Tensor: Same shape, at least float32.
        """
        self.check_num_classes(logits.shape[1])
        return at_least_float32(logits) * self.scale + self.bias

    def fit(self, logits: Tensor, labels: Tensor) -> 'PlattScaling':
        """Find scale and bias with the smallest NLL on held-out samples.

        Args:
            logits (Tensor): The teacher's, uncalibrated, shape (N, K).
            labels (Tensor): In [0, K], K is background, shape (N,).

        Returns:
            PlattScaling: Itself.

        Raises:
            InvalidTypeError, InvalidValueError: If the samples are not as
                described.
        """
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        scale, bias = fit_platt_scaling(logits, labels)
        check_fitted('scale', scale, logits.dtype)
        check_fitted('bias', bias, logits.dtype)
        self.scale, self.bias = scale, bias
        self.num_classes = logits.shape[1]
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """``{"type": ..., ...}``, which a config takes as it is."""
        return dict(
            type='PlattScaling',
            scale=self.scale,
            bias=self.bias,
            num_classes=self.num_classes)

    def extra_repr(self) -> str:
        """What the run's log prints of it."""
        if self.scale is None:
            return 'not fitted'
        return (f'scale={self.scale}, bias={self.bias}, '
                f'num_classes={self.num_classes}')
