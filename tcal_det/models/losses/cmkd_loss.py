"""Correlation matching: of values for easy, of ranks for hard samples."""
import math
from typing import Optional

from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from .correlation import pearson, soft_rank
from .logit_loss import LogitLoss


@MODELS.register_module()
class CMKDLoss(LogitLoss):
    r"""Correlation matching knowledge distillation, for softmax heads.

    .. math::
        (1 - d)\,\big(1 - \rho(p_s, p_t)\big) +
        d\,\big(1 - \rho(r_s, r_t)\big), \qquad
        d = \frac{-\sum_c p_{t,c} \log p_{t,c}}{\log C}

    averaged over samples; :math:`\rho` is the Pearson correlation over
    classes, p the softmax, r the soft ranks of the logits
    (:func:`soft_rank`), so that the second term is a differentiable Spearman
    correlation. There are no temperatures except that of the calibrator and
    that of the ranks.

    Difference from the paper: a sample is a RoI, and background is one of the
    classes. The memory grows with N x C x C. A masked class (a logit of -inf)
    has probability 0 and shares the lowest rank; it counts in C.

    Interpretation: the paper adjusts the weights of the two terms by the
    difficulty of the sample. Here the difficulty d is the teacher's entropy
    divided by its maximum, in [0, 1]. The terms have the weights 1 - d and d,
    so that the order of the classes matters where the teacher is uncertain
    about their probabilities. Ranks are sums of pairwise sigmoids in both
    models.

    Args:
        rank_temperature (float): Softness of the ranks, in the unit of the
            logits, > 0. Defaults to 1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Niu et al., "Efficient and Robust Knowledge Distillation from A
        Stronger Teacher Based on Correlation Matching", arXiv 2410.06561.
    """

    def __init__(self,
                 rank_temperature: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.rank_temperature = check_positive('rank_temperature',
                                               rank_temperature)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        teacher_probs = teacher.softmax(dim=1)
        terms = teacher_probs * teacher.log_softmax(dim=1)
        entropy = -terms.masked_fill(teacher_probs == 0, 0).sum(dim=1)
        difficulty = entropy / math.log(teacher.shape[1])
        by_value = 1 - pearson(student.softmax(dim=1), teacher_probs, dim=1)
        by_rank = 1 - pearson(
            soft_rank(student, self.rank_temperature),
            soft_rank(teacher, self.rank_temperature),
            dim=1)
        return (1 - difficulty) * by_value + difficulty * by_rank
