"""What all losses on the boxes of a detector have in common.

Shapes: N samples (RoIs, anchors or points).
"""
from typing import Optional, Union

from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..logits import at_least_float32
from .reduction import reduce_loss
from .weighted_loss import WeightedLoss


class BoxLoss(WeightedLoss):
    """Base of the losses between boxes of student and teacher.

    A loss implements :meth:`per_sample_loss`.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Raises:
        InvalidTypeError, InvalidValueError: If an argument is wrong.
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
            student (Tensor): What the student says of N samples, shape
                (N, ...).
            teacher (Tensor): What the teacher says of them, of the same
                shape. No gradient flows into it.
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None, every sample weighs 1.
            avg_factor (float | Tensor, optional): Divides the sum over
                samples instead of N; a tensor has one element. Defaults to
                None.

        Returns:
            Tensor: A scalar, at least float32; for N = 0 a zero that still
            carries a gradient.

        Raises:
            InvalidValueError: If a shape does not fit.
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
        """Refuse what cannot belong to the same samples.

        Args:
            student (Tensor): What the loss is given of the student.
            teacher (Tensor): What the loss is given of the teacher.

        Raises:
            InvalidValueError: If a shape does not fit.
        """
        raise NotImplementedError

    def per_sample_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Loss of each sample, without ``loss_weight``.

        Args:
            student (Tensor): At least float32, shape (N, ...).
            teacher (Tensor): Without gradient, of the same shape.

        Returns:
            Tensor: Shape (N,).
        """
        raise NotImplementedError
