"""Selection of the samples with the highest scores."""
import math

import torch
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.errors import InvalidValueError


def top_share(scores: Tensor, ratio: float) -> Tensor:
    """Mark the ceil(ratio * N) highest scores.

    Scores equal to the lowest marked score are also marked, so that the order
    of the samples has no effect.

    Args:
        scores (Tensor): Score of each sample, shape (N,).
        ratio (float): Share of the samples to mark, in (0, 1].

    Returns:
        Tensor: Mask of the marked samples, bool, shape (N,).

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
    """Return ``value`` as a float if it is in (0, 1].

    Args:
        name (str): Name of the argument, for the message.
        value (float): Value from the user.

    Returns:
        float: The value.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is not in (0, 1].
    """
    ratio = check_positive(name, value)
    if ratio > 1:
        raise InvalidValueError(
            f'`{name}` must be in (0, 1], but got {value!r}')
    return ratio
