"""Squared error of feature maps where the teacher sees objects."""
from typing import Optional, Sequence

from torch import Tensor

from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene


@MODELS.register_module()
class ScoreWeightedL2Loss(FeatureLoss):
    r"""Squared error of feature maps, weighted by the teacher's score.

    .. math::
        \frac{\sum_{n,h,w} s_{n,h,w}\; \frac{1}{D} \sum_d
        (F_s - F_t)_{n,d,h,w}^2}{\sum_{n,h,w} s_{n,h,w}}

    summed over levels. The score s of a position is the calibrated
    probability of the most probable class there: of the priors of a dense
    head, or of the objectness of an RPN, which no calibrator knows.

    Args:
        loss_weight, student_channels, teacher_channels: As in
            :class:`FeatureLoss`; the maps are those of the neck, which the
            scores belong to.

    Reading taken: the distillation of Ultralytics (2026) adds the weighted
    errors up; here the sum of the scores divides them, so that the term does
    not shrink with the share of the background.
    """

    needs_scores = True

    def __init__(self,
                 loss_weight: float = 1.0,
                 student_channels: Optional[Sequence[int]] = None,
                 teacher_channels: Optional[Sequence[int]] = None) -> None:
        super().__init__(loss_weight, student_channels, teacher_channels)

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        score = scene.scores[level]  # type: ignore[index]  # needs_scores
        gap = (student - teacher).square().mean(dim=1, keepdim=True)
        total = score.sum()
        # A teacher that sees nothing teaches nothing.
        return (score * gap).sum() / total.clamp(min=1e-12)
