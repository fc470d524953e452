"""Base class of the losses on the boxes of a detector.

Shapes: N samples (RoIs, anchors or points).
"""
from typing import Optional, Union

from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..logits import at_least_float32
from .reduction import reduce_loss
from .weighted_loss import WeightedLoss


class BoxLoss(WeightedLoss):
    """Base class of the losses between boxes of student and teacher.

    A subclass implements :meth:`check_shapes` and :meth:`per_sample_loss`.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Raises:
        InvalidTypeError: If an argument has a wrong type.
        InvalidValueError: If an argument has a wrong value.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None) -> Tensor:
        """Compute the loss.

        Args:
            student (Tensor): Box predictions of the student, shape (N, ...).
            teacher (Tensor): Box predictions of the teacher for the same
                samples, same shape. No gradient flows into it.
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None: every sample has weight 1.
            avg_factor (float | Tensor, optional): Divisor of the sum over
                samples; a tensor has one element. Defaults to None: N.

        Returns:
            Tensor: Loss, a scalar, at least float32; for N = 0 a zero that
            still carries a gradient.

        Raises:
            InvalidValueError: If a shape is wrong.
        """
        self.check_shapes(student, teacher)
        if weight is not None and weight.shape != student.shape[:1]:
            # Another shape would broadcast to one term per pair of samples.
            raise InvalidValueError(
                f'`weight` must have shape (N,) = ({len(student)},), but got '
                f'{tuple(weight.shape)}')
        per_sample = self.per_sample_loss(
            at_least_float32(student), at_least_float32(teacher.detach()))
        return self.loss_weight * reduce_loss(per_sample, weight, avg_factor)

    def check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        """Check the shapes of the predictions of both models.

        Args:
            student (Tensor): Box predictions of the student.
            teacher (Tensor): Box predictions of the teacher.

        Raises:
            InvalidValueError: If a shape is wrong, or the shapes differ.
        """
        raise NotImplementedError

    def per_sample_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of each sample, without ``loss_weight``.

        Args:
            student (Tensor): Box predictions of the student, at least
                float32, shape (N, ...).
            teacher (Tensor): Box predictions of the teacher, without
                gradient, same shape.

        Returns:
            Tensor: Loss of each sample, shape (N,).
        """
        raise NotImplementedError
