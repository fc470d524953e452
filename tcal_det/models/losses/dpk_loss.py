"""Distillation with a part of the teacher's features as prior knowledge.

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


def linear_cka(features: Tensor, other_features: Tensor) -> Tensor:
    r"""Compute the similarity of two representations of the same samples.

    .. math::
        \frac{\lVert X' Y \rVert_F^2}
        {\lVert X' X \rVert_F\,\lVert Y' Y \rVert_F}

    of the centred matrices. It is invariant to scale, offset and a rotation
    of the columns, and 0 if one representation is constant.

    Args:
        features (Tensor): First representation X of S samples, shape (S, D).
        other_features (Tensor): Second representation Y of them, shape (S, E).

    Returns:
        Tensor: Similarity, a scalar in [0, 1].

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1., 0.], [0., 1.], [0., 0.]])
        >>> print(f'{linear_cka(rows, 5 * rows[:, [1, 0]] + 2).item():.4f}')
        1.0000

    Reference:
        Kornblith et al., "Similarity of Neural Network Representations
        Revisited", ICML 2019, arXiv 1905.00414.
    """
    features, other_features = (
        rows - rows.mean(dim=0) for rows in (features, other_features))
    alignment = (features.T @ other_features).square().sum()
    norms = (features.T @ features).norm() * (
        other_features.T @ other_features).norm()
    return torch.where(norms > 0, alignment / norms, torch.zeros_like(norms))


@MODELS.register_module()
class DPKLoss(FeatureLoss):
    r"""Squared error of a map restored with patches of the teacher's map.

    .. math::
        \mathrm{mean}\big((D(H) - F_t)^2\big), \qquad
        H = m \odot E_t(F_t) + (1 - m) \odot E_s(F_s)

    summed over levels. Each level has two encoders E of patches and a decoder
    D; they are trained together with the student but are not part of it. The
    mask m takes a patch from the teacher where a random number from [0, 1) is
    above r; it is the same for all images. r is the similarity of the encoded
    patches of both models, a moving average of :func:`linear_cka`: the lower
    the similarity, the more patches come from the teacher. The checkpoint
    contains r. Equal maps do not give 0: the decoder has to learn.

    Interpretation: the samples of the CKA are the patches of all images of
    the batch, as two images are too few; the CKA is averaged over processes.
    With fewer than two patches r does not change. The target is the teacher's
    own map, as an encoded map could shrink to zero.

    Difference from the paper: an encoder is a convolution with a stride of
    ``patch_size``, a ReLU and a 3x3 convolution; a decoder is a 3x3
    convolution, a ReLU and a transposed convolution. The paper uses
    transformers, whose cost grows with the square of the number of patches.
    Maps are padded with zeros to whole patches. The default of
    ``loss_weight`` is not the paper's weight for detection, which is not
    known here.

    Args:
        student_channels (list[int]): Channels of the student's levels, see
            :class:`FeatureLoss`. The encoders replace the projection.
        teacher_channels (list[int], optional): Channels of the teacher's
            levels. Defaults to None: those of the student.
        patch_size (int): Side length of a patch in positions, > 0. Defaults
            to 4.
        momentum (float): Weight of the previous r in the moving average, in
            [0, 1]. Defaults to 0.9.
        start_similarity (float): Similarity r before the first step, in
            [0, 1]. Defaults to 0.5.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        features (str): Maps that are compared, 'neck' or 'backbone'. Defaults
            to 'neck'.

    Reference:
        Qiu et al., "Better Teacher Better Student: Dynamic Prior Knowledge
        for Knowledge Distillation", ICLR 2023, arXiv 2206.06067.
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
        channels = list(zip(self.student_channels, self.teacher_channels))
        self.student_encoders = nn.ModuleList(
            self._encoder(student_count, teacher_count)
            for student_count, teacher_count in channels)
        self.teacher_encoders = nn.ModuleList(
            self._encoder(teacher_count, teacher_count)
            for _, teacher_count in channels)
        self.decoders = nn.ModuleList(
            self._decoder(teacher_count) for _, teacher_count in channels)
        self.random_stream = RandomStream()
        self.register_buffer(
            'similarity', torch.full((len(channels), ), self.start_similarity))

    def _encoder(self, in_channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(
                in_channels,
                out_channels,
                self.patch_size,
                stride=self.patch_size), nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1))

    def _decoder(self, channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(
                channels, channels, self.patch_size, stride=self.patch_size))

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        height, width = teacher.shape[-2:]
        student_code = self.student_encoders[level](
            self._whole_patches(student))
        teacher_code = self.teacher_encoders[level](
            self._whole_patches(teacher))
        similarity = self._updated_similarity(student_code.detach(),
                                              teacher_code.detach(), level)
        drawn = torch.rand(
            student_code.shape[-2:], generator=self.random_stream.generator())
        is_given = drawn.to(similarity) > similarity
        restored = self.decoders[level](
            torch.where(is_given, teacher_code, student_code))
        return F.mse_loss(restored[..., :height, :width], teacher)

    def _whole_patches(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        return F.pad(
            maps, (0, -width % self.patch_size, 0, -height % self.patch_size))

    def _updated_similarity(self, student_code: Tensor, teacher_code: Tensor,
                            level: int) -> Tensor:
        student_code, teacher_code = (
            maps.transpose(0, 1).flatten(1).T
            for maps in (student_code, teacher_code))
        previous = self.similarity[level]
        # Every process must call `all_reduce`, even if its maps are too
        # small.
        current = previous.clone() if len(student_code) < 2 else linear_cka(
            student_code, teacher_code)
        current = current.to(previous)
        all_reduce(current, 'mean')
        self.similarity[level] = (
            self.momentum * previous + (1 - self.momentum) * current)
        return self.similarity[level]
