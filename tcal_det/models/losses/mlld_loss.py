"""Multi-level logit distillation: samples, sample and class relations."""
from typing import Any, Optional, Sequence, Union

import torch
from torch import Tensor

from tcal_det.checks import check_non_negative, check_positive
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from .logit_kl_div_loss import logit_kl_div
from .logit_loss import LogitLoss
from .reduction import reduce_loss
from .relation import class_relation_gap, sample_relation_gap, samples_by_image
from .selection import check_ratio, top_share


@MODELS.register_module()
class MLLDLoss(LogitLoss):
    r"""Multi-level logit distillation, for softmax heads.

    With the (N, C) matrix P of :math:`\mathrm{softmax}(z/T)`, the loss is the
    sum over the temperatures of

    .. math::
        \lambda_i \frac{T^2}{N} \sum_n \mathrm{KL}(p_{t,n}\|p_{s,n}) +
        \frac{\lambda_b}{B} \|P_t P_t^\top - P_s P_s^\top\|_F^2 +
        \frac{\lambda_c}{C} \|P_t^\top P_t - P_s^\top P_s\|_F^2

    The three terms are the instance, batch and class level. The two matrix
    terms have no factor :math:`T^2`.

    Difference from the paper: a sample is a RoI. The batch level compares the
    B RoIs of one image with each other, so that the matrix stays small; the
    weight of an image is proportional to its number of RoIs. The class level
    uses all RoIs of the call and **grows with the square of their number**,
    as its formula does not divide by it. The paper has a batch of images
    here, but a detector has hundreds of RoIs, so ``class_weight`` must be set
    for the number of RoIs. The weight of a pair of samples is the geometric
    mean of the two weights; ``avg_factor`` replaces N and B, and the class
    level is multiplied by N / ``avg_factor``.

    Interpretation: one ratio replaces the masks of the paper. If it is below
    1.0, the batch level keeps the samples with the largest
    :math:`\max_c p_t`; all others have weight 0. The class level keeps the
    rows and columns of the classes with the largest sum of :math:`p_t` over
    the samples. Both are ranked at T = 1 over the whole call; N, B and C do
    not change. The paper's second, strongly augmented view of the image is
    left out.

    Args:
        temperatures (Sequence[float]): Temperatures T of both models, each
            > 0, at least one. Defaults to (2, 3, 4, 5, 6).
        instance_weight (float): Weight :math:`\lambda_i` of the instance
            level, >= 0. Defaults to 1.0.
        batch_weight (float): Weight :math:`\lambda_b` of the batch level,
            >= 0. Defaults to 1.0.
        class_weight (float): Weight :math:`\lambda_c` of the class level,
            >= 0. Defaults to 1.0.
        confident_ratio (float): Share of the samples that the batch level
            keeps, and of the classes that the class level keeps, in (0, 1].
            Defaults to 1.0: all.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Jin et al., "Multi-Level Logit Distillation", CVPR 2023.
    """

    def __init__(self,
                 temperatures: Sequence[float] = (2, 3, 4, 5, 6),
                 instance_weight: float = 1.0,
                 batch_weight: float = 1.0,
                 class_weight: float = 1.0,
                 confident_ratio: float = 1.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        if not isinstance(temperatures, (list, tuple)):
            raise InvalidTypeError(
                '`temperatures` must be a list or tuple of numbers in '
                f'(0, inf), but got {temperatures!r}')
        if not temperatures:
            raise InvalidValueError(
                '`temperatures` must have at least one number, but is empty')
        self.temperatures = tuple(
            check_positive('temperatures', value) for value in temperatures)
        self.instance_weight = check_non_negative('instance_weight',
                                                  instance_weight)
        self.batch_weight = check_non_negative('batch_weight', batch_weight)
        self.class_weight = check_non_negative('class_weight', class_weight)
        self.confident_ratio = check_ratio('confident_ratio', confident_ratio)

    def reduced_loss(self, student: Tensor, teacher: Tensor,
                     labels: Optional[Tensor], weight: Optional[Tensor],
                     avg_factor: Union[float, Tensor, None],
                     image_index: Optional[Tensor]) -> Tensor:
        num_samples = student.shape[0]
        images = samples_by_image(num_samples, image_index)
        teacher_probs = teacher.softmax(dim=1)
        batch_weight = self._confident_weight(teacher_probs, weight)
        # Columns of zeros give zero rows and columns in the products.
        is_confident_class = top_share(
            teacher_probs.sum(dim=0), self.confident_ratio)
        # 1 if no divisor is given.
        class_scale = 1 if avg_factor is None else num_samples / avg_factor

        loss: Any = 0  # a tensor after the first temperature
        for temperature in self.temperatures:
            student_probs = (student / temperature).softmax(dim=1)
            teacher_probs = (teacher / temperature).softmax(dim=1)
            instance = reduce_loss(
                logit_kl_div(student, teacher, temperature), weight,
                avg_factor)
            batch = reduce_loss(
                torch.cat([
                    sample_relation_gap(
                        student_probs[image], teacher_probs[image],
                        None if batch_weight is None else batch_weight[image])
                    for image in images
                ]), None, avg_factor)
            classes = class_relation_gap(student_probs * is_confident_class,
                                         teacher_probs * is_confident_class,
                                         weight).mean() * class_scale
            loss = loss + (
                self.instance_weight * instance + self.batch_weight * batch +
                self.class_weight * classes)
        return loss

    def _confident_weight(self, teacher_probs: Tensor,
                          weight: Optional[Tensor]) -> Optional[Tensor]:
        """Set ``weight`` to 0 for samples that the batch level leaves out."""
        if self.confident_ratio == 1:
            return weight
        is_confident = top_share(
            teacher_probs.max(dim=1).values, self.confident_ratio)
        if weight is None:
            return is_confident.to(teacher_probs)
        return is_confident * weight
