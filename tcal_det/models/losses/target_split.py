r"""The knowledge in logits, split at the target class.

Every distribution over C classes is a binary one, target or not, and one
over the C - 1 other classes given that it is not the target. DKD, ATKD and
AEKT weigh the two parts differently.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import Tuple

import torch
from torch import Tensor

from .logit_kl_div_loss import logit_kl_div


def split_target(logits: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
    """Logits of 'target or not', and of the other classes among themselves.

    The rest's logit is the log-sum-exp of the other logits: the logarithm of
    a masked sum of probabilities would be -inf for a sure teacher. Where all
    other classes are masked (-inf), it is -inf, and their distribution among
    themselves, of which there is none, is returned as a uniform one.

    Args:
        logits (Tensor): Unnormalised scores, shape (N, C) with C >= 2.
        labels (Tensor): Target class of each sample, shape (N,).

    Returns:
        tuple[Tensor, Tensor]: Logits of target and rest, shape (N, 2), whose
        softmax is (p_target, 1 - p_target); logits of the non-target
        classes in their order, shape (N, C - 1).

    Example:
        >>> logits = torch.tensor([[.5, .3, .2]]).log()
        >>> binary, others = split_target(logits, torch.tensor([1]))
        >>> print(binary.softmax(1))
        tensor([[0.3000, 0.7000]])
        >>> print(others.softmax(1))
        tensor([[0.7143, 0.2857]])
    """
    labels = labels[:, None]
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    # Columns from the target's on move up by one.
    others = logits.gather(1, column + (column >= labels))
    # No log-sum-exp of nothing but -inf, whose gradient is NaN.
    is_alone = (others == -math.inf).all(dim=1, keepdim=True)
    others = others.masked_fill(is_alone, 0)
    rest = torch.logsumexp(others, dim=1, keepdim=True)
    rest = rest.masked_fill(is_alone, -math.inf)
    return torch.cat([logits.gather(1, labels), rest], dim=1), others


def target_kl_div(student_logits: Tensor,
                  teacher_logits: Tensor,
                  labels: Tensor,
                  temperature: float = 1.0) -> Tuple[Tensor, Tensor]:
    r"""KL divergence of the two parts, each times :math:`T^2`.

    With :math:`b = (p_y, 1 - p_y)` and q the softmax over the non-target
    classes, at temperature T on both sides:
    :math:`T^2\,\mathrm{KL}(b_t\|b_s)` and :math:`T^2\,\mathrm{KL}(q_t\|q_s)`.
    The plain KL divergence is the first plus :math:`1 - p_{t,y}` times the
    second. Where the teacher masks all classes but the target, the second is
    0.

    Args:
        student_logits (Tensor): Shape (N, C).
        teacher_logits (Tensor): Shape (N, C).
        labels (Tensor): Target class of each sample, shape (N,).
        temperature (float): Divides both sides. Defaults to 1.0.

    Returns:
        tuple[Tensor, Tensor]: Target and non-target part, each (N,).
    """
    # The log-sum-exp is taken after softening, hence T here and not in
    # `logit_kl_div`.
    student = split_target(student_logits / temperature, labels)
    teacher = split_target(teacher_logits / temperature, labels)
    target, non_target = (logit_kl_div(of_student, of_teacher) * temperature**2
                          for of_student, of_teacher in zip(student, teacher))
    has_no_rest = teacher[0][:, 1] == -math.inf
    return target, non_target.masked_fill(has_no_rest, 0)
