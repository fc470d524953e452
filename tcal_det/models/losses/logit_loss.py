"""What all losses on a detector's classification logits have in common.

Shapes: N samples (RoIs or anchors), C columns of logits: K + 1 with
background last for a softmax head, K for a sigmoid head.
"""
from typing import Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from tcal_det.arguments import check_non_negative
from tcal_det.errors import InvalidValueError
from ..logits import at_least_float32, check_same_samples
from .reduction import reduce_loss


class LogitLoss(nn.Module):
    """Base of the losses between student logits and calibrated teacher logits.

    A loss that is a mean over samples implements :meth:`per_sample_loss`;
    one that compares samples with each other overrides :meth:`forward`.

    Attributes:
        head_activation (str): 'softmax' or 'sigmoid', the kind of head whose
            logits the formula is made for.
        needs_labels (bool): Whether ``labels`` must be given when N > 0.
        needs_image_index (bool): Whether ``forward`` takes the keyword
            ``image_index``, the image of each sample, shape (N,).

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
    """

    head_activation = 'softmax'
    needs_labels = False
    needs_image_index = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_non_negative('loss_weight', loss_weight)

    def forward(self,
                student_logits: Tensor,
                teacher_logits: Tensor,
                labels: Optional[Tensor] = None,
                weight: Optional[Tensor] = None,
                avg_factor: Optional[float] = None) -> Tensor:
        """Compute the loss.

        Args:
            student_logits (Tensor): Shape (N, C).
            teacher_logits (Tensor): Calibrated, shape (N, C). No gradient
                flows into them.
            labels (Tensor, optional): Assigned class of each sample, shape
                (N,). Defaults to None.
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None, every sample weighs 1.
            avg_factor (float, optional): Divides the sum over samples
                instead of N. Defaults to None.

        Returns:
            Tensor: A scalar, at least float32; for N = 0 a zero that still
            carries a gradient.
        """
        student, teacher, labels = self.prepare(student_logits, teacher_logits,
                                                labels, weight)
        per_sample = self.per_sample_loss(student, teacher, labels)
        return self.loss_weight * reduce_loss(per_sample, weight, avg_factor)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        """Loss of each sample, summed over classes.

        Args:
            student (Tensor): Logits, at least float32, shape (N, C).
            teacher (Tensor): Detached logits, at least float32, shape (N, C).
            labels (Tensor, optional): Shape (N,); never None if the loss
                ``needs_labels``.

        Returns:
            Tensor: Shape (N,).
        """
        raise NotImplementedError

    def prepare(
            self, student_logits: Tensor, teacher_logits: Tensor,
            labels: Optional[Tensor], weight: Optional[Tensor]
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Check the inputs of ``forward``, widen and detach them.

        Args:
            student_logits (Tensor): Shape (N, C).
            teacher_logits (Tensor): Shape (N, C).
            labels (Tensor, optional): Shape (N,).
            weight (Tensor, optional): Shape (N,).

        Returns:
            tuple: Student logits, detached teacher logits, both at least
            float32, and labels (empty for N = 0 if the loss needs them).

        Raises:
            InvalidValueError: If a shape does not fit, or labels that the
                loss needs are missing.
        """
        check_same_samples(student_logits, teacher_logits)
        num_samples = student_logits.shape[0]
        for name, value in (('labels', labels), ('weight', weight)):
            # Another shape would broadcast to one term per pair of samples.
            if value is not None and value.shape != (num_samples, ):
                raise InvalidValueError(
                    f'`{name}` must have shape (N,) = ({num_samples},), but '
                    f'got {tuple(value.shape)}')
        if labels is None and self.needs_labels:
            if num_samples > 0:
                raise InvalidValueError(
                    f'{type(self).__name__} needs `labels`, the assigned '
                    f'class of each sample, shape ({num_samples},), but got '
                    'None: use it on a head that assigns one class per '
                    'sample')
            labels = torch.zeros(
                0, dtype=torch.long, device=student_logits.device)
        return (at_least_float32(student_logits),
                at_least_float32(teacher_logits.detach()), labels)

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={value}'
                         for name, value in vars(self).items()
                         if not name.startswith('_') and name != 'training')


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Context in which matrix products keep the precision of their inputs.

    Autocast leaves softmax in float32 but rounds the inputs of every matrix
    product to half precision, whatever was widened before.
    """
    return torch.autocast(tensor.device.type, enabled=False)
