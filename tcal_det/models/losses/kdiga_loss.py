"""Input gradient alignment at the features of samples.

Shapes: N samples (RoIs), D channels, H x W positions of a sample's features,
C = K + 1 classes with background last.
"""
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from tcal_det.registry import MODELS
from ..logits import GRADIENT_SCALE, at_least_float32
from .reduction import reduce_loss
from .weighted_loss import WeightedLoss


def classification_gradient(logits: Tensor,
                            labels: Tensor,
                            features: Tensor,
                            create_graph: bool = False) -> Tensor:
    """Compute the gradient of each sample's cross-entropy at its features.

    Args:
        logits (Tensor): Logits of a softmax head, with the graph from the
            features, shape (N, C).
        labels (Tensor): Class of each sample, int64, shape (N,).
        features (Tensor): Input of the head, shape (N, D, H, W).
        create_graph (bool): Whether the gradient can be differentiated again.
            Defaults to False.

    Returns:
        Tensor: Gradient, at least float32, in the shape of the features.

    Example:
        >>> import torch
        >>> features = torch.zeros(1, 2, 1, 1, requires_grad=True)
        >>> classification_gradient(
        ...     features.flatten(1), torch.tensor([0]), features).flatten()
        tensor([-0.5000,  0.5000])
    """
    total = F.cross_entropy(at_least_float32(logits), labels, reduction='sum')
    gradient, = torch.autograd.grad(
        total * GRADIENT_SCALE,
        features,
        retain_graph=True,
        create_graph=create_graph)
    return at_least_float32(gradient) / GRADIENT_SCALE


def energy_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute one minus the cosine between maps of squared gradients.

    The squares are summed over channels and pooled to the smaller of the two
    sizes, so that gradients with different channels or sizes can be compared.

    Args:
        student (Tensor): Gradients of the student, shape (N, D, H, W).
        teacher (Tensor): Gradients of the teacher, shape (N, D', H', W').

    Returns:
        Tensor: Difference of each sample, in [0, 1], shape (N,).

    Example:
        >>> import torch
        >>> energy_gap(torch.tensor([[[[1., 0.]]]]),
        ...            torch.tensor([[[[0., 2.]], [[0., 1.]]]]))
        tensor([1.])
    """
    # Two numbers; torch's types want a tuple of known length.
    size: Any = [
        min(*sides) for sides in zip(student.shape[-2:], teacher.shape[-2:])
    ]
    maps = []
    for gradient in (student, teacher):
        # The cosine does not depend on a sample's scale, and without this
        # division small squares would underflow.
        largest = gradient.detach().abs().flatten(1).amax(dim=1)
        largest = largest.masked_fill(largest == 0, 1)[:, None, None, None]
        energy = (gradient / largest).square().sum(dim=1, keepdim=True)
        maps.append(F.adaptive_avg_pool2d(energy, size).flatten(1))
    return 1 - F.cosine_similarity(maps[0], maps[1], dim=1)


@MODELS.register_module()
class KDIGALoss(WeightedLoss):
    r"""Distance between the gradients of both classification losses.

    .. math::
        \big\| \nabla_{f_s} \mathrm{CE}(z_s, y) -
        \nabla_{f_t} \mathrm{CE}(z_t, y) \big\|_2

    for each sample, with the assigned class y of a RoI and its features f,
    the input of the bbox head (N x 256 x 7 x 7 in Faster R-CNN). For RoI
    heads of a single stage with softmax.

    Difference from the paper: the gradients are not taken at the pixels, but
    at the features of a RoI. A loss on a gradient needs second derivatives.
    RoIAlign does not support them, but the layers after it do. So the loss
    aligns how each RoI's classification depends on its features, not the
    robustness at the image: for that see :class:`IGDMLoss`. If the features
    of the two models have different channels or sizes, the gradients cannot
    be subtracted, and the loss is :func:`energy_gap`. The teacher's logits
    are calibrated.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Raises:
        InvalidTypeError: If ``loss_weight`` is not a number.
        InvalidValueError: If ``loss_weight`` is negative or not finite.

    Reference:
        Shao et al., "How and When Adversarial Robustness Transfers in
        Knowledge Distillation?", arXiv 2110.12072.
    """

    head_activation = 'softmax'

    def forward(self,
                student_gradient: Tensor,
                teacher_gradient: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None) -> Tensor:
        """Compute the loss.

        Args:
            student_gradient (Tensor): Gradient of the student for each
                sample, with its graph, shape (N, D, H, W).
            teacher_gradient (Tensor): Gradient of the teacher for each
                sample, shape (N, D', H', W'). No gradient flows into it.
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None: every sample has weight 1.
            avg_factor (float | Tensor, optional): Divisor of the sum over
                samples; a tensor has one element. Defaults to None: N.

        Returns:
            Tensor: Loss, a scalar, at least float32.
        """
        student = at_least_float32(student_gradient)
        teacher = at_least_float32(teacher_gradient.detach())
        if student.shape == teacher.shape:
            gap = (student - teacher).flatten(1).square().sum(dim=1)
            # The square root has no derivative at 0.
            is_zero = gap == 0
            gap = gap.masked_fill(is_zero, 1).sqrt().masked_fill(is_zero, 0)
        else:
            gap = energy_gap(student, teacher)
        return self.loss_weight * reduce_loss(gap, weight, avg_factor)
