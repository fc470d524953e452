"""KL divergence of standardised logits, independent of their scale.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import Optional

import torch
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from ..logits import centred
from .logit_kl_div_loss import logit_kl_div
from .logit_loss import LogitLoss

# Standard deviation, relative to the largest logit, below which logits count
# as constant. The gradient is of the order of its inverse.
MIN_DEVIATION = 1e-4


def standardized(logits: Tensor, smallest: float = 0.0) -> Tensor:
    r"""Scale logits to mean 0 and standard deviation 1 over the classes.

    .. math::
        \frac{z - \bar z}{\sigma(z)}, \qquad
        \sigma(z)^2 = \frac1C \sum_c (z_c - \bar z)^2

    The result does not change if the logits are multiplied by a positive
    number, or if a number is added. Logits that do not vary give zeros. If the
    deviation is below 1e-4 of the largest logit, the result decreases towards
    zeros, so that the gradient stays bounded.

    Args:
        logits (Tensor): Logits, at least float32, shape (N, C).
        smallest (float): Lower limit of the largest logit in that bound, so
            that logits near 0 also have a bounded gradient. Defaults to 0.0.

    Returns:
        Tensor: Standardised logits, same shape and type. A masked class (a
        logit of -inf) stays masked and does not enter mean and deviation.

    Example:
        >>> standardized(torch.tensor([[0., 4., 0., 4.]])).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]
    """
    is_masked = logits == -math.inf
    count = (~is_masked).sum(dim=1, keepdim=True).clamp(min=1)
    kept = logits.masked_fill(is_masked, 0)
    # In this unit no square overflows. The unit cancels in the result, so it
    # needs no gradient.
    unit = kept.detach().abs().amax(dim=1, keepdim=True)
    unit = unit.clamp(min=max(smallest, torch.finfo(logits.dtype).tiny))
    deviations = centred(logits / unit).masked_fill(is_masked, 0)
    deviation = deviations.norm(dim=1, keepdim=True) / count.to(logits).sqrt()
    scores = deviations / deviation.clamp(min=MIN_DEVIATION)
    return scores.masked_fill(is_masked, -math.inf)


@MODELS.register_module()
class LogitStandardizationLoss(LogitLoss):
    r"""KD on standardised logits, for softmax heads.

    .. math::
        T^2\,\mathrm{KL}\big(\mathrm{softmax}(Z(z_t)/T)\,\|\,
        \mathrm{softmax}(Z(z_s)/T)\big), \qquad
        Z(z) = \frac{z - \bar z}{\sigma(z)}

    averaged over samples; mean and standard deviation are over the classes
    of a sample. The logits of each model are divided by their own deviation,
    so the student learns the relations between the teacher's logits, and the
    scale of its own logits is free.

    **A temperature of the teacher has no effect**: it is part of the scale.
    The same is true for the confidence of a calibrated teacher. Standardised
    logits are at most :math:`\sqrt{C - 1}`. This limits the confidence that
    the student learns: to 0.54 for T = 2 and C = 81. The gradient is
    proportional to the inverse of the deviation of the student's logits: it is
    large at the start of a training, when the logits are near 0.

    Difference from the paper: a sample is a RoI, and background is one of the
    classes. For two classes the standardised logits are -1 and 1 for all
    logits: only the sign is left, which has no gradient. Logits that do not
    vary give zeros; a masked class (a logit of -inf) does not enter mean and
    deviation, and is treated as in :func:`logit_kl_div`.

    Args:
        temperature (float): Base temperature T of both models, > 0. Defaults
            to 2.0, as in the official code.
        loss_weight (float): Weight of this term, >= 0; the official code uses
            9 together with a classification loss of weight 0.1. Defaults to
            1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Sun et al., "Logit Standardization in Knowledge Distillation", CVPR
        2024, arXiv 2403.01427, algorithms 1 and 2.
    """

    def __init__(self,
                 temperature: float = 2.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.temperature = check_positive('temperature', temperature)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        # The teacher needs no lower limit: it has no gradient, and a large
        # temperature may have made its logits very small.
        return logit_kl_div(
            standardized(student, smallest=1.0), standardized(teacher),
            self.temperature)
