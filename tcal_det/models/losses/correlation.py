"""Correlations and differentiable ranks.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import Optional

import torch
from torch import Tensor

# Variation, relative to the values, below which a vector counts as constant.
# The gradient of a correlation is of the order of the inverse variation: this
# bound keeps it finite in half precision for a student whose logits are equal.
MIN_VARIATION = 1e-4
# Prevents 0 / 0.
TINY = 1e-12


def pearson(student: Tensor,
            teacher: Tensor,
            dim: int,
            weight: Optional[Tensor] = None) -> Tensor:
    """Compute the Pearson correlation along one dimension.

    The correlation of a constant vector is defined as 0. If the variation is
    below 1e-4 of the values, the correlation decreases towards 0, so that its
    gradient stays bounded.

    Args:
        student (Tensor): Values of the student, shape (N, C).
        teacher (Tensor): Values of the teacher, shape (N, C).
        dim (int): Dimension of the correlation: 1 for classes, 0 for samples.
        weight (Tensor, optional): Non-negative weights along ``dim``, with a
            shape that broadcasts to (N, C); only their ratios matter.
            Defaults to None: equal weights.

    Returns:
        Tensor: Correlations, shape (N,) for ``dim=1``, (C,) for ``dim=0``.

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
    """Centre ``values`` and scale them to length 1 (less if near-constant)."""
    total = weight.sum(dim=dim, keepdim=True).clamp(min=TINY)
    mean = (weight * values).sum(dim=dim, keepdim=True) / total
    root = weight.sqrt()
    centred = root * (values - mean)
    length = centred.norm(dim=dim, keepdim=True)
    shortest = MIN_VARIATION * (root * values.detach()).norm(
        dim=dim, keepdim=True)
    return centred / torch.maximum(length, shortest).clamp(min=TINY)


def soft_rank(logits: Tensor, temperature: float) -> Tensor:
    r"""Compute differentiable ranks of the classes in ascending order.

    .. math:: r_c = \tfrac12 + \sum_k \sigma\big((z_c - z_k) / \tau\big)

    For :math:`\tau \to 0` these are the ranks 1 to C; equal logits, and masked
    classes (-inf), share the mean of their ranks. The memory is that of
    N x C x C numbers.

    Args:
        logits (Tensor): Logits, shape (N, C).
        temperature (float): Softness :math:`\tau` of the ranks, in the unit
            of the logits, > 0.

    Returns:
        Tensor: Ranks, shape (N, C).

    Example:
        >>> soft_rank(torch.tensor([[3., -1., 7.]]), .01)
        tensor([[2., 1., 3.]])
    """
    differences = logits[:, :, None] - logits[:, None, :]
    is_masked = logits == -math.inf
    differences = differences.masked_fill(
        is_masked[:, :, None] & is_masked[:, None, :], 0)
    return .5 + (differences / temperature).sigmoid().sum(dim=2)
