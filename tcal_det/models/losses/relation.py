r"""Relations between samples, and between classes across samples.

The weight of a pair of samples is the geometric mean of their weights,
:math:`\sqrt{w_i w_j}`: if all weights double, the loss doubles, and all pairs
of a sample with weight 0 have weight 0.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import List, Optional, Union

import torch
from torch import Tensor

from .logit_loss import without_autocast


def samples_by_image(
        num_samples: int,
        image_index: Optional[Tensor] = None) -> List[Union[slice, Tensor]]:
    """Return the positions of the samples of each image.

    Args:
        num_samples (int): Number of samples N.
        image_index (Tensor, optional): Index of the image of each sample,
            shape (N,). Defaults to None: all samples are from one image.

    Returns:
        list[slice | Tensor]: Index of the samples of each image; the list is
        never empty.
    """
    if image_index is None or num_samples == 0:
        return [slice(None)]
    return [(image_index == image).nonzero()[:, 0]
            for image in image_index.unique()]


def sample_relation_gap(student_probs: Tensor,
                        teacher_probs: Tensor,
                        weight: Optional[Tensor] = None) -> Tensor:
    r"""Compute squared differences of sample similarities, per sample.

    The result is the sum of each row of :math:`(P_t P_t^\top - P_s
    P_s^\top)^2`, squared element by element. Its mean over samples is the
    squared Frobenius norm divided by N.

    Args:
        student_probs (Tensor): Probabilities of the student, shape (N, C).
        teacher_probs (Tensor): Probabilities of the teacher, shape (N, C).
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None: every pair has weight 1.

    Returns:
        Tensor: Sum for each sample, shape (N,).

    Example:
        >>> student = torch.tensor([[1., 0.], [0., 1.]])
        >>> teacher = torch.tensor([[1., 0.], [1., 0.]])
        >>> sample_relation_gap(student, teacher)
        tensor([1., 1.])
    """
    with without_autocast(student_probs):
        gap = (
            teacher_probs @ teacher_probs.T - student_probs @ student_probs.T)
    return (gap.square() * _pair_weight(weight)).sum(dim=1)


def class_relation_gap(student_probs: Tensor,
                       teacher_probs: Tensor,
                       weight: Optional[Tensor] = None) -> Tensor:
    r"""Compute squared differences of class similarities, per class.

    The result is the sum of each row of :math:`(P_t^\top P_t - P_s^\top
    P_s)^2`, squared element by element. This is also a sum over pairs of
    samples, with the weights of pairs as defined in this module.

    Args:
        student_probs (Tensor): Probabilities of the student, shape (N, C).
        teacher_probs (Tensor): Probabilities of the teacher, shape (N, C).
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None: every pair has weight 1.

    Returns:
        Tensor: Sum for each class, shape (C,).

    Example:
        >>> student = torch.tensor([[1., 0.], [0., 1.]])
        >>> teacher = torch.tensor([[1., 0.], [1., 0.]])
        >>> class_relation_gap(student, teacher)
        tensor([1., 1.])
    """
    root = 1 if weight is None else weight.sqrt()[:, None]
    with without_autocast(student_probs):
        gap = ((root * teacher_probs).T @ teacher_probs -
               (root * student_probs).T @ student_probs)
    return gap.square().sum(dim=1)


def pair_difference_gap(student: Tensor,
                        teacher: Tensor,
                        weight: Optional[Tensor] = None) -> Tensor:
    r"""Compute the mean gap between both models' differences to other samples.

    For each sample i the result is :math:`\frac{1}{N-1} \sum_{j \ne i}
    \|(z_{s,i} - z_{s,j}) - (z_{t,i} - z_{t,j})\|_2`; for N = 1 it is 0. A
    class that both models mask (-inf) adds nothing. If only one model masks a
    class in a sample, the distance to the other samples is infinite.

    Args:
        student (Tensor): Logits of the student, shape (N, C).
        teacher (Tensor): Logits of the teacher, shape (N, C).
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None: every pair has weight 1.

    Returns:
        Tensor: Mean distance of each sample, shape (N,).

    Example:
        >>> student = torch.tensor([[0., 3.], [4., 0.]])
        >>> pair_difference_gap(student, torch.zeros(2, 2))
        tensor([5., 5.])
    """
    is_masked = (student == -math.inf, teacher == -math.inf)
    gap = (student - teacher).masked_fill(is_masked[0] | is_masked[1], 0)
    # The faster computation by a matrix product is inaccurate for small
    # distances.
    distance = torch.cdist(
        gap, gap, compute_mode='donot_use_mm_for_euclid_dist')
    distance = distance * _pair_weight(weight)
    per_sample = distance.sum(dim=1) / max(gap.shape[0] - 1, 1)
    if gap.shape[0] < 2:
        return per_sample
    is_far = (is_masked[0] != is_masked[1]).any(dim=1)
    if weight is not None:
        is_far = is_far & (weight > 0)
    return per_sample.masked_fill(is_far, math.inf)


def _pair_weight(weight: Optional[Tensor]) -> Union[float, Tensor]:
    """Return the weights of all pairs, shape (N, N), or 1 without weights."""
    if weight is None:
        return 1.
    root = weight.sqrt()
    return root[:, None] * root
