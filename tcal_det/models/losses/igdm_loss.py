"""Indirect gradient matching: responses to a perturbation of the input."""
from typing import Optional

from torch import Tensor

from tcal_det.checks import check_choice, check_positive
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from .logit_binary_kl_div_loss import logit_binary_kl_div
from .logit_kl_div_loss import logit_kl_div
from .logit_loss import LogitLoss

ACTIVATIONS = ('softmax', 'sigmoid')


def response(plus: Tensor, minus: Tensor) -> Tensor:
    """How logits answer a perturbation, by a difference.

    Args:
        plus (Tensor): Logits of the images with the perturbation, shape
            (N, C).
        minus (Tensor): Logits of the images less the perturbation, shape
            (N, C).

    Returns:
        Tensor: Shape (N, C). A class that is masked (-inf) stays masked.

    Example:
        >>> import torch
        >>> response(torch.tensor([[3., -torch.inf]]),
        ...          torch.tensor([[1., -torch.inf]]))
        tensor([[2., -inf]])
    """
    return (plus - minus).masked_fill(plus.isneginf(), -float('inf'))


@MODELS.register_module()
class IGDMLoss(LogitLoss):
    r"""Student and teacher answer a perturbation of the images alike.

    .. math::
        \mathrm{KL}\big(\mathrm{softmax}(z_t(x + d) - z_t(x - d)) \,\|\,
        \mathrm{softmax}(z_s(x + d) - z_s(x - d))\big)

    for each sample. The difference is :math:`2 d^\top \nabla_x z` where the
    model is linear within d: the input gradients are matched, without a
    gradient of a gradient. The samples (RoIs, priors) are those of the
    student's own loss on x.

    The perturbation is :math:`d = \epsilon\,\mathrm{sign}(\nabla_x L)` with
    the student's own losses L on the images. A step costs a further
    backward of the student to its images (which the step's own backward
    reaches, too, through frozen stages), two further forwards of the
    student, with gradient, and two of the teacher.

    Adapted: the paper takes the perturbation of the attack that its
    adversarial training runs, 10 steps of at most 8 of 255 levels; here it
    is one step, of an epsilon for a detector that was not trained to be
    linear within 8 levels, and x + d is not clipped to [0, 255]. A sigmoid
    head is taught by the divergence of each class on its own. In the method's
    public code the weight grows linearly from 0, which
    ``LossWeightScheduleHook`` can do.

    The arguments of forward are those of :class:`LogitLoss`, with the
    differences for logits, see :func:`response`.

    Args:
        epsilon (float): Size of the perturbation in levels of a channel, of
            which there are 255, > 0. Defaults to 2.0.
        activation (str): That of the heads, 'softmax' or 'sigmoid'. Defaults
            to 'softmax'.
        loss_weight (float): Weight of this term, >= 0; at 0 nothing further
            is run. Defaults to 1.0.
        samples (str): Samples that count, 'all', 'foreground' or 'balanced',
            as in :class:`LogitLoss`. Defaults to 'all'.

    Raises:
        InvalidTypeError, InvalidValueError: If an argument is wrong.

    Reference: Lee et al., "Indirect Gradient Matching for Adversarial Robust
    Distillation", ICLR 2025, arXiv 2312.03286.
    """

    def __init__(self,
                 epsilon: float = 2.0,
                 activation: str = 'softmax',
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        if samples == 'teacher':
            raise InvalidValueError(
                "`samples` must be 'all', 'foreground' or 'balanced', as a "
                'difference of logits has no object probability, but got '
                "'teacher'")
        self.epsilon = check_positive('epsilon', epsilon)
        self.head_activation = check_choice('activation', activation,
                                            ACTIVATIONS)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        if self.head_activation == 'sigmoid':
            return logit_binary_kl_div(student, teacher)
        return logit_kl_div(student, teacher)
