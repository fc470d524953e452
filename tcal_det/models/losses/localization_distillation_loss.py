"""Kullback-Leibler divergence between the distributions of a box's edges.

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
    r"""Compute the KL divergence of each sample, as a mean over edges.

    .. math::
        \frac{T^2}{4} \sum_e \mathrm{KL}\big(\mathrm{softmax}(z_{t,e}/T)\,\|\,
        \mathrm{softmax}(z_{s,e}/T)\big)

    The divergence is a sum over bins.

    Args:
        student (Tensor): Student's logits of the bins, shape (N, 4, n + 1).
        teacher (Tensor): Teacher's logits of the bins, shape (N, 4, n + 1).
            No gradient flows into them.
        temperature (float): Temperature T of both models, > 0. Defaults to
            1.0.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32.

    Example:
        >>> import torch
        >>> student = torch.zeros(1, 4, 2)
        >>> teacher = torch.log(torch.tensor([.75, .25])).expand(1, 4, 2)
        >>> print(f'{edge_kl_div(student, teacher).item():.4f}')
        0.1308

    Reference:
        Zheng et al., "Localization Distillation for Object Detection", CVPR
        2022, arXiv 2102.12252, section 3.1.
    """
    edges = logit_kl_div(
        student.flatten(0, 1), teacher.flatten(0, 1), temperature)
    return edges.view(-1, 4).mean(dim=1)


@MODELS.register_module()
class LocalizationDistillationLoss(BoxLoss):
    r"""Localization distillation: match the distributions of a box's edges.

    For heads that predict a distribution over distances for each edge of a
    box (Generalized Focal Loss; config key ``reg_max``). On the student's
    positive priors the loss is

    .. math::
        \frac{\sum_i w_i\,\mathrm{LD}_i}{\max(\sum_i w_i, 1)}

    where :math:`\mathrm{LD}_i` is :func:`edge_kl_div`, and :math:`w_i` is the
    student's own score of the prior, without gradient. The weights and the
    divisor (the sum of the weights, averaged over the ranks) are those of the
    student's own distribution focal loss.

    Difference from mmdet: ``LDHead`` averages over the n + 1 bins and does
    not divide by the weights. With n = 16 its ``loss_weight`` of 0.25 is
    0.25 / 17 times the sum of the weights here.

    Difference from the paper: the paper adds a second region of background
    priors close to an object ("valuable localization region"). It is left
    out, as it needs internal results of the student's assigner.

    Args:
        temperature (float): Temperature T of both models, > 0; the factor
            :math:`T^2` compensates for it. Defaults to 10.0, as in the paper.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Reference:
        Zheng et al., "Localization Distillation for Object Detection", CVPR
        2022, arXiv 2102.12252, section 3.1; weights as in the authors'
        implementation.
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
                '`student` and `teacher` must have the same shape '
                f'(N, 4, n + 1), but got {tuple(student.shape)} of the '
                f'student and {tuple(teacher.shape)} of the teacher')

    def per_sample_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return edge_kl_div(student, teacher, self.temperature)
