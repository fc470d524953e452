"""What all losses on a detector's classification logits have in common.

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
    """Base of the losses between student logits and calibrated teacher logits.

    A loss that is a mean over samples implements :meth:`per_sample_loss`;
    one that compares samples with each other overrides :meth:`reduced_loss`.

    A loss is made for one kind of head. One with a softmax over classes is
    not for a sigmoid head: the softmax keeps the differences between the
    classes and drops how high they all are, which is what tells an object
    from background there (the inconsistency of protocols in Yang et al.,
    "Bridging Cross-task Protocol Inconsistency for Distillation in Dense
    Object Detection", ICCV 2023). One that sets a target class apart is made
    for softmax, too: a sigmoid head has no background class that could be
    the target, and its classes do not share a probability to be split. One
    with a sigmoid per class is not for a softmax head, whose logits mean
    nothing without each other.

    Attributes:
        head_activation (str): 'softmax' or 'sigmoid', the kind of head whose
            logits the formula is made for.
        needs_labels (bool): Whether ``labels`` must be given when N > 0.
        widens_itself (bool): Whether the formula takes logits in half
            precision and widens them part by part, so that no float32 copy
            of them all is made.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that count. 'all'; 'foreground', those with a
            label in [0, K); 'balanced', foreground and background with half
            of the weight each, within one call (one stage of a cascade, one
            pyramid level of a dense head); 'teacher', each in proportion to
            the teacher's largest object probability. It is applied to
            ``weight`` before anything else, see :func:`sample_weight`.
            Defaults to 'all'.
    """

    head_activation = 'softmax'
    needs_labels = False
    widens_itself = False

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
            student_logits (Tensor): Shape (N, C).
            teacher_logits (Tensor): Calibrated, shape (N, C). No gradient
                flows into them.
            labels (Tensor, optional): Assigned class of each sample, shape
                (N,); one outside [0, K) is background. Defaults to None.
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None, every sample weighs 1.
            avg_factor (float | Tensor, optional): Divides the sum over
                samples instead of N; a tensor has one element. Defaults to
                None.
            image_index (Tensor, optional): Image of each sample, shape (N,),
                for a loss that compares samples of one image. Defaults to
                None, all are of one image.
            num_classes (int, optional): K, in [1, C]. Defaults to None:
                C - 1 for a softmax head, C for a sigmoid head.

        Returns:
            Tensor: A scalar, at least float32; for N = 0 a zero that still
            carries a gradient.

        Raises:
            InvalidValueError: If a shape does not fit, or labels that the
                loss or its ``samples`` needs are missing.
        """
        check_same_samples(student_logits, teacher_logits)
        self._check_per_sample(
            student_logits.shape[0],
            labels=labels,
            weight=weight,
            image_index=image_index)
        teacher_logits = teacher_logits.detach()
        if labels is None and self.needs_labels:
            # Only without samples, by the check above.
            labels = torch.zeros(
                0, dtype=torch.long, device=student_logits.device)
        weight = self._sample_weight(teacher_logits, labels, weight,
                                     num_classes)
        if isinstance(avg_factor, Tensor):
            # One of shape (1,) would make a loss of shape (1,).
            avg_factor = avg_factor.reshape(())
        if not self.widens_itself:
            student_logits = at_least_float32(student_logits)
            teacher_logits = at_least_float32(teacher_logits)
        return self.loss_weight * self.reduced_loss(
            student_logits, teacher_logits, labels, weight, avg_factor,
            image_index)

    def reduced_loss(self, student: Tensor, teacher: Tensor,
                     labels: Optional[Tensor], weight: Optional[Tensor],
                     avg_factor: Union[float, Tensor, None],
                     image_index: Optional[Tensor]) -> Tensor:
        """Loss of the whole set of samples, without ``loss_weight``.

        Args:
            student (Tensor): Logits, at least float32 unless the loss
                ``widens_itself``, shape (N, C).
            teacher (Tensor): Detached logits of the same kind, shape (N, C).
            labels (Tensor, optional): Shape (N,); never None if the loss
                ``needs_labels``.
            weight (Tensor, optional): Shape (N,), ``samples`` applied.
            avg_factor (float | Tensor, optional): Divisor, a tensor without
                dimensions.
            image_index (Tensor, optional): Shape (N,).

        Returns:
            Tensor: A scalar.
        """
        return reduce_loss(
            self.per_sample_loss(student, teacher, labels), weight, avg_factor)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        """Loss of each sample, summed over classes.

        Args:
            student (Tensor): As in :meth:`reduced_loss`, shape (N, C).
            teacher (Tensor): As in :meth:`reduced_loss`, shape (N, C).
            labels (Tensor, optional): As in :meth:`reduced_loss`, shape (N,).

        Returns:
            Tensor: Shape (N,).
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
    """Context in which matrix products keep the precision of their inputs.

    Autocast leaves softmax in float32 but rounds the inputs of every matrix
    product to half precision, whatever was widened before.
    """
    return torch.autocast(tensor.device.type, enabled=False)
