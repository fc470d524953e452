"""Kullback-Leibler divergence of the distributions of a box's edges.

Shapes: N samples (priors of a dense head), 4 edges of a box (left, top,
right, bottom), n + 1 bins: distances 0, 1, ..., n from the prior to the
edge, in strides.
"""
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from .box_loss import BoxLoss
from .logit_kl_div_loss import logit_kl_div


def edge_kl_div(student: Tensor,
                teacher: Tensor,
                temperature: float = 1.0) -> Tensor:
    r"""KL divergence of each sample, summed over bins, mean over edges.

    .. math::
        \frac{T^2}{4} \sum_e \mathrm{KL}\big(\mathrm{softmax}(z_{t,e}/T)\,\|\,
        \mathrm{softmax}(z_{s,e}/T)\big)

    Args:
        student (Tensor): Logits of the bins, shape (N, 4, n + 1).
        teacher (Tensor): Of the same shape. No gradient flows into them.
        temperature (float): Divides both sides. Defaults to 1.0.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32.

    Example:
        >>> import torch
        >>> student = torch.zeros(1, 4, 2)
        >>> teacher = torch.log(torch.tensor([.75, .25])).expand(1, 4, 2)
        >>> print(f'{edge_kl_div(student, teacher).item():.4f}')
        0.1308

    Reference: Zheng et al., "Localization Distillation for Object
    Detection", CVPR 2022, arXiv 2102.12252, section 3.1.
    """
    edges = logit_kl_div(
        student.flatten(0, 1), teacher.flatten(0, 1), temperature)
    return edges.view(-1, 4).mean(dim=1)


@MODELS.register_module()
class LocalizationDistillationLoss(BoxLoss):
    r"""LD: a teacher tells how sure it is of each edge of a box.

    For heads that predict a distribution over distances for each edge of a
    box (Generalized Focal Loss; config key ``reg_max``), on the student's
    positive priors:

    .. math::
        \frac{\sum_i w_i\,\mathrm{LD}_i}{\max(\sum_i w_i, 1)}

    with :math:`\mathrm{LD}_i` of :func:`edge_kl_div` and :math:`w_i` the
    student's own score of the prior, without gradient: weights and divisor
    (the mean over the ranks of their sums) are those of the student's own
    distribution focal loss.

    Adapted: mmdet's ``LDHead`` averages over the n + 1 bins and does not
    divide by the weights. With n = 16 its ``loss_weight`` of 0.25 is
    0.25 / 17 times the sum of the weights here.

    Adapted: the paper adds a second region, of background priors that lie
    close to an object ("valuable localization region"). It is left out: it
    asks for the insides of the student's assigner.

    Args:
        temperature (float): Two-sided temperature T > 0; the factor
            :math:`T^2` makes up for it. Defaults to 10.0, the paper's.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Reference: Zheng et al., "Localization Distillation for Object
    Detection", CVPR 2022, arXiv 2102.12252, section 3.1; weights as in the
    authors' implementation.
    """

    def __init__(self,
                 temperature: float = 10.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.temperature = check_positive('temperature', temperature)

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        if (student.dim() != 3 or student.shape[1] != 4
                or student.shape != teacher.shape):
            raise InvalidValueError(
                '`student` and `teacher` must have one shape (N, 4, n + 1), '
                f'but got {tuple(student.shape)} of the student and '
                f'{tuple(teacher.shape)} of the teacher')

    def per_sample_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return edge_kl_div(student, teacher, self.temperature)
