"""From the loss of each sample to one number."""
from typing import Optional, Union

from torch import Tensor


def reduce_loss(per_sample: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None) -> Tensor:
    """Weighted mean over samples, or weighted sum over ``avg_factor``.

    Args:
        per_sample (Tensor): Loss of each sample, shape (N,).
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None, every sample weighs 1.
        avg_factor (float | Tensor, optional): Divides the sum instead of N; a
            tensor has one element. Defaults to None.

    Returns:
        Tensor: A scalar; for N = 0 a zero that still carries a gradient.
    """
    if avg_factor is None:
        # The weights do not enter the divisor: a sample with weight 0 is
        # still one of the N samples, as in mmdet.
        avg_factor = max(per_sample.numel(), 1)
    if isinstance(avg_factor, Tensor):
        # One of shape (1,) would make a loss of shape (1,).
        avg_factor = avg_factor.reshape(())
    if weight is not None:
        # A sample without weight has no say, an infinite loss included.
        per_sample = (per_sample * weight).masked_fill(weight == 0, 0)
    return per_sample.sum() / avg_factor


def relative_sample_count(
        num_samples: int,
        weight: Optional[Tensor] = None,
        avg_factor: Union[float, Tensor, None] = None) -> Union[float, Tensor]:
    """How many samples a loss of the whole set stands for, per divisor.

    A loss that is no mean over samples (a correlation over the samples, say)
    is multiplied by this, so that ``weight`` and ``avg_factor`` scale it as
    they scale the losses of :func:`reduce_loss`: 1 without either.

    Args:
        num_samples (int): N.
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None, every sample weighs 1.
        avg_factor (float, optional): Divides instead of N. Defaults to None.

    Returns:
        float | Tensor: Sum of the weights over ``avg_factor``.
    """
    total = num_samples if weight is None else weight.sum()
    return total / (max(num_samples, 1) if avg_factor is None else avg_factor)
