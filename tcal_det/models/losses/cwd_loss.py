"""Channel-wise distillation of feature maps."""
from typing import Optional, Sequence

from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene
from .logit_kl_div_loss import logit_kl_div


@MODELS.register_module()
class CWDLoss(FeatureLoss):
    r"""KL divergence of where the channels of two maps are active.

    .. math::
        \frac{T^2}{N D} \sum_{n, d} \mathrm{KL}\big(
        \mathrm{softmax}(F_{t,n,d} / T)\,\|\,\mathrm{softmax}(F_{s,n,d} / T)
        \big)

    with the softmax over the H W positions of a channel; summed over levels.

    Args:
        temperature (float): T > 0. Defaults to 1.0.
        loss_weight, student_channels, teacher_channels, features: As in
            :class:`FeatureLoss`.

    Reference: Shu et al., "Channel-wise Knowledge Distillation for Dense
    Prediction", ICCV 2021, arXiv 2011.13256. The authors weigh
    the maps of an FPN by 10 with T = 1.
    """

    def __init__(self,
                 temperature: float = 1.0,
                 loss_weight: float = 1.0,
                 student_channels: Optional[Sequence[int]] = None,
                 teacher_channels: Optional[Sequence[int]] = None,
                 features: str = 'neck') -> None:
        super().__init__(loss_weight, student_channels, teacher_channels,
                         features)
        self.temperature = check_positive('temperature', temperature)

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        return logit_kl_div(
            student.flatten(2).flatten(0, 1),
            teacher.flatten(2).flatten(0, 1), self.temperature).mean()
