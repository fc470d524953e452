"""Quality focal loss with the teacher's probabilities, for sigmoid heads.

Shapes: N samples (RoIs, anchors or points), C = K classes.
"""
from functools import partial
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from tcal_det.checks import check_non_negative
from tcal_det.registry import MODELS
from .class_sum import class_sum
from .logit_loss import LogitLoss


def quality_focal_kd(student_logits: Tensor,
                     teacher_logits: Tensor,
                     beta: float = 1.0) -> Tensor:
    r"""Compute the modulated binary cross-entropy, summed over classes.

    With the Bernoulli probability :math:`p = \sigma(z)` of a class, the loss
    of a sample is

    .. math::
        \sum_c |p_{t,c} - p_{s,c}|^\beta \,
        \big(- p_{t,c} \log p_{s,c} - (1 - p_{t,c}) \log (1 - p_{s,c})\big)

    A class with equal probabilities in both models adds nothing for
    :math:`\beta > 0`, and its gradient is 0. The modulating factor also has a
    gradient.

    Where the teacher's probability is 0 or 1 (a masked class has a logit of
    -inf), the term with the factor 0 is 0 for every output of the student.

    Only the two logit tensors are kept for the backward pass; see
    :func:`class_sum`.

    Args:
        student_logits (Tensor): Logits of the student, shape (N, C).
        teacher_logits (Tensor): Calibrated logits of the teacher, shape
            (N, C). No gradient flows into them.
        beta (float): Exponent :math:`\beta` of the modulating factor, >= 0.
            Defaults to 1.0.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0., 0.]])
        >>> teacher = torch.logit(torch.tensor([[.75, .5]]))
        >>> print(f'{quality_focal_kd(student, teacher).item():.4f}')
        0.1733

    Reference:
        See :class:`QualityFocalKDLoss`.
    """
    return class_sum(student_logits, teacher_logits,
                     partial(_quality_focal, beta=beta),
                     partial(_quality_focal_derivative, beta=beta))


# Operations on new tensors are in place, as they need less memory per chunk.


def _quality_focal(student_logits: Tensor, teacher_logits: Tensor,
                   beta: float) -> Tensor:
    cross_entropy = _cross_entropy(student_logits, teacher_logits)
    factor = _gap(student_logits, teacher_logits).abs_().pow_(beta)
    # The power may underflow to 0 while the cross-entropy is infinite, if only
    # the student masks the class; their product would be NaN.
    return cross_entropy.mul_(factor).masked_fill_(factor == 0, 0)


def _quality_focal_derivative(student_logits: Tensor, teacher_logits: Tensor,
                              beta: float) -> Tensor:
    r"""Compute the derivative with respect to the student's logits.

    With d = p_s - p_t and the cross-entropy H, for d != 0 it is

    .. math::
        |d|^\beta \Big(d + \beta\,\frac{p_s (1 - p_s)}{d} H\Big)
    """
    cross_entropy = _cross_entropy(student_logits, teacher_logits)
    gap = _gap(student_logits, teacher_logits)
    variance = student_logits.sigmoid().mul_((-student_logits).sigmoid_())
    is_flat = variance == 0
    # Compute the quotient first: |d|^(beta - 1) would overflow for beta < 1.
    # The quotient is at most 1 / eps, as p_s and p_t differ by at least their
    # last digit.
    quotient = variance.div_(gap.masked_fill(gap == 0, 1))
    # At a masked class H is infinite and the quotient 0: the limit of their
    # product is 0.
    through_factor = quotient.mul_(cross_entropy).masked_fill_(is_flat, 0)
    return through_factor.mul_(beta).add_(gap).mul_(gap.abs_().pow_(beta))


def _gap(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return student_logits.sigmoid().sub_(teacher_logits.sigmoid())


def _cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return _one_sided(student_logits, teacher_logits).add_(
        _one_sided(-student_logits, -teacher_logits))


def _one_sided(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute -p_t log p_s, which is 0 for p_t = 0."""
    prob = teacher_logits.sigmoid()
    terms = F.logsigmoid(student_logits).mul_(prob).neg_()
    return terms.masked_fill_(prob == 0, 0)


@MODELS.register_module()
class QualityFocalKDLoss(LogitLoss):
    r"""Quality focal loss with the teacher's probabilities as targets.

    .. math::
        \sum_c |p_{t,c} - p_{s,c}|^\beta\,\mathrm{BCE}(p_{s,c}, p_{t,c}),
        \qquad p = \sigma(z)

    for sigmoid heads. The loss is the mean over samples, or the sum divided
    by ``avg_factor``, for which the published methods use the student's
    number of positives. The many easy background samples of a dense head, for
    which student and teacher agree, add almost nothing. See
    :func:`quality_focal_kd`.

    Difference from the paper: the target is :math:`\sigma(z_t/T)`, where the
    teacher's calibrator applies T; the published methods have no calibrator.
    The student's logits come from its own head. CrossKD instead applies the
    teacher's head to the student's features; that part is left out.

    Interpretation: the gradient flows through the modulating factor, as in
    the quality focal loss.

    Args:
        beta (float): Exponent :math:`\beta` of the modulating factor, >= 0;
            0 gives the plain binary cross-entropy. Defaults to 1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Yang et al., "Bridging Cross-task Protocol Inconsistency for
        Distillation in Dense Object Detection", ICCV 2023, arXiv 2308.14286
        (BCKD);
        Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object
        Detection", CVPR 2024, arXiv 2306.11369;
        Li et al., "Generalized Focal Loss", NeurIPS 2020, arXiv 2006.04388
        (quality focal loss).
    """

    head_activation = 'sigmoid'
    handles_half_precision = True

    def __init__(self,
                 beta: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.beta = check_non_negative('beta', beta)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        return quality_focal_kd(student, teacher, self.beta)
