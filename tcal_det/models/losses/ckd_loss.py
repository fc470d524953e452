"""Comparative knowledge distillation: match differences of samples."""
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

    over the :math:`B_i` samples of the image of sample i: for one image the
    mean over its pairs. A sample alone in its image counts 0. For softmax
    heads.

    Adapted: the paper compares images; here pairs are RoIs of the same
    image, and images count in proportion to their RoIs. A pair weighs the
    geometric mean of its ``weight``; ``avg_factor`` replaces N.

    Readings taken: what is compared are the logits, with the Euclidean norm
    over classes; groups larger than pairs are left out. So the offset of a
    sample's logits counts, which a softmax would ignore, and a constant
    added to the logits of *all* samples does not. A class that both sides
    mask (a logit of -inf) is left out of the norm; a sample in which only
    one side masks a class is infinitely far from the others, and its loss is
    infinite: use masked logits with a loss of probabilities.

    Args:
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that count, as in :class:`LogitLoss`.
            Defaults to 'all'.

    Reference: Wilf et al., "Comparative Knowledge Distillation",
    arXiv 2311.02253.
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
        # The pairs are weighted already.
        return reduce_loss(per_sample, None, avg_factor)
