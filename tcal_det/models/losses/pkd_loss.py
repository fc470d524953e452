"""Distillation by the Pearson correlation of feature maps."""
from torch import Tensor

from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene

# Relative rounding error of a mean in float32.
ROUNDING = 1e-6


def standardized(maps: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Scale each channel to zero mean and unit variance.

    The result is :math:`(x - \mu_d) / (\sigma_d + \epsilon)`. Mean and
    standard deviation are over the M = N H W images and positions of a batch;
    the standard deviation divides by :math:`M - 1`. A constant channel
    becomes 0.

    Args:
        maps (Tensor): Feature maps, shape (N, D, H, W).
        eps (float): Number :math:`\epsilon` that is added to the standard
            deviation. Defaults to 1e-6.

    Returns:
        Tensor: Standardised maps, same shape.

    Example:
        >>> import torch
        >>> standardized(torch.tensor([[[[1., 3.]]]])).flatten()
        tensor([-0.7071,  0.7071])
    """
    rows = maps.transpose(0, 1).flatten(1)
    mean = rows.mean(dim=1, keepdim=True)
    centred = rows - mean
    # Not `std`: its gradient is NaN for a constant channel.
    variance = centred.square().sum(
        dim=1, keepdim=True) / max(rows.shape[1] - 1, 1)
    # A centred constant channel consists of the rounding error of its mean;
    # its gradient would be a million times that of the other channels.
    is_constant = variance <= (ROUNDING * mean.detach()).square()
    deviation = variance.masked_fill(is_constant, 1).sqrt()
    scaled = (centred / (deviation + eps)).masked_fill(is_constant, 0)
    shape = maps.transpose(0, 1).shape
    return scaled.view(shape).transpose(0, 1)


@MODELS.register_module()
class PKDLoss(FeatureLoss):
    r"""Squared error of standardised feature maps.

    .. math::
        \frac{1}{2}\,\mathrm{mean}\big((\hat F_s - \hat F_t)^2\big)

    summed over levels, where each channel of :math:`\hat F` has zero mean and
    unit variance over the batch, see :func:`standardized`. Up to a factor
    this is one minus the Pearson correlation of the two maps for each
    channel. Scale and offset of the maps have no effect, so the loss can be
    used between detectors with different heads and backbones.

    The arguments are those of :class:`FeatureLoss`. The authors use the weight
    6 for each level of an FPN.

    Reference:
        Cao et al., "PKD: General Distillation Framework for Object Detectors
        via Pearson Correlation Coefficient", NeurIPS 2022, arXiv 2207.02039.
    """

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        gap = standardized(student) - standardized(teacher)
        return gap.square().mean() / 2
