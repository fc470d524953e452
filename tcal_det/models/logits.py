"""What calibrators and losses agree on about logits, shape (N, C)."""
import math

import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError

# Of a loss that is differentiated inside of a step: half precision would lose
# small gradients, and no GradScaler is there yet.
GRADIENT_SCALE = 1024.0


def at_least_float32(logits: Tensor) -> Tensor:
    """Widen half precision to float32; leave float32 and float64 alone.

    Under AMP the heads return float16 or bfloat16, in which a softmax over
    many classes loses the small probabilities that distillation lives on.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        return logits.float()
    return logits


def centred(logits: Tensor) -> Tensor:
    """Take the mean over the classes off the logits of each sample.

    A softmax ignores the offset of a sample's logits. What multiplies single
    logits does not, and needs an offset that means the same in every model.

    Args:
        logits (Tensor): At least float32, shape (N, C).

    Returns:
        Tensor: Same shape and type. A masked class (a logit of -inf) stays
        masked and has no part in the mean.

    Example:
        >>> centred(torch.tensor([[5., 1., 3.]])).tolist()
        [[2.0, -2.0, 0.0]]
    """
    is_masked = logits == -math.inf
    count = (~is_masked).sum(dim=1, keepdim=True).clamp(min=1)
    # Divided before they are summed: huge logits have a sum beyond the type.
    mean = (logits.masked_fill(is_masked, 0) / count).sum(dim=1, keepdim=True)
    return logits - mean


def class_probabilities(logits: Tensor, activation: str,
                        num_classes: int) -> Tensor:
    """Probabilities of the classes, without background.

    Args:
        logits (Tensor): Shape (N, C).
        activation (str): 'softmax' or 'sigmoid'.
        num_classes (int): Number of classes K, the first columns.

    Returns:
        Tensor: At least float32, shape (N, K).
    """
    logits = at_least_float32(logits)
    probs = (
        logits.sigmoid() if activation == 'sigmoid' else logits.softmax(dim=1))
    return probs[:, :num_classes]


def check_same_samples(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Refuse logits that cannot belong to the same samples and classes.

    Raises:
        InvalidValueError: If the shapes differ or are not (N, C).
    """
    if (student_logits.dim() != 2
            or student_logits.shape != teacher_logits.shape):
        raise InvalidValueError(
            '`student_logits` and `teacher_logits` must have one shape '
            f'(N, C), but got {tuple(student_logits.shape)} of the student '
            f'and {tuple(teacher_logits.shape)} of the teacher')
