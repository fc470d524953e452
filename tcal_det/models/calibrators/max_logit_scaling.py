"""A temperature for each sample, by its largest logit."""
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
    r"""Divide each sample's logits so that the largest is always the same.

    .. math::
        \frac{z}{T(z)}, \qquad T(z) = \frac{\max_c z_c}{r}

    with the logits centred, :math:`\sum_c z_c = 0`, and one ratio r for all
    samples; for softmax heads. The entropy of a softmax goes, above all, by
    the ratio of the largest logit to the temperature, so all samples get
    about the same: none is left so sharp that it says nothing about the
    other classes. The order of the classes stays.

    **What a teacher says of how sure it is, is lost**: a doubtful sample is
    made as sure as a clear one, and whatever temperature the teacher was
    divided by before has no effect. That is the opposite of a calibrated
    teacher. It is here because the two ideas are to be compared.

    Adapted: only the teacher's side of the method. Its temperature of the
    student and its weights of the samples are not part of this package: what
    is public at the time of writing does not give their formulas. The logits
    are centred, as a largest logit means nothing while their offset is free.
    The ratio can be fitted to held-out samples, as the one with the smallest
    negative log-likelihood. Logits that do not vary stay equal; masked
    classes (a logit of -inf) stay masked and do not count.

    Args:
        ratio (float, optional): r, > 0. Defaults to None, to be fitted.
        cls_channels (int, optional): Columns of the logits that it was fitted
            to, background included. Defaults to None, any.
        load_from (str, optional): Read the parameters from this JSON file.
            Defaults to None.

    Example:
        >>> calibrator = MaxLogitScaling(ratio=2.0)
        >>> calibrator(torch.tensor([[8., -8.], [1., 2.]])).tolist()
        [[2.0, -2.0], [-2.0, 2.0]]

    Reference: Luong et al., "Consistently Informative Soft-Label Temperature
    for Knowledge Distillation" (CIST), arXiv 2605.20357.
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
            Tensor: Same shape, at least float32.
        """
        self.check_cls_channels(logits.shape[1])
        return self.ratio * with_largest_one(at_least_float32(logits))

    def fit(self, logits: Logits, labels: Labels) -> 'MaxLogitScaling':
        """Find the ratio with the smallest NLL on held-out samples.

        Args:
            logits (Tensor): The teacher's, uncalibrated, shape (N, C).
            labels (Tensor): In [0, C), background is C - 1, shape (N,).

        Returns:
            MaxLogitScaling: Itself.

        Raises:
            InvalidTypeError, InvalidValueError: If the samples are not as
                described.
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
        """``{"type": ..., ...}``, which a config takes as it is."""
        return dict(
            type='MaxLogitScaling',
            ratio=self.ratio,
            cls_channels=self.cls_channels)

    def extra_repr(self) -> str:
        """What the run's log prints of it."""
        parts = [f'ratio={self.ratio}' if self.is_fitted else 'not fitted']
        if self.cls_channels is not None:
            parts.append(f'cls_channels={self.cls_channels}')
        return ', '.join(parts)


def with_largest_one(logits: Tensor) -> Tensor:
    """Centred logits, divided by the largest.

    Args:
        logits (Tensor): At least float32, shape (N, C).

    Returns:
        Tensor: Same shape and type; zeros where the logits do not vary.
    """
    deviations = centred(logits)
    largest = deviations.amax(dim=1, keepdim=True)
    # What rounding makes of logits that are all the same.
    size = logits.masked_fill(logits == -math.inf, 0).abs().amax(
        dim=1, keepdim=True)
    noise = logits.shape[1] * torch.finfo(logits.dtype).eps * size
    varies = largest > noise
    scaled = deviations / largest.where(varies, torch.ones_like(largest))
    is_constant = ~varies & (deviations != -math.inf)
    return scaled.masked_fill(is_constant, 0)
