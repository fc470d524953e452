"""Decoupled knowledge distillation."""

from torch import Tensor

from tcal_det.checks import check_non_negative, check_positive
from tcal_det.registry import MODELS
from .logit_loss import LogitLoss
from .target_split import target_kl_div


@MODELS.register_module()
class DKDLoss(LogitLoss):
    r"""Decoupled knowledge distillation, for softmax heads.

    .. math::
        T^2 \big(\alpha\,\mathrm{KL}(b_t\|b_s) +
        \beta\,\mathrm{KL}(q_t\|q_s)\big)

    averaged over samples, with :math:`b = (p_y, 1 - p_y)` for the target
    class y and the softmax q over the non-target classes, both at temperature
    T. Unlike in KD, the non-target part does not have the factor
    :math:`1 - p_{t,y}`.

    Difference from the paper: a sample is a RoI and its target is the label
    from the student's sampler, which may be background. The defaults are
    those of the paper for detection.

    Args:
        alpha (float): Weight of the target part, >= 0. Defaults to 1.0.
        beta (float): Weight of the non-target part, >= 0. Defaults to 0.25.
        temperature (float): Temperature T of both models, > 0. Defaults to
            1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022,
        arXiv 2203.08679.
    """

    needs_labels = True

    def __init__(self,
                 alpha: float = 1.0,
                 beta: float = 0.25,
                 temperature: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.alpha = check_non_negative('alpha', alpha)
        self.beta = check_non_negative('beta', beta)
        self.temperature = check_positive('temperature', temperature)

    def per_sample_loss(  # type: ignore[override]  # by needs_labels
            self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        target, non_target = target_kl_div(student, teacher, labels,
                                           self.temperature)
        return self.alpha * target + self.beta * non_target
