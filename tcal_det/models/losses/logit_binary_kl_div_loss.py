"""Kullback-Leibler divergence of each class on its own, for sigmoid heads.

Shapes: N samples (RoIs, anchors or points), C = K classes.
"""
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from tcal_det.registry import MODELS
from .class_sum import class_sum
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

    For backward the two logit tensors are kept and no other, as the gradient
    is :math:`\sigma(z_s) - \sigma(z_t)`; see :func:`class_sum`.

    Args:
        student_logits (Tensor): Unnormalised scores, shape (N, C).
        teacher_logits (Tensor): Calibrated scores, shape (N, C). No gradient
            flows into them.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.]])
        >>> teacher = torch.logit(torch.tensor([[.75, .5]]))
        >>> print(f'{logit_binary_kl_div(student, teacher).item():.4f}')
        0.1308

    Reference: Kim et al., "The Role of Teacher Calibration in Knowledge
    Distillation", arXiv 2508.20224, carried over from softmax to sigmoid.
    """
    return class_sum(student_logits, teacher_logits, _binary_kl_div,
                     _binary_kl_div_derivative)


# In place where a result is nobody else's: the memory of a chunk counts.


def _binary_kl_div(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return _cross_term(student_logits, teacher_logits).add_(
        _cross_term(-student_logits, -teacher_logits))


def _binary_kl_div_derivative(student_logits: Tensor,
                              teacher_logits: Tensor) -> Tensor:
    return student_logits.sigmoid().sub_(teacher_logits.sigmoid())


def _cross_term(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """p_t log(p_t / p_s), which is 0 for p_t = 0."""
    prob = teacher_logits.sigmoid()
    terms = F.logsigmoid(teacher_logits).sub_(F.logsigmoid(student_logits))
    return terms.mul_(prob).masked_fill_(prob == 0, 0)


@MODELS.register_module()
class LogitBinaryKLDivLoss(LogitLoss):
    r"""TCal for sigmoid heads.

    The target is :math:`\sigma(z_t/T)` through the teacher's calibrator; the
    student is not softened and there is no factor :math:`T^2`. See
    :func:`logit_binary_kl_div`.

    Adapted: the paper states softmax; one binary distribution per class is
    the plainest reading for sigmoid. A sample is a prior (an anchor or a
    point) of a dense head, or a RoI.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that count, as in :class:`LogitLoss`.
            Defaults to 'all'.

    Reference: Kim et al., "The Role of Teacher Calibration in Knowledge
    Distillation", arXiv 2508.20224.
    """

    head_activation = 'sigmoid'
    widens_itself = True

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        return logit_binary_kl_div(student, teacher)
