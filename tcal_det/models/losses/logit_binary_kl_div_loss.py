"""Kullback-Leibler divergence of each class on its own, for sigmoid heads.

Shapes: N samples (RoIs, anchors or points), C = K classes.
"""
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from tcal_det.registry import MODELS
from .logit_loss import LogitLoss


def logit_binary_kl_div(student_logits: Tensor,
                        teacher_logits: Tensor) -> Tensor:
    r"""Binary KL divergence of each sample, summed over classes.

    With :math:`p = \sigma(z)` the Bernoulli probability of a class:

    .. math::
        \sum_c p_{t,c} \log\frac{p_{t,c}}{p_{s,c}} +
        (1 - p_{t,c}) \log\frac{1 - p_{t,c}}{1 - p_{s,c}}

    which is the binary cross-entropy with soft targets less the entropy of
    the targets. The sum over classes is not divided by C.

    Where the teacher's probability is 0 or 1 (a masked class has a logit of
    -inf), the term with the factor 0 is 0, whatever the student says.

    Args:
        student_logits (Tensor): Unnormalised scores, at least float32, shape
            (N, C).
        teacher_logits (Tensor): Calibrated scores, at least float32, shape
            (N, C).

    Returns:
        Tensor: Loss of each sample, shape (N,).

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.]])
        >>> teacher = torch.logit(torch.tensor([[.75, .5]]))
        >>> print(f'{logit_binary_kl_div(student, teacher).item():.4f}')
        0.1308

    Reference: Kim et al., "The Role of Teacher Calibration in Knowledge
    Distillation", arXiv 2508.20224, carried over from softmax to sigmoid.
    """
    present = _cross_term(student_logits, teacher_logits)
    absent = _cross_term(-student_logits, -teacher_logits)
    return (present + absent).sum(dim=1)


def _cross_term(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """p_t log(p_t / p_s), which is 0 for p_t = 0."""
    prob = teacher_logits.sigmoid()
    terms = prob * (
        F.logsigmoid(teacher_logits) - F.logsigmoid(student_logits))
    return terms.masked_fill(prob == 0, 0)


@MODELS.register_module()
class LogitBinaryKLDivLoss(LogitLoss):
    r"""TCal for heads that classify with sigmoid.

    The target is :math:`\sigma(z_t/T)` through the teacher's calibrator; the
    student is not softened and there is no factor :math:`T^2`. See
    :func:`logit_binary_kl_div`.

    The paper states softmax; one binary distribution per class is the
    plainest reading for sigmoid.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
    """

    head_activation = 'sigmoid'

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        return logit_binary_kl_div(student, teacher)
