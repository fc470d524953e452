"""Base class of the losses on a detector's classification logits.

Shapes: N samples (RoIs, anchors or points), C columns of logits: K + 1 with
background last for a softmax head, K for a sigmoid head.
"""
from typing import Optional, Union

import torch
from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from ..logits import at_least_float32, check_same_samples
from .reduction import reduce_loss
from .sample_weight import SAMPLE_WEIGHT_MODES, sample_weight
from .weighted_loss import WeightedLoss


class LogitLoss(WeightedLoss):
    """Base class of the losses between student and calibrated teacher logits.

    A loss that is a mean over samples implements :meth:`per_sample_loss`. A
    loss that compares samples with each other overrides :meth:`reduced_loss`.
    Unlike mmdet's losses, it has no ``reduction``: the distiller adds one
    scalar to the student's losses, and ``avg_factor`` is its divisor.

    Each loss is valid for one kind of head:

    - A loss with a softmax over classes is not valid for a sigmoid head. The
      softmax keeps the differences between the classes and ignores their
      common level, which separates objects from background in a sigmoid head
      (the protocol inconsistency of Yang et al., "Bridging Cross-task
      Protocol Inconsistency for Distillation in Dense Object Detection", ICCV
      2023).
    - A loss that separates a target class from the others is also for softmax
      heads. A sigmoid head has no background class that could be the target,
      and the probabilities of its classes do not sum to 1.
    - A loss with a sigmoid per class is not valid for a softmax head, whose
      single logits have no meaning of their own.

    Attributes:
        head_activation (str): Activation of the heads for which the loss is
            valid, 'softmax' or 'sigmoid'.
        needs_labels (bool): Whether ``labels`` is required if N > 0.
        handles_half_precision (bool): Whether the loss accepts logits in half
            precision and converts them to float32 in parts, which avoids a
            float32 copy of all logits.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss. 'all': all samples;
            'foreground': samples with a label in [0, K); 'balanced':
            foreground and background with half of the weight each, within one
            call (one stage of a cascade, one pyramid level of a dense head);
            'teacher': all samples, weighted by the teacher's largest object
            probability. The selection is applied to ``weight`` first, see
            :func:`sample_weight`. Defaults to 'all'.

    Raises:
        InvalidTypeError: If ``loss_weight`` is not a number.
        InvalidValueError: If an argument has a wrong value.
    """

    head_activation = 'softmax'
    needs_labels = False
    handles_half_precision = False

    def __init__(self, loss_weight: float = 1.0, samples: str = 'all') -> None:
        super().__init__(loss_weight)
        if samples not in SAMPLE_WEIGHT_MODES:
            raise InvalidValueError(
                f'`samples` must be one of {SAMPLE_WEIGHT_MODES}, but got '
                f'{samples!r}')
        self.samples = samples

    def forward(self,
                student_logits: Tensor,
                teacher_logits: Tensor,
                labels: Optional[Tensor] = None,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None,
                image_index: Optional[Tensor] = None,
                num_classes: Optional[int] = None) -> Tensor:
        """Compute the loss.

        Args:
            student_logits (Tensor): Logits of the student, shape (N, C).
            teacher_logits (Tensor): Calibrated logits of the teacher, shape
                (N, C). No gradient flows into them.
            labels (Tensor, optional): Assigned class of each sample, shape
                (N,); a label outside [0, K) is background. Defaults to None.
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None: every sample has weight 1.
            avg_factor (float | Tensor, optional): Divisor of the sum over
                samples; a tensor has one element. Defaults to None: N.
            image_index (Tensor, optional): Index of the image of each sample,
                shape (N,), for a loss that compares samples of one image.
                Defaults to None: all samples are from one image.
            num_classes (int, optional): Number of classes K, in [1, C].
                Defaults to None: C - 1 for a softmax head, C for a sigmoid
                head.

        Returns:
            Tensor: Loss, a scalar, at least float32; for N = 0 a zero that
            still carries a gradient.

        Raises:
            InvalidTypeError: If ``num_classes`` is not a whole number.
            InvalidValueError: If a shape or ``num_classes`` is wrong, or
                labels are missing that the loss or its ``samples`` needs.
        """
        check_same_samples(student_logits, teacher_logits)
        self._check_per_sample(
            student_logits.shape[0],
            labels=labels,
            weight=weight,
            image_index=image_index)
        teacher_logits = teacher_logits.detach()
        if labels is None and self.needs_labels:
            # The check above ensures that there are no samples here.
            labels = torch.zeros(
                0, dtype=torch.long, device=student_logits.device)
        weight = self._sample_weight(teacher_logits, labels, weight,
                                     num_classes)
        if isinstance(avg_factor, Tensor):
            # A divisor of shape (1,) would give a loss of shape (1,).
            avg_factor = avg_factor.reshape(())
        if not self.handles_half_precision:
            student_logits = at_least_float32(student_logits)
            teacher_logits = at_least_float32(teacher_logits)
        return self.loss_weight * self.reduced_loss(
            student_logits, teacher_logits, labels, weight, avg_factor,
            image_index)

    def reduced_loss(self, student: Tensor, teacher: Tensor,
                     labels: Optional[Tensor], weight: Optional[Tensor],
                     avg_factor: Union[float, Tensor, None],
                     image_index: Optional[Tensor]) -> Tensor:
        """Compute the loss of all samples, without ``loss_weight``.

        Args:
            student (Tensor): Logits of the student, shape (N, C); at least
                float32, unless ``handles_half_precision`` is True.
            teacher (Tensor): Detached logits of the teacher, same shape and
                type.
            labels (Tensor, optional): Assigned class of each sample, shape
                (N,); never None if ``needs_labels`` is True.
            weight (Tensor, optional): Weight of each sample, with ``samples``
                already applied, shape (N,).
            avg_factor (float | Tensor, optional): Divisor of the sum over
                samples; a tensor has no dimensions.
            image_index (Tensor, optional): Index of the image of each sample,
                shape (N,).

        Returns:
            Tensor: Loss, a scalar.
        """
        return reduce_loss(
            self.per_sample_loss(student, teacher, labels), weight, avg_factor)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        """Compute the loss of each sample, summed over classes.

        Args:
            student (Tensor): Logits of the student, see
                :meth:`reduced_loss`, shape (N, C).
            teacher (Tensor): Detached logits of the teacher, shape (N, C).
            labels (Tensor, optional): Assigned class of each sample, shape
                (N,).

        Returns:
            Tensor: Loss of each sample, shape (N,).
        """
        raise NotImplementedError

    def _check_per_sample(self, num_samples: int,
                          **values: Optional[Tensor]) -> None:
        for name, value in values.items():
            # Another shape would broadcast to one term per pair of samples.
            if value is not None and value.shape != (num_samples, ):
                raise InvalidValueError(
                    f'`{name}` must have shape (N,) = ({num_samples},), but '
                    f'got {tuple(value.shape)}')
        if values['labels'] is not None or num_samples == 0:
            return
        needed = (f'{type(self).__name__}{{}} needs `labels`, the assigned '
                  f'class of each sample, shape ({num_samples},), but got '
                  'None: ')
        if self.needs_labels:
            raise InvalidValueError(
                needed.format('') +
                'use it on a head that assigns one class per sample')
        if self.samples in ('foreground', 'balanced'):
            raise InvalidValueError(
                needed.format(f' with samples={self.samples!r}') +
                "give them, or choose samples='all' or samples='teacher'")

    def _sample_weight(self, teacher_logits: Tensor, labels: Optional[Tensor],
                       weight: Optional[Tensor],
                       num_classes: Optional[int]) -> Optional[Tensor]:
        if self.samples == 'all':
            return weight
        cls_channels = teacher_logits.shape[1]
        if num_classes is None:
            num_classes = cls_channels - (self.head_activation == 'softmax')
        num_classes = check_count(
            'num_classes', num_classes, highest=cls_channels)
        return sample_weight(labels, num_classes, weight, self.samples,
                             teacher_logits, self.head_activation)


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Disable autocast, so that matrix products keep the input precision.

    Autocast computes softmax in float32, but rounds the inputs of every matrix
    product to half precision, even if they were converted to float32 before.

    Args:
        tensor (Tensor): Tensor on the device of the computation.

    Returns:
        torch.autocast: Context manager.
    """
    return torch.autocast(tensor.device.type, enabled=False)
