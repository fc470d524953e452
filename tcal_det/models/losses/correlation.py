"""Correlations, and ranks that have a gradient.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import Optional

import torch
from torch import Tensor

# Variation, relative to the values, below which a vector counts as constant.
# The gradient of a correlation is of the order of the inverse variation: this
# keeps it finite in half precision for a student without any preference.
MIN_VARIATION = 1e-4
# Only keeps 0 / 0 away.
TINY = 1e-12


def pearson(student: Tensor,
            teacher: Tensor,
            dim: int,
            weight: Optional[Tensor] = None) -> Tensor:
    """Pearson correlation along one dimension.

    A constant vector correlates with nothing: its correlation is 0. Below
    a variation of 1e-4 of the values the correlation fades to that, so that
    its gradient stays bounded.

    Args:
        student (Tensor): Shape (N, C).
        teacher (Tensor): Shape (N, C).
        dim (int): 1 to correlate over classes, 0 over samples.
        weight (Tensor, optional): Non-negative weights along ``dim``, which
            broadcast to (N, C); only their proportions count. Defaults to
            None, all alike.

    Returns:
        Tensor: Shape (N,) for dim 1, (C,) for dim 0.

    Example:
        >>> student = torch.tensor([[1., 2., 3.]])
        >>> teacher = torch.tensor([[1., 3., 2.]])
        >>> print(f'{pearson(student, teacher, dim=1).item():.4f}')
        0.5000
    """
    if weight is None:
        weight = torch.ones_like(student)
    directions = [
        _direction(values, dim, weight) for values in (student, teacher)
    ]
    return (directions[0] * directions[1]).sum(dim=dim)


def _direction(values: Tensor, dim: int, weight: Tensor) -> Tensor:
    """Centred and of length 1, or shorter where ``values`` hardly vary."""
    total = weight.sum(dim=dim, keepdim=True).clamp(min=TINY)
    mean = (weight * values).sum(dim=dim, keepdim=True) / total
    root = weight.sqrt()
    centred = root * (values - mean)
    length = centred.norm(dim=dim, keepdim=True)
    shortest = MIN_VARIATION * (root * values.detach()).norm(
        dim=dim, keepdim=True)
    return centred / torch.maximum(length, shortest).clamp(min=TINY)


def soft_rank(logits: Tensor, temperature: float) -> Tensor:
    r"""Differentiable ranks of the classes, the largest logit highest.

    .. math:: r_c = \tfrac12 + \sum_k \sigma\big((z_c - z_k) / \tau\big)

    As :math:`\tau \to 0` these are the ranks 1 to C, ties shared, also
    between masked classes (-inf). Takes memory for N x C x C numbers.

    Args:
        logits (Tensor): Shape (N, C).
        temperature (float): :math:`\tau` > 0, in the unit of the logits.

    Returns:
        Tensor: Shape (N, C).

    Example:
        >>> soft_rank(torch.tensor([[3., -1., 7.]]), .01)
        tensor([[2., 1., 3.]])
    """
    differences = logits[:, :, None] - logits[:, None, :]
    is_masked = logits == -math.inf
    differences = differences.masked_fill(
        is_masked[:, :, None] & is_masked[:, None, :], 0)
    return .5 + (differences / temperature).sigmoid().sum(dim=2)
