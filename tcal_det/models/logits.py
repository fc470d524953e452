"""What calibrators and losses agree on about logits, shape (N, C)."""
import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError


def at_least_float32(logits: Tensor) -> Tensor:
    """Widen half precision to float32; leave float32 and float64 alone.

    Under AMP the heads return float16 or bfloat16, in which a softmax over
    many classes loses the small probabilities that distillation lives on.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        return logits.float()
    return logits


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
