"""Kullback-Leibler divergence between teacher and student, for softmax heads.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .logit_loss import LogitLoss


def logit_kl_div(student_logits: Tensor,
                 teacher_logits: Tensor,
                 temperature: float = 1.0) -> Tensor:
    r"""Compute the KL divergence of each sample, summed over classes.

    .. math::
        T^2\,\mathrm{KL}\big(\mathrm{softmax}(z_t/T)\,\|\,
        \mathrm{softmax}(z_s/T)\big)

    The teacher's logits are already calibrated. ``temperature`` is the one of
    Hinton et al.: it softens both models, and its square compensates for it.
    The sum over classes is not divided by C.

    A class that the teacher masks (a logit of -inf) adds nothing, as its
    probability is 0. A class that only the student masks makes the divergence
    infinite.

    Args:
        student_logits (Tensor): Logits of the student, shape (N, C).
        teacher_logits (Tensor): Calibrated logits of the teacher for the same
            samples, shape (N, C). No gradient flows into them.
        temperature (float): Temperature T of both models, > 0. Defaults to
            1.0.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.]])
        >>> teacher = torch.log(torch.tensor([[.75, .25]]))
        >>> print(f'{logit_kl_div(student, teacher).item():.4f}')
        0.1308

    Reference:
        Hinton et al., "Distilling the Knowledge in a Neural Network",
        arXiv 1503.02531, section 2.
    """
    student = at_least_float32(student_logits) / temperature
    teacher = at_least_float32(teacher_logits.detach()) / temperature
    log_target = F.log_softmax(teacher, dim=1)
    terms = F.kl_div(
        F.log_softmax(student, dim=1),
        log_target,
        reduction='none',
        log_target=True)
    # 0 times a difference of infinities would be NaN.
    terms = terms.masked_fill(log_target.exp() == 0, 0)
    return terms.sum(dim=1) * temperature**2


@MODELS.register_module()
class LogitKLDivLoss(LogitLoss):
    r"""KL divergence of calibrated teacher and student, for softmax heads.

    With a calibrator on the teacher and the default ``temperature=1`` this is
    TCal: :math:`\mathrm{KL}(\mathrm{softmax}(z_t/T)\|\mathrm{softmax}(z_s))`
    without the factor :math:`T^2`, as the student is not softened. Without a
    calibrator and with ``temperature=4`` it is classic KD, with
    :math:`T^2`.

    TTM (Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher
    Matching", arXiv 2402.11148) is the same loss as TCal: its target
    :math:`p_t^\gamma / \sum_c p_{t,c}^\gamma` with :math:`\gamma = 1/T` is
    :math:`\mathrm{softmax}(z_t/T)`. For its weighted form see
    :class:`WTTMLoss`.

    Args:
        temperature (float): KD temperature of both models, > 0; the
            calibration temperature of the teacher is an argument of the
            calibrator. Defaults to 1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Kim et al., "The Role of Teacher Calibration in Knowledge
        Distillation", arXiv 2508.20224; Hinton et al., arXiv 1503.02531.
    """

    def __init__(self,
                 temperature: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.temperature = check_positive('temperature', temperature)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        return logit_kl_div(student, teacher, self.temperature)
