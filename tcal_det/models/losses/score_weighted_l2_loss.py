"""Squared error of feature maps, weighted by the teacher's scores."""
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

    summed over levels. In a dense head, the score s of a position is the
    calibrated probability of the most probable class of its priors. In a
    two-stage detector it is the objectness of the RPN, which is not
    calibrated. The maps are those of the neck, as the scores belong to them.

    Difference from the original: the distillation of Ultralytics (2026) sums
    the weighted errors; here the sum is divided by the sum of the scores, so
    that the term does not decrease with the share of background.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        student_channels (list[int], optional): Channels of the student's
            levels, see :class:`FeatureLoss`. Defaults to None.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None: those of the student.
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
        # If all scores are 0, the loss is 0 and not NaN.
        return (score * gap).sum() / total.clamp(min=1e-12)
