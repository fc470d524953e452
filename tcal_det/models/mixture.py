"""Mean of the probabilities of several detectors, as logits.

Shapes: S samples, C columns of logits.
"""
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import at_least_float32


def mixed_logits(logits: Sequence[Tensor], weights: Tensor,
                 activation: str) -> Tensor:
    r"""Logits of :math:`\sum_t w_t p_t / \sum_t w_t`.

    Computed from logarithms: a probability of 1e-30 keeps its digits.

    Args:
        logits (sequence[Tensor]): Of each detector, shape (S, C).
        weights (Tensor): Non-negative, shape (T, S); those of a sample must
            not all be 0.
        activation (str): 'softmax' or 'sigmoid'.

    Returns:
        Tensor: At least float32, shape (S, C). Of a softmax the logarithms
        of the probabilities.

    Example:
        >>> mixed = mixed_logits([torch.tensor([[0.]]), torch.tensor([[2.]])],
        ...                      torch.tensor([[3.], [1.]]), 'sigmoid')
        >>> print(f'{mixed.sigmoid().item():.4f}')
        0.5952
    """
    stacked = torch.stack([at_least_float32(one) for one in logits])
    shares = (weights / weights.sum(dim=0)).to(stacked).log()[..., None]
    if activation == 'softmax':
        return torch.logsumexp(stacked.log_softmax(dim=2) + shares, dim=0)
    yes, no = (
        torch.logsumexp(F.logsigmoid(sign * stacked) + shares, dim=0)
        for sign in (1, -1))
    return yes - no
