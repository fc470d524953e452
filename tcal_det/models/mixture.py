"""Mean of the probabilities of several detectors, as logits.

Shapes: T detectors, S samples, C columns of logits.
"""
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import at_least_float32


def mixed_logits(logits: Sequence[Tensor], weights: Tensor,
                 activation: str) -> Tensor:
    r"""Compute logits of the mean :math:`\sum_t w_t p_t / \sum_t w_t`.

    The computation uses logarithms: a probability of 1e-30 keeps its digits.

    Args:
        logits (Sequence[Tensor]): Logits of each detector, shape (S, C) each.
        weights (Tensor): Weights of the detectors for each sample, >= 0,
            shape (T, S). A sample needs at least one positive weight.
        activation (str): Activation of the heads, 'softmax' or 'sigmoid'.

    Returns:
        Tensor: Logits of the mean, at least float32, shape (S, C). For
        softmax they are the logarithms of the probabilities.

    Example:
        >>> mixed = mixed_logits([torch.tensor([[0.]]), torch.tensor([[2.]])],
        ...                      torch.tensor([[3.], [1.]]), 'sigmoid')
        >>> print(f'{mixed.sigmoid().item():.4f}')
        0.5952
    """
    stacked = torch.stack([at_least_float32(values) for values in logits])
    shares = (weights / weights.sum(dim=0)).to(stacked).log()[..., None]
    if activation == 'softmax':
        return torch.logsumexp(stacked.log_softmax(dim=2) + shares, dim=0)
    positive, negative = (
        torch.logsumexp(F.logsigmoid(sign * stacked) + shares, dim=0)
        for sign in (1, -1))
    return positive - negative
