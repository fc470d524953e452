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
    """Compute the response of logits to a perturbation, as a difference.

    Args:
        plus (Tensor): Logits of the images plus the perturbation, shape
            (N, C).
        minus (Tensor): Logits of the images minus the perturbation, shape
            (N, C).

    Returns:
        Tensor: Difference, shape (N, C). A masked class (-inf) stays masked.

    Example:
        >>> import torch
        >>> response(torch.tensor([[3., -torch.inf]]),
        ...          torch.tensor([[1., -torch.inf]]))
        tensor([[2., -inf]])
    """
    return (plus - minus).masked_fill(plus.isneginf(), -float('inf'))


@MODELS.register_module()
class IGDMLoss(LogitLoss):
    r"""KL divergence between the responses to a perturbation of the images.

    .. math::
        \mathrm{KL}\big(\mathrm{softmax}(z_t(x + d) - z_t(x - d)) \,\|\,
        \mathrm{softmax}(z_s(x + d) - z_s(x - d))\big)

    for each sample. If the model is linear within d, the difference is
    :math:`2 d^\top \nabla_x z`: the input gradients are matched, without a
    second derivative. The samples (RoIs, priors) are those of the student's
    own loss on x.

    The perturbation is :math:`d = \epsilon\,\mathrm{sign}(\nabla_x L)` with
    the student's own losses L on the images. A step has these additional
    costs: a backward pass of the student to its images (for this, the step's
    own backward pass also runs through frozen stages), two forward passes of
    the student with gradient, and two forward passes of the teacher.

    Difference from the paper: the paper uses the perturbation of the attack
    of its adversarial training, 10 steps of at most 8 of 255 levels. Here it
    is one step with an epsilon for a detector that was not trained to be
    linear within 8 levels, and x + d is not clipped to [0, 255]. For a sigmoid
    head the loss is the binary divergence of each class. In the public code of
    the method the weight grows linearly from 0, which
    ``LossWeightScheduleHook`` can do.

    The arguments of ``forward`` are those of :class:`LogitLoss`, with the
    differences in place of logits, see :func:`response`.

    Args:
        epsilon (float): Size of the perturbation in levels of a channel with
            the range [0, 255], > 0. Defaults to 2.0.
        activation (str): Activation of the heads, 'softmax' or 'sigmoid'.
            Defaults to 'softmax'.
        loss_weight (float): Weight of this term, >= 0; at 0 the additional
            passes are skipped. Defaults to 1.0.
        samples (str): Samples that enter the loss, 'all', 'foreground' or
            'balanced', see :class:`LogitLoss`. Defaults to 'all'.

    Raises:
        InvalidTypeError: If an argument has a wrong type.
        InvalidValueError: If an argument has a wrong value.

    Reference:
        Lee et al., "Indirect Gradient Matching for Adversarial Robust
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
