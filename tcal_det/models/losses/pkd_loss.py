"""Distillation via the Pearson correlation of feature maps."""
from torch import Tensor

from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene

# Of a mean in float32, relative.
ROUNDING = 1e-6


def standardized(maps: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Zero mean and unit variance of each channel.

    Over the images and positions of a batch: :math:`(x - \mu_d) /
    (\sigma_d + \epsilon)` with the standard deviation that divides by
    :math:`M - 1`, M = N H W. A channel that is constant becomes 0.

    Args:
        maps (Tensor): Shape (N, D, H, W).
        eps (float): Added to the standard deviation. Defaults to 1e-6.

    Returns:
        Tensor: Of the same shape.

    Example:
        >>> import torch
        >>> standardized(torch.tensor([[[[1., 3.]]]])).flatten()
        tensor([-0.7071,  0.7071])
    """
    rows = maps.transpose(0, 1).flatten(1)
    mean = rows.mean(dim=1, keepdim=True)
    centred = rows - mean
    # Not `std`, whose gradient is NaN for a channel that is constant.
    variance = centred.square().sum(
        dim=1, keepdim=True) / max(rows.shape[1] - 1, 1)
    # What is left of a constant is the rounding of its mean, whose gradient
    # would be a million times that of the other channels.
    is_constant = variance <= (ROUNDING * mean.detach()).square()
    deviation = variance.masked_fill(is_constant, 1).sqrt()
    scaled = (centred / (deviation + eps)).masked_fill(is_constant, 0)
    shape = maps.transpose(0, 1).shape
    return scaled.view(shape).transpose(0, 1)


@MODELS.register_module()
class PKDLoss(FeatureLoss):
    r"""Squared error of standardized feature maps.

    .. math::
        \frac{1}{2}\,\mathrm{mean}\big((\hat F_s - \hat F_t)^2\big)

    summed over levels, where each channel of :math:`\hat F` has zero mean and
    unit variance over the batch, see :func:`standardized`. Up to a factor
    this is one minus the Pearson correlation of the two, channel by channel:
    scale and offset of the maps do not count, which is why detectors of unlike
    heads and backbones can teach each other.

    The arguments are those of :class:`FeatureLoss`. The authors weigh each
    level of an FPN by 6.

    Reference: Cao et al., "PKD: General Distillation Framework for Object
    Detectors via Pearson Correlation Coefficient", NeurIPS 2022,
    arXiv 2207.02039.
    """

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        gap = standardized(student) - standardized(teacher)
        return gap.square().mean() / 2
