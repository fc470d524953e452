"""Binary Kullback-Leibler divergence of each class, for sigmoid heads.

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
    r"""Compute the binary KL divergence of each sample, summed over classes.

    With the Bernoulli probability :math:`p = \sigma(z)` of a class it is

    .. math::
        \sum_c p_{t,c} \log\frac{p_{t,c}}{p_{s,c}} +
        (1 - p_{t,c}) \log\frac{1 - p_{t,c}}{1 - p_{s,c}}

    the binary cross-entropy with soft targets minus the entropy of the
    targets. The sum over classes is not divided by C.

    Where the teacher's probability is 0 or 1 (a masked class has a logit of
    -inf), the term with the factor 0 is 0 for every output of the student.

    Only the two logit tensors are kept for the backward pass, as the gradient
    is :math:`\sigma(z_s) - \sigma(z_t)`; see :func:`class_sum`.

    Args:
        student_logits (Tensor): Logits of the student, shape (N, C).
        teacher_logits (Tensor): Calibrated logits of the teacher, shape
            (N, C). No gradient flows into them.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.]])
        >>> teacher = torch.logit(torch.tensor([[.75, .5]]))
        >>> print(f'{logit_binary_kl_div(student, teacher).item():.4f}')
        0.1308

    Reference:
        Kim et al., "The Role of Teacher Calibration in Knowledge
        Distillation", arXiv 2508.20224; there for softmax, here for sigmoid.
    """
    return class_sum(student_logits, teacher_logits, _binary_kl_div,
                     _binary_kl_div_derivative)


# Operations on new tensors are in place, as they need less memory per chunk.


def _binary_kl_div(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return _cross_term(student_logits, teacher_logits).add_(
        _cross_term(-student_logits, -teacher_logits))


def _binary_kl_div_derivative(student_logits: Tensor,
                              teacher_logits: Tensor) -> Tensor:
    return student_logits.sigmoid().sub_(teacher_logits.sigmoid())


def _cross_term(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute p_t log(p_t / p_s), which is 0 for p_t = 0."""
    prob = teacher_logits.sigmoid()
    terms = F.logsigmoid(teacher_logits).sub_(F.logsigmoid(student_logits))
    return terms.mul_(prob).masked_fill_(prob == 0, 0)


@MODELS.register_module()
class LogitBinaryKLDivLoss(LogitLoss):
    r"""TCal for sigmoid heads.

    The target is :math:`\sigma(z_t/T)`, where the teacher's calibrator
    applies T; the student is not softened and there is no factor
    :math:`T^2`. See :func:`logit_binary_kl_div`.

    Difference from the paper: the paper uses softmax; one binary distribution
    for each class is the simplest form for sigmoid. A sample is a prior (an
    anchor or a point) of a dense head, or a RoI.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Kim et al., "The Role of Teacher Calibration in Knowledge
        Distillation", arXiv 2508.20224.
    """

    head_activation = 'sigmoid'
    handles_half_precision = True

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        return logit_binary_kl_div(student, teacher)
