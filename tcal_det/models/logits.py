"""Functions on logits that calibrators and losses share.

Shapes: N samples; C columns of logits.
"""
import math

import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError

# Factor of a loss that is differentiated within a step: half precision would
# lose small gradients, and the GradScaler has not scaled this loss yet.
GRADIENT_SCALE = 1024.0


def at_least_float32(logits: Tensor) -> Tensor:
    """Convert half precision to float32; keep float32 and float64.

    Under AMP the heads return float16 or bfloat16, in which a softmax over
    many classes loses the small probabilities that distillation needs.

    Args:
        logits (Tensor): Floating type, any shape.

    Returns:
        Tensor: Float32 or float64, same shape.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        return logits.float()
    return logits


def centred(logits: Tensor) -> Tensor:
    """Subtract each sample's mean over the classes from its logits.

    A softmax ignores the offset of a sample's logits. An operation that
    multiplies single logits depends on it, and needs an offset that is
    defined in the same way for every model.

    Args:
        logits (Tensor): At least float32, shape (N, C).

    Returns:
        Tensor: Centred logits, same shape and type. A masked class (a logit
        of -inf) stays masked and does not enter the mean.

    Example:
        >>> centred(torch.tensor([[5., 1., 3.]])).tolist()
        [[2.0, -2.0, 0.0]]
    """
    is_masked = logits == -math.inf
    count = (~is_masked).sum(dim=1, keepdim=True).clamp(min=1)
    # Divide before the sum: the sum of huge logits would overflow.
    mean = (logits.masked_fill(is_masked, 0) / count).sum(dim=1, keepdim=True)
    return logits - mean


def class_probabilities(logits: Tensor, activation: str,
                        num_classes: int) -> Tensor:
    """Compute the probabilities of the classes, without background.

    Args:
        logits (Tensor): Unnormalised scores, shape (N, C).
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.
        num_classes (int): Number of classes K; these are the first columns.

    Returns:
        Tensor: Probabilities, at least float32, shape (N, K).
    """
    logits = at_least_float32(logits)
    probs = (
        logits.sigmoid() if activation == 'sigmoid' else logits.softmax(dim=1))
    return probs[:, :num_classes]


def check_same_samples(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Check that two logit tensors have the same shape (N, C).

    Args:
        student_logits (Tensor): Logits of the student.
        teacher_logits (Tensor): Logits of the teacher.

    Raises:
        InvalidValueError: If the shapes differ or are not (N, C).
    """
    if (student_logits.dim() != 2
            or student_logits.shape != teacher_logits.shape):
        raise InvalidValueError(
            '`student_logits` and `teacher_logits` must have the same shape '
            f'(N, C), but got {tuple(student_logits.shape)} of the student '
            f'and {tuple(teacher_logits.shape)} of the teacher')
