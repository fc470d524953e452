"""KL divergence of standardised logits: how the classes relate, at no scale.

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
    r"""Logits with mean 0 and standard deviation 1 over the classes.

    .. math::
        \frac{z - \bar z}{\sigma(z)}, \qquad
        \sigma(z)^2 = \frac1C \sum_c (z_c - \bar z)^2

    Logits times a positive number, or plus any number, give the same. Logits
    that do not vary give zeros; below a deviation of 1e-4 of the largest
    logit they fade to that, so that the gradient stays bounded.

    Args:
        logits (Tensor): At least float32, shape (N, C).
        smallest (float): The largest logit of a sample counts as at least
            this for that bound, so that logits near 0 have a bounded
            gradient, too. Defaults to 0.0.

    Returns:
        Tensor: Same shape and type. A masked class (a logit of -inf) stays
        masked and has no part in mean and deviation.

    Example:
        >>> standardized(torch.tensor([[0., 4., 0., 4.]])).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]
    """
    is_masked = logits == -math.inf
    count = (~is_masked).sum(dim=1, keepdim=True).clamp(min=1)
    kept = logits.masked_fill(is_masked, 0)
    # In this unit no square overflows. It cancels, hence no gradient.
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
    of a sample. Each side is divided by its own deviation, so the student is
    free in the scale of its logits and learns how the teacher's relate.

    **A temperature of the teacher changes nothing here**: it is part of the
    scale. So is what a calibrated teacher says of how sure to be. Standard
    scores are at most :math:`\sqrt{C - 1}`, which bounds the confidence that
    is taught: at T = 2 and C = 81 to 0.54. The gradient goes by the inverse
    of the deviation of the student's logits: it is large at the start of a
    training, when they are near 0.

    Adapted: a sample is a RoI, background being one of the classes. For two
    classes standard scores are -1 and 1 whatever the logits: nothing but the
    sign is left, and it has no gradient. Logits that do not vary have the
    standard scores 0; a masked class (a logit of -inf) has no part in mean
    and deviation, and is treated as in :func:`logit_kl_div`.

    Args:
        temperature (float): The base temperature T of both sides, > 0.
            Defaults to 2.0, the one of the official code.
        loss_weight (float): Weight of this term, >= 0. The official code has
            9 beside a classification loss of weight 0.1. Defaults to 1.0.
        samples (str): Samples that count, as in :class:`LogitLoss`.
            Defaults to 'all'.

    Reference: Sun et al., "Logit Standardization in Knowledge Distillation",
    CVPR 2024, arXiv 2403.01427, algorithms 1 and 2.
    """

    def __init__(self,
                 temperature: float = 2.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.temperature = check_positive('temperature', temperature)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        # The teacher needs no bound: it has no gradient, and a temperature
        # may have made its logits as small as it likes.
        return logit_kl_div(
            standardized(student, smallest=1.0), standardized(teacher),
            self.temperature)
