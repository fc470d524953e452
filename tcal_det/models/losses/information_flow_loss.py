"""Distillation of how information flows through the stages of a network.

Shapes: S samples, positions of a map; D channels, of any number.
"""
from typing import List, Optional, Sequence

import torch
from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene
from .random_stream import RandomStream

# Below a root, so that its slope at 0 is bounded.
EPS = 1e-6
# Of a cosine kernel, whose logarithm is taken.
LEAST_SIMILARITY = 1e-6


def cosine_kernel(rows: Tensor) -> Tensor:
    r"""Similarity of the directions of vectors, :math:`(\cos + 1) / 2`.

    Args:
        rows (Tensor): Shape (S, D).

    Returns:
        Tensor: In [1e-6, 1], shape (S, S).

    Example:
        >>> import torch
        >>> kernel = cosine_kernel(torch.tensor([[3., 0.], [0., 1.]]))
        >>> print([[round(one, 3) for one in row] for row in kernel.tolist()])
        [[1.0, 0.5], [0.5, 1.0]]
    """
    norms = (rows.square().sum(dim=1, keepdim=True) + EPS).sqrt()
    directions = rows / norms
    return ((directions @ directions.T + 1) / 2).clamp(min=LEAST_SIMILARITY)


def student_t_kernel(rows: Tensor) -> Tensor:
    r"""Similarity of places, :math:`1 / (1 + \lVert a - b \rVert)`.

    Args:
        rows (Tensor): Shape (S, D).

    Returns:
        Tensor: In (0, 1), shape (S, S).

    Example:
        >>> import torch
        >>> kernel = student_t_kernel(torch.tensor([[0., 0.], [3., 4.]]))
        >>> print([[round(one, 2) for one in row] for row in kernel.tolist()])
        [[1.0, 0.17], [0.17, 1.0]]
    """
    squares = rows.square().sum(dim=1)
    # The matrix of differences would be as large as S such maps.
    gaps = squares[:, None] + squares - 2 * rows @ rows.T
    is_same = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    gaps = gaps.clamp(min=0).masked_fill(is_same, 0)
    return 1 / (1 + (gaps + EPS).sqrt())


def jeffreys_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Of the neighbours that each sample has, mean over samples.

    .. math::
        \frac{1}{S} \sum_i \sum_j (p^t_{ij} - p^s_{ij})
        (\log p^t_{ij} - \log p^s_{ij})

    where :math:`p_{ij} = K_{ij} / \sum_k K_{ik}` is how probable sample j is
    as a neighbour of sample i.

    Args:
        student (Tensor): Its kernel, positive, shape (S, S).
        teacher (Tensor): Its kernel, positive, shape (S, S).

    Returns:
        Tensor: A scalar, >= 0.
    """
    student, teacher = (
        kernel.log() - kernel.sum(dim=1, keepdim=True).log()
        for kernel in (student, teacher))
    gap = (teacher.exp() - student.exp()) * (teacher - student)
    return gap.sum(dim=1).mean()


@MODELS.register_module()
class InformationFlowLoss(FeatureLoss):
    r"""Divergence of the neighbourhoods of samples, stage by stage.

    .. math::
        J(K^{\cos}_s, K^{\cos}_t) + J(K^{T}_s, K^{T}_t)

    summed over levels, with two kernels of each network, see
    :func:`cosine_kernel` and :func:`student_t_kernel`, and their
    :func:`jeffreys_divergence`. Kernels compare samples within one network:
    the channels of the two need not agree, and nothing is projected.

    The paper weighs the last layer by 1 and the earlier ones by
    :math:`w_0 0.7^{epoch}`: two entries of ``distill_losses``, one with
    ``levels=[-1]``, one with the earlier levels and a
    ``LossWeightScheduleHook`` of type 'early_decay'. Its auxiliary teacher,
    of the depth of the student, is a teacher as any other.

    Adapted: a sample is a position of a map, of all images of the batch, and
    at most ``num_samples`` of them are drawn in a step, without moving the
    student's random stream; the student's own losses stay on. Readings taken:
    the divergence is a mean over samples and a sum over their neighbours, S
    times the authors' mean over pairs; a sample is a neighbour of itself, as
    in their code; a square of 1e-6 is added to norms and distances, so that
    vectors of zeros have a gradient.

    Args:
        levels (list[int], optional): Positions of the levels that count,
            among those compared; negative ones from the last. Defaults to
            None, all.
        num_samples (int): Positions of a level that are drawn in a step, >=
            2. Defaults to 256.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        features (str): 'backbone', the stages, or 'neck'. Defaults to
            'backbone'.

    Reference: Passalis et al., "Heterogeneous Knowledge Distillation using
    Information Flow Modeling", CVPR 2020, arXiv 2005.00727.
    """

    projects = False

    def __init__(self,
                 levels: Optional[Sequence[int]] = None,
                 num_samples: int = 256,
                 loss_weight: float = 1.0,
                 features: str = 'backbone') -> None:
        super().__init__(loss_weight, features=features)
        self.levels = _check_levels(levels)
        self.num_samples = check_count('num_samples', num_samples, lowest=2)
        self.random_stream = RandomStream()

    def forward(self,
                student: Sequence[Tensor],
                teacher: Sequence[Tensor],
                scene: Optional[Scene] = None) -> Tensor:
        """See :meth:`FeatureLoss.forward`.

        Raises:
            InvalidValueError: If there is no such level.
        """
        chosen = self._chosen(len(student))
        return super().forward([student[level] for level in chosen],
                               [teacher[level] for level in chosen], scene)

    def _chosen(self, count: int) -> List[int]:
        if self.levels is None:
            return list(range(count))
        if not all(-count <= level < count for level in self.levels):
            raise InvalidValueError(
                f'`levels` must be positions of the {count} levels that are '
                f'compared, from {-count} to {count - 1}, but got '
                f'{self.levels}')
        chosen = [level % count for level in self.levels]
        if len(set(chosen)) < len(chosen):
            raise InvalidValueError(
                f'`levels` must name each of the {count} levels once, but got '
                f'{self.levels}')
        return chosen

    def level_loss(self, student: Tensor, teacher: Tensor, level: int,
                   scene: Scene) -> Tensor:
        num_images, _, height, width = student.shape
        drawn = torch.randperm(
            num_images * height * width,
            generator=self.random_stream.generator())[:self.num_samples].to(
                student.device)
        image, place = drawn // (height * width), drawn % (height * width)
        rows = [
            maps.flatten(2)[image, :, place] for maps in (student, teacher)
        ]
        return sum(  # type: ignore[return-value]  # of tensors
            jeffreys_divergence(*map(kernel, rows))
            for kernel in (cosine_kernel, student_t_kernel))


def _check_levels(levels: Optional[Sequence[int]]) -> Optional[List[int]]:
    if levels is None:
        return None
    if not isinstance(levels, (list, tuple)) or not levels or not all(
            isinstance(level, int) and not isinstance(level, bool)
            for level in levels):
        raise InvalidTypeError(
            '`levels` must be a list of positions, e.g. [-1], or None, but '
            f'got {levels!r}')
    if len(set(levels)) < len(levels):
        raise InvalidValueError(
            f'`levels` must name each level once, but got {levels!r}')
    return list(levels)
