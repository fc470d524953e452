"""Whether the teacher is right, and sure, as a label for the student.

Shapes: N samples (RoIs), F features of a sample, C = K + 1 classes with
background last.
"""
from typing import Optional, Union

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from tcal_det.checks import check_count, check_fraction
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from ..logits import at_least_float32
from .logit_loss import without_autocast
from .reduction import reduce_loss
from .weighted_loss import WeightedLoss

STATES = ('wrong, unsure', 'wrong, sure', 'right, unsure', 'right, sure')


def pretraining_states(teacher_logits: Tensor, labels: Tensor,
                       threshold: float) -> Tensor:
    """State of the teacher at each sample.

    Args:
        teacher_logits (Tensor): Calibrated, of a softmax head, shape (N, C).
        labels (Tensor): Assigned classes, background last, shape (N,).
        threshold (float): It is sure where its largest probability is above.

    Returns:
        Tensor: Position in ``STATES``, int64, shape (N,).

    Example:
        >>> import torch
        >>> logits = torch.tensor([[.9, .1], [.6, .4], [.9, .1]]).log()
        >>> pretraining_states(logits, torch.tensor([0, 0, 1]), .8)
        tensor([3, 2, 1])
    """
    confidence, predicted = at_least_float32(teacher_logits).softmax(
        dim=1).max(dim=1)
    return 2 * (predicted == labels).long() + (confidence > threshold).long()


@MODELS.register_module()
class PretrainingStateLoss(WeightedLoss):
    r"""The student tells in which of four states its teacher is.

    .. math::
        \mathrm{CE}\big(A f_s + a,\; 2\,[\arg\max p_t = y] +
        [\max p_t > \tau]\big)

    with the features :math:`f_s` that the student's classification layer is
    given, the assigned class y of a RoI and the calibrated teacher's
    probabilities :math:`p_t`, background included. The linear head A, a is
    trained with the student and is no part of it. It is for RoI heads of a
    single stage with softmax.

    On a calibrated teacher the threshold means what it says: of its answers
    with a probability above 0.8 more than 80 % are right. On one that is
    over-confident, the state 'sure' holds far more of what is wrong.

    Adapted: the paper trains the student on these labels before anything
    else, and fine-tunes it then. Here they are a term beside the others, meant
    to fade: give it the schedule ``early_decay`` of
    ``LossWeightScheduleHook``. The other half of the paper's method, layers
    that share their parameters with queries and keys swapped, is for
    transformers, and is not here.

    Args:
        in_features (int): F, features that the classification layer
            (``fc_cls``) of the student is given, >= 1.
        threshold (float): :math:`\tau`, in [0, 1]. Defaults to 0.8.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Raises:
        InvalidTypeError, InvalidValueError: If an argument is wrong.

    Reference: Cho and Kang, "Pea-KD: Parameter-efficient and Accurate
    Knowledge Distillation on BERT", arXiv 2009.14822, section 3.3.
    """

    head_activation = 'softmax'

    def __init__(self,
                 in_features: int,
                 threshold: float = 0.8,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.threshold = check_fraction('threshold', threshold)
        self.head = nn.Linear(
            check_count('in_features', in_features), len(STATES))

    def forward(self,
                features: Tensor,
                teacher_logits: Tensor,
                labels: Tensor,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None) -> Tensor:
        """Compute the loss.

        Args:
            features (Tensor): Of the student, shape (N, F).
            teacher_logits (Tensor): Calibrated, shape (N, C).
            labels (Tensor): Assigned classes, shape (N,).
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None, every sample weighs 1.
            avg_factor (float | Tensor, optional): Divides the sum over
                samples instead of N. Defaults to None.

        Returns:
            Tensor: A scalar, at least float32; for N = 0 a zero that still
            carries a gradient.

        Raises:
            InvalidValueError: If the features are not as many as
                ``in_features`` says.
        """
        if features.dim() != 2 or features.shape[1] != self.head.in_features:
            raise InvalidValueError(
                '`in_features` must be what the classification layer of the '
                f'student is given, {tuple(features.shape[1:])}, but got '
                f'{self.head.in_features}')
        states = pretraining_states(teacher_logits.detach(), labels,
                                    self.threshold)
        with without_autocast(features):
            predicted = self.head(at_least_float32(features))
            per_sample = F.cross_entropy(predicted, states, reduction='none')
        return self.loss_weight * reduce_loss(per_sample, weight, avg_factor)
