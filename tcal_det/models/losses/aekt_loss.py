"""Adaptive explicit knowledge transfer with an additional linear head."""
import math

import torch.nn as nn
from torch import Tensor

from tcal_det.checks import check_count, check_non_negative
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from .logit_loss import LogitLoss, without_autocast
from .target_split import split_target, target_kl_div


@MODELS.register_module()
class AEKTLoss(LogitLoss):
    r"""Adaptive explicit knowledge transfer, for softmax heads.

    .. math::
        \lambda_e\,w\,\mathrm{KL}(b_t\|b_s) +
        \lambda_i\,\mathrm{KL}(q_t\|q_s), \qquad
        w = \frac{2 p_{t,y}}{p_{t,y} + p_{s,y}}

    averaged over samples. The explicit knowledge about the target class y is
    :math:`b = (p_y, 1 - p_y)`; the implicit knowledge q is the softmax over
    the non-target classes. The student's probabilities are
    :math:`\mathrm{softmax}(A z_s + a)` with a learnable linear head, so that
    the logits for classification differ from those for imitation.

    Difference from the paper: a sample is a RoI and its target is the
    assigned label, which may be background. The head maps logits to logits,
    as a loss has no access to features. The head starts as the identity, so
    that the first step is the loss of the student's own logits. It is trained
    together with the student but is not part of it.

    Interpretation: the paper weights the explicit part by the ratio of the
    teacher's and the student's confidence. Here this is the bounded weight w:
    1 if both agree, up to 2 if the student is less confident than the
    teacher, and towards 0 if it is more confident. The plain ratio would
    overflow for a student that is confident and wrong. The gradient flows
    through w.

    A class that the student masks (a logit of -inf) stays masked, and does
    not enter the other outputs of the head.

    Args:
        cls_channels (int): Number of columns C of the logits: the number of
            classes plus one for background.
        explicit_weight (float): Weight :math:`\lambda_e` of the explicit
            part, >= 0. Defaults to 1.0.
        implicit_weight (float): Weight :math:`\lambda_i` of the implicit
            part, >= 0. Defaults to 1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Park and Lee, "Adaptive Explicit Knowledge Transfer for Knowledge
        Distillation", arXiv 2409.01679.
    """

    needs_labels = True

    def __init__(self,
                 cls_channels: int,
                 explicit_weight: float = 1.0,
                 implicit_weight: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        # At least one class and background.
        cls_channels = check_count('cls_channels', cls_channels, lowest=2)
        self.explicit_weight = check_non_negative('explicit_weight',
                                                  explicit_weight)
        self.implicit_weight = check_non_negative('implicit_weight',
                                                  implicit_weight)
        self.head = nn.Linear(cls_channels, cls_channels)
        nn.init.eye_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def per_sample_loss(  # type: ignore[override]  # by needs_labels
            self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        if student.shape[1] != self.head.in_features:
            raise InvalidValueError(
                '`cls_channels` must be the number of columns of the logits, '
                f'{student.shape[1]} (classes and background), but got '
                f'{self.head.in_features}')
        is_masked = student == -math.inf
        with without_autocast(student):
            student = self.head(student.masked_fill(is_masked, 0))
        student = student.masked_fill(is_masked, -math.inf)
        explicit, implicit = target_kl_div(student, teacher, labels)
        log_target = split_target(teacher, labels)[0].log_softmax(dim=1)
        log_ratio = log_target - split_target(student,
                                              labels)[0].log_softmax(dim=1)
        # w = 0 for a target that the teacher masks, even if both mask it.
        log_ratio = log_ratio.masked_fill(log_target == -math.inf,
                                          -math.inf)[:, 0]
        # 2 / (1 + p_s / p_t), without forming the ratio.
        adaptive = 2 * log_ratio.sigmoid()
        return (self.explicit_weight * adaptive * explicit +
                self.implicit_weight * implicit)
