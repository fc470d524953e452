r"""Split of a distribution into a target part and a non-target part.

Every distribution over C classes consists of a binary distribution (target or
not) and a conditional distribution over the C - 1 other classes, given that
the class is not the target. DKD, ATKD and AEKT weight the two parts
differently.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import Tuple

import torch
from torch import Tensor

from .logit_kl_div_loss import logit_kl_div


def split_target(logits: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
    """Split logits into those of 'target or not' and of the other classes.

    The logit of 'not' is the log-sum-exp of the other logits: the logarithm of
    a sum of probabilities would be -inf for a confident teacher. If all other
    classes are masked (-inf), this logit is -inf. The distribution over the
    other classes is then not defined, and a uniform one is returned.

    Args:
        logits (Tensor): Unnormalised scores, shape (N, C) with C >= 2.
        labels (Tensor): Target class of each sample, shape (N,).

    Returns:
        tuple[Tensor, Tensor]: Logits of 'target or not', shape (N, 2), whose
        softmax is (p_target, 1 - p_target); logits of the non-target
        classes in their order, shape (N, C - 1).

    Example:
        >>> logits = torch.tensor([[.5, .3, .2]]).log()
        >>> binary, non_target = split_target(logits, torch.tensor([1]))
        >>> print(binary.softmax(1))
        tensor([[0.3000, 0.7000]])
        >>> print(non_target.softmax(1))
        tensor([[0.7143, 0.2857]])
    """
    labels = labels[:, None]
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    # Skip the target: the columns from its position on move up by one.
    non_target = logits.gather(1, column + (column >= labels))
    # The gradient of a log-sum-exp is NaN if all inputs are -inf.
    has_no_rest = (non_target == -math.inf).all(dim=1, keepdim=True)
    non_target = non_target.masked_fill(has_no_rest, 0)
    rest = torch.logsumexp(non_target, dim=1, keepdim=True)
    rest = rest.masked_fill(has_no_rest, -math.inf)
    return torch.cat([logits.gather(1, labels), rest], dim=1), non_target


def target_kl_div(student_logits: Tensor,
                  teacher_logits: Tensor,
                  labels: Tensor,
                  temperature: float = 1.0) -> Tuple[Tensor, Tensor]:
    r"""Compute the KL divergence of the two parts, each times :math:`T^2`.

    With :math:`b = (p_y, 1 - p_y)` and the softmax q over the non-target
    classes, at temperature T in both models, the parts are
    :math:`T^2\,\mathrm{KL}(b_t\|b_s)` and :math:`T^2\,\mathrm{KL}(q_t\|q_s)`.
    The plain KL divergence is the first plus :math:`1 - p_{t,y}` times the
    second. Where the teacher masks all classes except the target, the second
    part is 0.

    Args:
        student_logits (Tensor): Logits of the student, shape (N, C).
        teacher_logits (Tensor): Logits of the teacher, shape (N, C).
        labels (Tensor): Target class of each sample, shape (N,).
        temperature (float): Temperature T of both models, > 0. Defaults to
            1.0.

    Returns:
        tuple[Tensor, Tensor]: Target part and non-target part, shape (N,)
        each.
    """
    # The temperature is applied here and not in `logit_kl_div`, as it must be
    # applied before the log-sum-exp.
    student = split_target(student_logits / temperature, labels)
    teacher = split_target(teacher_logits / temperature, labels)
    target, non_target = (logit_kl_div(of_student, of_teacher) * temperature**2
                          for of_student, of_teacher in zip(student, teacher))
    has_no_rest = teacher[0][:, 1] == -math.inf
    return target, non_target.masked_fill(has_no_rest, 0)
