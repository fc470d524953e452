"""Calibrator for heads that were trained with sigmoid focal loss."""
import math
from typing import Any, Dict, Optional

import torch
from torch import Tensor

from tcal_det.checks import check_count, check_non_negative
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .calibration_data import Labels, Logits, check_calibration_data
from .calibrator import Calibrator, check_inner_fraction
from .softening import SofteningMixin

LARGEST_GAMMA = 100.0
# 4 MiB of float32 per temporary tensor; there are about eight of them.
NUMBERS_PER_SLICE = 2**20


@MODELS.register_module()
class FocalPosterior(SofteningMixin, Calibrator):
    r"""Posterior probability for the score of a focal head, without a fit.

    For sigmoid heads trained with ``FocalLoss`` on 0/1 targets, such as
    RetinaNet, FCOS and ATSS. Not for IoU-aware heads (quality focal and
    varifocal loss), whose targets are not 0 or 1: fit
    :class:`PlattScaling` there.

    The minimum of the focal loss is not at the posterior :math:`\eta` but at
    a score p closer to one half, and the :math:`\alpha` used in detection
    shifts this minimum. Where the slope of the expected loss :math:`-\eta
    \alpha (1 - p)^\gamma \log p - (1 - \eta) (1 - \alpha) p^\gamma \log(1 -
    p)` is 0,

    .. math::
        \frac{\eta}{1 - \eta} = \frac{(1 - \alpha) B}{\alpha A}, \quad
        A = \frac{(1 - p)^\gamma}{p} - \gamma (1 - p)^{\gamma - 1} \log p,
        \quad
        B = \frac{p^\gamma}{1 - p} - \gamma p^{\gamma - 1} \log(1 - p),

    and the calibrated logit is the logarithm of that ratio. This assumes that
    the head has reached the minimum; over-fitting is not corrected.

    Args:
        alpha (float, optional): Weight of the target 1 in the loss, in
            (0, 1); the target 0 has weight 1 - alpha. Defaults to 0.25.
        gamma (float, optional): Exponent of the loss, in [0, 100]. Defaults
            to 2.0.
        cls_channels (int, optional): Number of columns that the logits must
            have. Defaults to None: any number.
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
        >>> scores = torch.tensor([[0.1, 0.3, 0.5, 0.7]])
        >>> calibrated = FocalPosterior()(scores.logit()).sigmoid()
        >>> [round(score, 3) for score in calibrated[0].tolist()]
        [0.008, 0.236, 0.75, 0.967]

    Reference:
        Charoenphakdee et al., "On Focal Loss for Class-Posterior Probability
        Estimation: A Theoretical Perspective", CVPR 2021, for alpha = 1/2;
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    """

    activation = 'sigmoid'
    fitted_parameters = ('alpha', 'gamma')

    def __init__(self,
                 alpha: Optional[float] = None,
                 gamma: Optional[float] = None,
                 cls_channels: Optional[int] = None,
                 softening: Optional[float] = None,
                 base_rate: Optional[float] = None,
                 load_from: Optional[str] = None) -> None:
        super().__init__(
            dict(
                alpha=alpha,
                gamma=gamma,
                cls_channels=cls_channels,
                softening=softening,
                base_rate=base_rate), load_from)

    def _set_parameters(self, alpha: Optional[float], gamma: Optional[float],
                        cls_channels: Optional[int],
                        softening: Optional[float],
                        base_rate: Optional[float]) -> None:
        self.alpha = check_inner_fraction('alpha',
                                          0.25 if alpha is None else alpha)
        self.gamma = check_non_negative('gamma',
                                        2.0 if gamma is None else gamma)
        if self.gamma > LARGEST_GAMMA:
            raise InvalidValueError(
                f'`gamma` must be in [0, {LARGEST_GAMMA:g}], but got '
                f"{self.gamma:g}: give the gamma of the teacher's focal loss")
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
        logits = at_least_float32(logits)
        # A dense head has millions of logits. Without slices, each step of
        # the formula would keep a copy of all of them.
        rows = max(NUMBERS_PER_SLICE // max(logits.shape[1], 1), 1)
        calibrated = torch.empty_like(logits)
        for begin in range(0, len(logits), rows):
            part = slice(begin, begin + rows)
            calibrated[part] = self._soften(
                focal_posterior_logit(logits[part], self.alpha, self.gamma))
        return calibrated

    def fit(self,
            logits: Logits,
            labels: Labels,
            base_rate: Optional[float] = None) -> 'FocalPosterior':
        """Store the number of columns and the base rate for ``softening``.

        ``alpha`` and ``gamma`` are parameters of the training loss; they are
        not fitted.

        Args:
            logits (Tensor): Uncalibrated logits of the teacher, shape (N, K).
            labels (Tensor): Labels in [0, K], where K is background, shape
                (N,); or soft targets: floats in [0, 1], shape (N, K).
            base_rate (float, optional): Mean target over all pairs of a
                sample and a class; needed if the given samples are a
                selection. Defaults to None: the mean target of the samples.

        Returns:
            FocalPosterior: This calibrator.

        Raises:
            InvalidTypeError: If the samples or the base rate have a wrong
                type.
            InvalidValueError: If the samples or the base rate have a wrong
                shape or value.
        """
        logits, labels = check_calibration_data(logits, labels,
                                                self.activation)
        self.base_rate = self._fitted_base_rate(labels, logits.shape[1],
                                                base_rate)
        self.cls_channels = logits.shape[1]
        return self

    def to_json_dict(self) -> Dict[str, Any]:
        """Return the config dict ``{"type": ..., ...}`` of this calibrator."""
        return dict(
            type='FocalPosterior',
            alpha=self.alpha,
            gamma=self.gamma,
            softening=self.softening,
            base_rate=self.base_rate,
            cls_channels=self.cls_channels)

    def extra_repr(self) -> str:
        """Return the parameters that ``repr`` and the log show."""
        parts = [f'alpha={self.alpha}', f'gamma={self.gamma}']
        parts += self._softening_repr()
        if self.cls_channels is not None:
            parts.append(f'cls_channels={self.cls_channels}')
        return ', '.join(parts)


def focal_posterior_logit(logits: Tensor, alpha: float,
                          gamma: float) -> Tensor:
    r"""Compute the logit of the posterior that belongs to a focal score.

    The expected focal loss of this posterior has its minimum at the score.
    With the logit z of the score and the softplus s, the result is

    .. math::
        \log \frac{1 - \alpha}{\alpha} + (\gamma - 1) z
        + \log(e^z + \gamma s(z)) - \log(e^{-z} + \gamma s(-z)).

    Without the first term this is an odd function. So it is computed for
    :math:`u = |z|`, where with :math:`x = e^{-u}` it is

    .. math::
        (\gamma + 1) u + \log(1 + \gamma x (u + \log(1 + x)))
        - \log(1 + \gamma \log(1 + x) / x).

    No term of this form overflows.

    Args:
        logits (Tensor): Logits of the scores, float32 or float64, any shape.
        alpha (float): Weight of the target 1 in the loss, in (0, 1).
        gamma (float): Exponent of the loss, in [0, 100].

    Returns:
        Tensor: Logits of the posterior, same shape and type; strictly
        increasing in each logit, except for rounding; infinite where the
        logit is infinite.
    """
    magnitude = logits.abs()
    # For a larger u, x is negligible next to 1. As x is also a divisor, the
    # bound prevents a division by 0.
    largest = -0.99 * math.log(torch.finfo(logits.dtype).tiny)
    bounded = magnitude.clamp(max=largest)
    x = torch.exp(-bounded)
    log1p_x = torch.log1p(x)
    posterior = ((gamma + 1) * magnitude + torch.log1p(gamma * x *
                                                       (bounded + log1p_x)) -
                 torch.log1p(gamma * log1p_x / x))
    offset = math.log1p(-alpha) - math.log(alpha)
    return offset + torch.sign(logits) * posterior
