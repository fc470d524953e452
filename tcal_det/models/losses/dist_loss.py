"""Distillation from a stronger teacher: match correlations, not values."""
from typing import Optional, Union

from torch import Tensor

from tcal_det.checks import check_non_negative, check_positive
from tcal_det.registry import MODELS
from .correlation import pearson
from .logit_loss import LogitLoss
from .reduction import reduce_loss, relative_sample_count


@MODELS.register_module()
class DISTLoss(LogitLoss):
    r"""DIST: one minus the Pearson correlation, over classes and samples.

    .. math::
        T^2 \Big(\beta \frac1N \sum_n \big(1 - \rho(p_{s,n}, p_{t,n})\big) +
        \gamma \frac1C \sum_c \big(1 - \rho(p_{s,\cdot c}, p_{t,\cdot c})\big)
        \Big)

    with :math:`p = \mathrm{softmax}(z/T)` in both models, for softmax heads.
    The second term (intra-class) correlates over samples; it is left out for
    N < 2. A class with the same probability in all samples adds 1 to its sum.

    Difference from the paper: a sample is a RoI; the second term correlates
    over all RoIs of the call. ``weight`` enters its means and variances, and
    the term is multiplied by the sum of the weights divided by
    ``avg_factor``, so that both terms scale in the same way. A masked class (a
    logit of -inf) has probability 0.

    Args:
        temperature (float): Temperature T of both models, > 0. Defaults to
            1.0.
        inter_weight (float): Weight :math:`\beta` of the correlation over
            classes, >= 0. Defaults to 1.0.
        intra_weight (float): Weight :math:`\gamma` of the correlation over
            samples, >= 0. Defaults to 1.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Huang et al., "Knowledge Distillation from A Stronger Teacher",
        NeurIPS 2022, arXiv 2205.10536.
    """

    def __init__(self,
                 temperature: float = 1.0,
                 inter_weight: float = 1.0,
                 intra_weight: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.temperature = check_positive('temperature', temperature)
        self.inter_weight = check_non_negative('inter_weight', inter_weight)
        self.intra_weight = check_non_negative('intra_weight', intra_weight)

    def reduced_loss(self, student: Tensor, teacher: Tensor,
                     labels: Optional[Tensor], weight: Optional[Tensor],
                     avg_factor: Union[float, Tensor, None],
                     image_index: Optional[Tensor]) -> Tensor:
        student = (student / self.temperature).softmax(dim=1)
        teacher = (teacher / self.temperature).softmax(dim=1)
        loss = self.inter_weight * reduce_loss(
            1 - pearson(student, teacher, dim=1), weight, avg_factor)
        num_samples = student.shape[0]
        if num_samples > 1:
            column = None if weight is None else weight[:, None]
            intra = (1 - pearson(student, teacher, 0, column)).mean()
            loss = loss + self.intra_weight * intra * relative_sample_count(
                num_samples, weight, avg_factor)
        return self.temperature**2 * loss
