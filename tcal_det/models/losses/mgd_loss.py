"""Distillation by generating the teacher's map from a masked map."""
from typing import Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from tcal_det.checks import check_fraction
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene
from .random_stream import RandomStream


@MODELS.register_module()
class MGDLoss(FeatureLoss):
    r"""Squared error of a map that is generated from the masked student's map.

    .. math::
        \mathrm{mean}\big((G(M \odot F_s) - F_t)^2\big)

    summed over levels. The mask M drops each position of each image, for all
    channels, with the probability ``masked_share``. Each level has a
    generation block G of two 3x3 convolutions with a ReLU between them. It is
    trained together with the student but is not part of it. Equal maps do not
    give 0: the generator has to learn what was dropped.

    Difference from the paper: this loss is a mean over channels and
    positions; the authors use the sum, so that larger levels have a larger
    weight. Their weight alpha of the sum (2e-5 for one-stage, 5e-7 for
    two-stage detectors) is the weight alpha D H W of the mean.

    Args:
        student_channels (list[int]): Channels of the student's levels, see
            :class:`FeatureLoss`.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None: those of the student.
        masked_share (float): Probability that a position is dropped, in
            [0, 1]. Defaults to 0.65, the authors' value for one-stage
            detectors; they use 0.45 for two-stage detectors.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        features (str): Maps that are compared, 'neck' or 'backbone'. Defaults
            to 'neck'.

    Reference:
        Yang et al., "Masked Generative Distillation", ECCV 2022,
        arXiv 2205.01529.
    """

    needs_channels = True

    def __init__(self,
                 student_channels: Sequence[int],
                 teacher_channels: Optional[Sequence[int]] = None,
                 masked_share: float = 0.65,
                 loss_weight: float = 1.0,
                 features: str = 'neck') -> None:
        super().__init__(loss_weight, student_channels, teacher_channels,
                         features)
        self.masked_share = check_fraction('masked_share', masked_share)
        self.generators = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1))
            for channels in self.teacher_channels)
        self.random_stream = RandomStream()

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        num_images, _, height, width = student.shape
        drawn = torch.rand(
            num_images,
            1,
            height,
            width,
            generator=self.random_stream.generator())
        is_kept = (drawn >= self.masked_share).to(student)
        generated = self.generators[level](student * is_kept)
        return F.mse_loss(generated, teacher)
