"""Calibrator with one temperature per sample, from its largest logit."""
import math
from typing import Any, Dict, Optional

import torch
from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.registry import MODELS
from ..logits import at_least_float32, centred
from .calibration_data import (Labels, Logits, check_calibration_data,
                               check_fitted)
from .calibrator import Calibrator, check_scale
from .fitting import fit_temperature


@MODELS.register_module()
class MaxLogitScaling(Calibrator):
    r"""Scale each sample's logits so that the largest is always the same.

    .. math::
        \frac{z}{T(z)}, \qquad T(z) = \frac{\max_c z_c}{r}

    with centred logits, :math:`\sum_c z_c = 0`, and one ratio r for all
    samples; for softmax heads. The entropy of a softmax depends mainly on the
    ratio of the largest logit to the temperature, so all samples get about
    the same entropy: no sample stays so sharp that it gives no information
    about the other classes. The order of the classes does not change.

    **The teacher's confidence is lost**: an uncertain sample becomes as
    confident as a clear one, and a temperature that was applied to the
    teacher before has no effect. This is the opposite of a calibrated
    teacher. The calibrator exists to compare the two ideas.

    Difference from the paper: only the teacher's part of the method is
    implemented. The student's temperature and the sample weights are missing,
    as their formulas are not public at the time of writing. The logits are
    centred, as the value of the largest logit depends on an arbitrary offset.
    The ratio can be fitted to held-out samples by the smallest negative
    log-likelihood. Logits that do not vary stay equal; masked classes (a logit
    of -inf) stay masked and do not enter the scale.

    Args:
        ratio (float, optional): Ratio r, > 0. Defaults to None: to be fitted.
        cls_channels (int, optional): Number of columns of the logits in the
            fit, including background. Defaults to None: any number.
        load_from (str, optional): Path to a JSON file with the parameters.
            Defaults to None.

    Example:
        >>> calibrator = MaxLogitScaling(ratio=2.0)
        >>> calibrator(torch.tensor([[8., -8.], [1., 2.]])).tolist()
        [[2.0, -2.0], [-2.0, 2.0]]

    Reference:
        Luong et al., "Consistently Informative Soft-Label Temperature for
        Knowledge Distillation" (CIST), arXiv 2605.20357.
    """

    activation = 'softmax'
    fitted_parameters = ('ratio', )

    def __init__(self,
                 ratio: Optional[float] = None,
                 cls_channels: Optional[int] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(
            dict(ratio=ratio, cls_channels=cls_channels), load_from)

    def _set_parameters(self, ratio: Optional[float],
                        cls_channels: Optional[int]) -> None:
        self.ratio = None if ratio is None else check_scale('ratio', ratio)
        self.cls_channels = (None if cls_channels is None else check_count(
            'cls_channels', cls_channels))

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, C).

        Returns:
            Tensor: Calibrated logits, same shape, at least float32.
        """
        self.check_cls_channels(logits.shape[1])
        return self.ratio * with_largest_one(at_least_float32(logits))

    def fit(self, logits: Logits, labels: Labels) -> 'MaxLogitScaling':
        """Fit the ratio with the smallest NLL on held-out samples.

        Args:
            logits (Tensor): Uncalibrated logits of the teacher, shape (N, C).
            labels (Tensor): Labels in [0, C), where C - 1 is background,
                shape (N,).

        Returns:
            MaxLogitScaling: This calibrator.

        Raises:
            InvalidTypeError: If the samples have a wrong type.
            InvalidValueError: If the samples have a wrong shape or value.
        """
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        scaled = with_largest_one(torch.from_numpy(logits)).numpy()
        ratio = 1 / fit_temperature(scaled, labels)
        check_fitted('ratio', ratio, logits.dtype)
        self.ratio = ratio
        self.cls_channels = logits.shape[1]
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """Return the config dict ``{"type": ..., ...}`` of this calibrator."""
        return dict(
            type='MaxLogitScaling',
            ratio=self.ratio,
            cls_channels=self.cls_channels)

    def extra_repr(self) -> str:
        """Return the parameters that ``repr`` and the log show."""
        parts = [f'ratio={self.ratio}' if self.is_fitted else 'not fitted']
        if self.cls_channels is not None:
            parts.append(f'cls_channels={self.cls_channels}')
        return ', '.join(parts)


def with_largest_one(logits: Tensor) -> Tensor:
    """Centre the logits of each sample and divide them by the largest.

    Args:
        logits (Tensor): At least float32, shape (N, C).

    Returns:
        Tensor: Scaled logits, same shape and type; zeros where the logits do
        not vary.
    """
    deviations = centred(logits)
    largest = deviations.amax(dim=1, keepdim=True)
    # Rounding errors of logits that are all equal.
    size = logits.masked_fill(logits == -math.inf, 0).abs().amax(
        dim=1, keepdim=True)
    noise = logits.shape[1] * torch.finfo(logits.dtype).eps * size
    varies = largest > noise
    scaled = deviations / largest.where(varies, torch.ones_like(largest))
    is_constant = ~varies & (deviations != -math.inf)
    return scaled.masked_fill(is_constant, 0)
