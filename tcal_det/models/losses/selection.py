"""The share of a set that scores highest."""
import math

import torch
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.errors import InvalidValueError


def top_share(scores: Tensor, ratio: float) -> Tensor:
    """Mark the highest scores.

    Args:
        scores (Tensor): Shape (N,).
        ratio (float): The ceil(ratio * N) highest are marked, and all that
            tie with the lowest of them, so that the order of the samples
            does not matter.

    Returns:
        Tensor: Bool, shape (N,).

    Example:
        >>> top_share(torch.tensor([.1, .9, .5, .2]), .5)
        tensor([False,  True,  True, False])
    """
    num_samples = scores.numel()
    if ratio == 1 or num_samples == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    lowest = scores.topk(math.ceil(ratio * num_samples)).values[-1]
    return scores >= lowest


def check_ratio(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in (0, 1].

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is outside.
    """
    ratio = check_positive(name, value)
    if ratio > 1:
        raise InvalidValueError(
            f'`{name}` must be in (0, 1], but got {value!r}')
    return ratio
