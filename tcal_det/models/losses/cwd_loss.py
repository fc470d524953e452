"""Channel-wise distillation of feature maps."""
from typing import Optional, Sequence

from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene
from .logit_kl_div_loss import logit_kl_div


@MODELS.register_module()
class CWDLoss(FeatureLoss):
    r"""KL divergence between the spatial distributions of each channel.

    .. math::
        \frac{T^2}{N D} \sum_{n, d} \mathrm{KL}\big(
        \mathrm{softmax}(F_{t,n,d} / T)\,\|\,\mathrm{softmax}(F_{s,n,d} / T)
        \big)

    with the softmax over the H W positions of a channel; summed over levels.
    The authors use the weight 10 for the maps of an FPN, with T = 1.

    Args:
        temperature (float): Temperature T of both models, > 0. Defaults to
            1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        student_channels (list[int], optional): Channels of the student's
            levels, see :class:`FeatureLoss`. Defaults to None.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None: those of the student.
        features (str): Maps that are compared, 'neck' or 'backbone'. Defaults
            to 'neck'.

    Reference:
        Shu et al., "Channel-wise Knowledge Distillation for Dense
        Prediction", ICCV 2021, arXiv 2011.13256.
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
