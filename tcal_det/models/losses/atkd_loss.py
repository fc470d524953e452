"""Adaptive teaching: confident samples teach the non-target classes only."""

from torch import Tensor

from tcal_det.registry import MODELS
from .logit_loss import LogitLoss
from .selection import check_ratio, top_share
from .target_split import split_target, target_kl_div


@MODELS.register_module()
class ATKDLoss(LogitLoss):
    r"""Adaptive teaching knowledge distillation, for softmax heads.

    .. math::
        \mathrm{KL}(q_t\|q_s) + h\,\mathrm{KL}(b_t\|b_s)

    averaged over samples, with :math:`b = (p_y, 1 - p_y)` for the target
    class y, and the softmax q over the non-target classes. A sample is hard
    (h = 1) if its uncertainty :math:`1 - p_{t,y}` is among the
    ``hard_ratio`` highest, else easy (h = 0). An easy sample teaches only the
    distribution of the non-target classes, a hard sample both parts.

    Difference from the paper: the paper distils language models; here a
    sample is a RoI instead of a token and its target is the assigned label,
    which may be background. Samples are ranked among all RoIs of the call.

    Interpretation: easy and hard samples enter one mean with equal weight;
    the paper's balance between the two groups is left out. Only the teacher's
    calibrator softens the probabilities.

    Args:
        hard_ratio (float): Share of samples that are hard, in (0, 1].
            Defaults to 0.5.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Zhong et al., "Revisiting Knowledge Distillation for Autoregressive
        Language Models", arXiv 2402.11890.
    """

    needs_labels = True

    def __init__(self,
                 hard_ratio: float = 0.5,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.hard_ratio = check_ratio('hard_ratio', hard_ratio)

    def per_sample_loss(  # type: ignore[override]  # by needs_labels
            self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        target, non_target = target_kl_div(student, teacher, labels)
        uncertainty = split_target(teacher, labels)[0].softmax(dim=1)[:, 1]
        is_hard = top_share(uncertainty, self.hard_ratio)
        return non_target + is_hard * target
