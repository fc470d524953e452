"""Comparative knowledge distillation: match differences between samples."""
from typing import Optional, Union

import torch
from torch import Tensor

from tcal_det.registry import MODELS
from .logit_loss import LogitLoss
from .reduction import reduce_loss
from .relation import pair_difference_gap, samples_by_image


@MODELS.register_module()
class CKDLoss(LogitLoss):
    r"""Comparative knowledge distillation on pairs of RoIs of one image.

    .. math::
        \frac1N \sum_i \frac{1}{B_i - 1} \sum_{j \ne i}
        \|(z_{s,i} - z_{s,j}) - (z_{t,i} - z_{t,j})\|_2

    over the :math:`B_i` samples of the image of sample i: for one image, this
    is the mean over its pairs. The loss of a single sample in an image is 0.
    For softmax heads.

    Difference from the paper: the paper compares images; here a pair consists
    of two RoIs of the same image, and the weight of an image is proportional
    to its number of RoIs. The weight of a pair is the geometric mean of the
    two weights; ``avg_factor`` replaces N.

    Interpretation: the logits are compared, with the Euclidean norm over
    classes; groups larger than pairs are left out. So the offset of one
    sample's logits matters, although a softmax ignores it, while a constant
    added to the logits of *all* samples has no effect. A class that both
    models mask (a logit of -inf) is left out of the norm. If only one model
    masks a class in a sample, the distance to the other samples is infinite,
    and so is the loss: for masked logits, use a loss on probabilities.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Wilf et al., "Comparative Knowledge Distillation", arXiv 2311.02253.
    """

    def reduced_loss(self, student: Tensor, teacher: Tensor,
                     labels: Optional[Tensor], weight: Optional[Tensor],
                     avg_factor: Union[float, Tensor, None],
                     image_index: Optional[Tensor]) -> Tensor:
        per_sample = torch.cat([
            pair_difference_gap(student[image], teacher[image],
                                None if weight is None else weight[image])
            for image in samples_by_image(student.shape[0], image_index)
        ])
        # No weight here: the pairs are already weighted.
        return reduce_loss(per_sample, None, avg_factor)
