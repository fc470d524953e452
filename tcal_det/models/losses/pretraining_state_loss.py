"""The teacher's correctness and confidence as labels for the student.

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
    """Compute the state of the teacher for each sample.

    Args:
        teacher_logits (Tensor): Calibrated logits of a softmax head, shape
            (N, C).
        labels (Tensor): Assigned class of each sample, background last, shape
            (N,).
        threshold (float): Largest probability above which the teacher counts
            as sure.

    Returns:
        Tensor: Index into ``STATES`` for each sample, int64, shape (N,).

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
    r"""Classification by the student of the state of its teacher.

    .. math::
        \mathrm{CE}\big(A f_s + a,\; 2\,[\arg\max p_t = y] +
        [\max p_t > \tau]\big)

    with the input features :math:`f_s` of the student's classification
    layer, the assigned class y of a RoI and the probabilities :math:`p_t` of
    the calibrated teacher, including background. There are four states:
    wrong or right, each unsure or sure. The linear head A, a is trained
    together with the student but is not part of it. For RoI heads of a single
    stage with softmax.

    The threshold is meaningful for a calibrated teacher: more than 80 % of its
    predictions with a probability above 0.8 are right. For an over-confident
    teacher, far more predictions in the state 'sure' are wrong.

    Difference from the paper: the paper first trains the student on these
    labels only, and then fine-tunes it. Here they are an additional term whose
    weight should decrease: use the schedule ``early_decay`` of
    ``LossWeightScheduleHook``. The other half of the paper's method, layers
    that share their parameters with swapped queries and keys, is for
    transformers and is left out.

    Args:
        in_features (int): Number of input features F of the student's
            classification layer (``fc_cls``), >= 1.
        threshold (float): Threshold :math:`\tau` of the largest probability,
            in [0, 1]. Defaults to 0.8.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.

    Raises:
        InvalidTypeError: If an argument has a wrong type.
        InvalidValueError: If an argument has a wrong value.

    Reference:
        Cho and Kang, "Pea-KD: Parameter-efficient and Accurate Knowledge
        Distillation on BERT", arXiv 2009.14822, section 3.3.
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
            features (Tensor): Features of the student, shape (N, F).
            teacher_logits (Tensor): Calibrated logits of the teacher, shape
                (N, C).
            labels (Tensor): Assigned class of each sample, shape (N,).
            weight (Tensor, optional): Weight of each sample, shape (N,).
                Defaults to None: every sample has weight 1.
            avg_factor (float | Tensor, optional): Divisor of the sum over
                samples; a tensor has one element. Defaults to None: N.

        Returns:
            Tensor: Loss, a scalar, at least float32; for N = 0 a zero that
            still carries a gradient.

        Raises:
            InvalidValueError: If the number of features is not
                ``in_features``.
        """
        if features.dim() != 2 or features.shape[1] != self.head.in_features:
            raise InvalidValueError(
                '`in_features` must be the number of input features of the '
                "student's classification layer, "
                f'{tuple(features.shape[1:])}, but got '
                f'{self.head.in_features}')
        states = pretraining_states(teacher_logits.detach(), labels,
                                    self.threshold)
        with without_autocast(features):
            predicted = self.head(at_least_float32(features))
            per_sample = F.cross_entropy(predicted, states, reduction='none')
        return self.loss_weight * reduce_loss(per_sample, weight, avg_factor)
