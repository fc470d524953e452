"""Distillation with part of the teacher's features as prior knowledge.

Shapes: N images; D channels of the teacher; h x w patches of a level.
"""
from typing import Optional, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor

from tcal_det.checks import check_count, check_fraction
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene
from .random_stream import RandomStream


def linear_cka(one: Tensor, other: Tensor) -> Tensor:
    r"""How alike two representations of the same samples are.

    .. math::
        \frac{\lVert X' Y \rVert_F^2}
        {\lVert X' X \rVert_F\,\lVert Y' Y \rVert_F}

    of the centred matrices; it does not change with scale, offset or a
    rotation of the columns. 0 if one does not vary.

    Args:
        one (Tensor): Shape (S, D).
        other (Tensor): Shape (S, E).

    Returns:
        Tensor: A scalar in [0, 1].

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1., 0.], [0., 1.], [0., 0.]])
        >>> print(f'{linear_cka(rows, 5 * rows[:, [1, 0]] + 2).item():.4f}')
        1.0000

    Reference: Kornblith et al., "Similarity of Neural Network Representations
    Revisited", ICML 2019, arXiv 1905.00414.
    """
    one, other = (rows - rows.mean(dim=0) for rows in (one, other))
    shared = (one.T @ other).square().sum()
    own = (one.T @ one).norm() * (other.T @ other).norm()
    return torch.where(own > 0, shared / own, torch.zeros_like(own))


@MODELS.register_module()
class DPKLoss(FeatureLoss):
    r"""Squared error of a map restored with patches of the teacher's.

    .. math::
        \mathrm{mean}\big((D(H) - F_t)^2\big), \qquad
        H = m \odot E_t(F_t) + (1 - m) \odot E_s(F_s)

    summed over levels. E are encoders of patches, D a decoder, both of each
    level; they are trained with the student and are no part of it. The mask m
    takes a patch from the teacher where a number drawn from [0, 1) is above
    r, for all images alike. r is how alike the encoded patches of both are,
    :func:`linear_cka` as a moving average: the less alike they are, the more
    is given. It is in the checkpoint. Equal maps do not give 0: the decoder
    has to learn.

    Readings taken: samples of the CKA are the patches of all images of the
    batch, as two images are too few, averaged over processes; with fewer than
    two patches r stays. The target is the teacher's own map, as one that is
    encoded could shrink to nothing. Adapted: an encoder is a convolution with
    a stride of ``patch_size`` and one of 3x3, a decoder one of 3x3 and a
    transposed one, ReLU between them; the paper's are transformers, whose
    cost grows with the square of the number of patches. Maps are filled up
    with zeros to whole patches. The paper's weight for detection is not
    known here.

    Args:
        student_channels, teacher_channels: As in :class:`FeatureLoss`;
            ``student_channels`` is needed. The encoders take the place of the
            projection.
        patch_size (int): Side of a patch in positions, > 0. Defaults to 4.
        momentum (float): Share of the former r in the moving average, in
            [0, 1]. Defaults to 0.9.
        start_similarity (float): r before the first step, in [0, 1]. Defaults
            to 0.5.
        loss_weight, features: As in :class:`FeatureLoss`.

    Reference: Qiu et al., "Better Teacher Better Student: Dynamic Prior
    Knowledge for Knowledge Distillation", ICLR 2023, arXiv 2206.06067.
    """

    projects = False
    needs_channels = True
    similarity: Tensor

    def __init__(self,
                 student_channels: Sequence[int],
                 teacher_channels: Optional[Sequence[int]] = None,
                 patch_size: int = 4,
                 momentum: float = 0.9,
                 start_similarity: float = 0.5,
                 loss_weight: float = 1.0,
                 features: str = 'neck') -> None:
        super().__init__(loss_weight, student_channels, teacher_channels,
                         features)
        self.patch_size = check_count('patch_size', patch_size)
        self.momentum = check_fraction('momentum', momentum)
        self.start_similarity = check_fraction('start_similarity',
                                               start_similarity)
        both = list(zip(self.student_channels, self.teacher_channels))
        self.student_encoders = nn.ModuleList(
            self._encoder(own, other) for own, other in both)
        self.teacher_encoders = nn.ModuleList(
            self._encoder(other, other) for _, other in both)
        self.decoders = nn.ModuleList(
            self._decoder(other) for _, other in both)
        self.random_stream = RandomStream()
        self.register_buffer('similarity',
                             torch.full((len(both), ), self.start_similarity))

    def _encoder(self, own: int, channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(own, channels, self.patch_size, stride=self.patch_size),
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def _decoder(self, channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(
                channels, channels, self.patch_size, stride=self.patch_size))

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        height, width = teacher.shape[-2:]
        own = self.student_encoders[level](self._whole_patches(student))
        other = self.teacher_encoders[level](self._whole_patches(teacher))
        similarity = self._updated_similarity(own.detach(), other.detach(),
                                              level)
        drawn = torch.rand(
            own.shape[-2:], generator=self.random_stream.generator())
        is_given = drawn.to(similarity) > similarity
        restored = self.decoders[level](torch.where(is_given, other, own))
        return F.mse_loss(restored[..., :height, :width], teacher)

    def _whole_patches(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        return F.pad(
            maps, (0, -width % self.patch_size, 0, -height % self.patch_size))

    def _updated_similarity(self, own: Tensor, other: Tensor,
                            level: int) -> Tensor:
        own, other = (
            maps.transpose(0, 1).flatten(1).T for maps in (own, other))
        former = self.similarity[level]
        # Each process takes part, also one whose maps are too small.
        found = former.clone() if len(own) < 2 else linear_cka(own, other)
        found = found.to(former)
        all_reduce(found, 'mean')
        self.similarity[level] = (
            self.momentum * former + (1 - self.momentum) * found)
        return self.similarity[level]
