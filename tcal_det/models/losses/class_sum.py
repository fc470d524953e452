"""Sum over classes of a loss of single logits, with little memory.

A dense head has several hundred thousand samples: in RetinaNet, 2 images of
800 x 1344 pixels have 403,200 anchors and 123 MiB of logits. Autograd would
keep one such tensor for each step of the formula. Here only the two inputs are
kept, and both passes process the samples in chunks.

Shapes: N samples (RoIs, anchors or points), C columns of logits.
"""
from typing import Callable, List, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..logits import at_least_float32

# Largest number of logits in a chunk, 4 MiB in float32: a few chunks are small
# compared to a logit tensor, and one is large enough to use a GPU efficiently.
CHUNK_SIZE = 2**20

ElementwiseFunction = Callable[[Tensor, Tensor], Tensor]


def class_sum(student_logits: Tensor, teacher_logits: Tensor,
              loss: ElementwiseFunction,
              derivative: ElementwiseFunction) -> Tensor:
    """Compute the loss of each sample, summed over classes.

    Args:
        student_logits (Tensor): Logits of the student, any floating type,
            shape (N, C).
        teacher_logits (Tensor): Logits of the teacher, any floating type,
            shape (N, C). No gradient flows into them.
        loss (Callable): Function from the logits of student and teacher, at
            least float32, shape (n, C), to the loss of each logit, same
            shape.
        derivative (Callable): Derivative of ``loss`` with respect to the
            student's logits, with the same arguments.

    Returns:
        Tensor: Loss of each sample, shape (N,), at least float32. It can be
        differentiated once.

    Example:
        >>> student = torch.tensor([[1., 2.], [3., 4.]], requires_grad=True)
        >>> squares = class_sum(student, torch.zeros(2, 2),
        ...                     lambda student, teacher: student.square(),
        ...                     lambda student, teacher: 2 * student)
        >>> print(squares.tolist())
        [5.0, 25.0]
        >>> squares.sum().backward()
        >>> print(student.grad.tolist())
        [[2.0, 4.0], [6.0, 8.0]]
    """
    return _ClassSum.apply(student_logits, teacher_logits, loss, derivative)


class _ClassSum(torch.autograd.Function):

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor,
                loss: ElementwiseFunction,
                derivative: ElementwiseFunction) -> Tensor:
        # This stores references to the inputs, not copies.
        ctx.save_for_backward(student, teacher)
        ctx.derivative = derivative
        return torch.cat([
            loss(at_least_float32(of_student),
                 at_least_float32(of_teacher)).sum(dim=1)
            for of_student, of_teacher in zip(*_chunks(student, teacher))
        ])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_of_sum: Tensor):
        student, teacher = ctx.saved_tensors
        grad = torch.empty_like(student)
        chunks = zip(*_chunks(student, teacher, grad, grad_of_sum[:, None]))
        for of_student, of_teacher, of_grad, of_sum in chunks:
            slope = ctx.derivative(
                at_least_float32(of_student), at_least_float32(of_teacher))
            torch.mul(slope, of_sum, out=of_grad)
        return grad, None, None, None


def _chunks(*tensors: Tensor) -> List[Tuple[Tensor, ...]]:
    """Split tensors into rows with <= ``CHUNK_SIZE`` elements in the first."""
    num_rows = max(CHUNK_SIZE // max(tensors[0].shape[1], 1), 1)
    return [tensor.split(num_rows) for tensor in tensors]
