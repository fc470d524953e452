"""Transformed teacher matching with a weight for each sample.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
from typing import Optional

import torch
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from .logit_kl_div_loss import logit_kl_div
from .logit_loss import LogitLoss


def power_sum(logits: Tensor, exponent: float) -> Tensor:
    r"""Compute the power sum of the probabilities, :math:`\sum_c p_c^\gamma`.

    It is 1 for a one-hot distribution and :math:`C^{1-\gamma}` for a uniform
    one: a measure of ambiguity for :math:`\gamma < 1`.

    Args:
        logits (Tensor): Unnormalised scores, shape (N, C).
        exponent (float): Exponent :math:`\gamma`.

    Returns:
        Tensor: Power sum of each sample, shape (N,).

    Example:
        >>> print(f'{power_sum(torch.zeros(1, 4), .5).item():.4f}')
        2.0000
    """
    log_sum = torch.logsumexp(exponent * logits, dim=1)
    return (log_sum - exponent * torch.logsumexp(logits, dim=1)).exp()


@MODELS.register_module()
class WTTMLoss(LogitLoss):
    r"""Weighted transformed teacher matching, for softmax heads.

    .. math::
        U_\gamma(p_t)\,\mathrm{KL}\big(\mathrm{softmax}(z_t/T)\,\|\,
        \mathrm{softmax}(z_s)\big), \qquad
        U_\gamma(p_t) = \sum_c p_{t,c}^\gamma, \quad \gamma = 1/T

    averaged over samples. Ambiguous samples have a larger weight. The student
    is not softened and there is no factor :math:`T^2`. Without the weight
    (TTM) this is :class:`LogitKLDivLoss` with a teacher calibrated by T.

    The weight needs the teacher's *raw* logits, so the temperature is an
    argument of the loss: use the loss without a calibrator. On calibrated
    logits, T would soften a second time.

    Difference from the paper: a sample is a RoI, and background is one of the
    classes.

    Args:
        temperature (float): Temperature T of the teacher only, > 0. Defaults
            to 1.5.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher
        Matching", ICLR 2024, arXiv 2402.11148.
    """

    def __init__(self,
                 temperature: float = 1.5,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.temperature = check_positive('temperature', temperature)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        matching = logit_kl_div(student, teacher / self.temperature)
        return power_sum(teacher, 1 / self.temperature) * matching
