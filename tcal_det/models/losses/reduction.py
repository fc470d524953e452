"""Reduction of per-sample losses to a scalar."""
from typing import Optional, Union

from torch import Tensor


def reduce_loss(per_sample: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None) -> Tensor:
    """Divide the weighted sum over samples by N or by ``avg_factor``.

    Args:
        per_sample (Tensor): Loss of each sample, shape (N,).
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None: every sample has weight 1.
        avg_factor (float | Tensor, optional): Divisor of the sum; a tensor
            has one element. Defaults to None: N.

    Returns:
        Tensor: Loss, a scalar; for N = 0 a zero that still carries a
        gradient.
    """
    if avg_factor is None:
        # The weights do not enter the divisor: a sample with weight 0 is
        # still one of the N samples, as in mmdet.
        avg_factor = max(per_sample.numel(), 1)
    if isinstance(avg_factor, Tensor):
        # A divisor of shape (1,) would give a loss of shape (1,).
        avg_factor = avg_factor.reshape(())
    if weight is not None:
        # A sample with weight 0 adds nothing, even if its loss is infinite.
        per_sample = (per_sample * weight).masked_fill(weight == 0, 0)
    return per_sample.sum() / avg_factor


def relative_sample_count(
        num_samples: int,
        weight: Optional[Tensor] = None,
        avg_factor: Union[float, Tensor, None] = None) -> Union[float, Tensor]:
    """Compute the factor of a loss that is not a mean over samples.

    Such a loss, for example a correlation over the samples, is multiplied by
    this factor, so that ``weight`` and ``avg_factor`` scale it in the same way
    as the losses of :func:`reduce_loss`. Without both the factor is 1.

    Args:
        num_samples (int): Number of samples N.
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None: every sample has weight 1.
        avg_factor (float, optional): Divisor. Defaults to None: N.

    Returns:
        float | Tensor: Sum of the weights divided by ``avg_factor``.
    """
    total = num_samples if weight is None else weight.sum()
    return total / (max(num_samples, 1) if avg_factor is None else avg_factor)
