"""Distillation of the information flow through the stages of a network.

Shapes: S samples (positions of a map); D channels, any number.
"""
from typing import List, Optional, Sequence

import torch
from torch import Tensor

from tcal_det.checks import check_count
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from .feature_loss import FeatureLoss, Scene
from .random_stream import RandomStream

# Added before a square root, so that its slope at 0 is bounded.
EPS = 1e-6
# Lower bound of a cosine kernel, so that its logarithm is finite.
LEAST_SIMILARITY = 1e-6


def cosine_kernel(rows: Tensor) -> Tensor:
    r"""Compute the similarity of directions, :math:`(\cos + 1) / 2`.

    Args:
        rows (Tensor): Vectors, shape (S, D).

    Returns:
        Tensor: Similarities in [1e-6, 1], shape (S, S).

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
    r"""Compute the similarity :math:`1 / (1 + \lVert a - b \rVert)`.

    Args:
        rows (Tensor): Vectors, shape (S, D).

    Returns:
        Tensor: Similarities in (0, 1), shape (S, S).

    Example:
        >>> import torch
        >>> kernel = student_t_kernel(torch.tensor([[0., 0.], [3., 4.]]))
        >>> print([[round(one, 2) for one in row] for row in kernel.tolist()])
        [[1.0, 0.17], [0.17, 1.0]]
    """
    squares = rows.square().sum(dim=1)
    # A tensor of all differences would have S * S * D elements.
    gaps = squares[:, None] + squares - 2 * rows @ rows.T
    is_same = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    gaps = gaps.clamp(min=0).masked_fill(is_same, 0)
    return 1 / (1 + (gaps + EPS).sqrt())


def jeffreys_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compute the Jeffreys divergence of the neighbours, mean over samples.

    .. math::
        \frac{1}{S} \sum_i \sum_j (p^t_{ij} - p^s_{ij})
        (\log p^t_{ij} - \log p^s_{ij})

    where :math:`p_{ij} = K_{ij} / \sum_k K_{ik}` is the probability that
    sample j is a neighbour of sample i.

    Args:
        student (Tensor): Kernel of the student, positive, shape (S, S).
        teacher (Tensor): Kernel of the teacher, positive, shape (S, S).

    Returns:
        Tensor: Divergence, a scalar, >= 0.
    """
    student, teacher = (
        kernel.log() - kernel.sum(dim=1, keepdim=True).log()
        for kernel in (student, teacher))
    gap = (teacher.exp() - student.exp()) * (teacher - student)
    return gap.sum(dim=1).mean()


@MODELS.register_module()
class InformationFlowLoss(FeatureLoss):
    r"""Divergence between the neighbours of samples, for each stage.

    .. math::
        J(K^{\cos}_s, K^{\cos}_t) + J(K^{T}_s, K^{T}_t)

    summed over levels. Each network has two kernels K,
    :func:`cosine_kernel` and :func:`student_t_kernel`; J is the
    :func:`jeffreys_divergence`. A kernel compares samples within one network:
    the two networks may have different channels, without a projection.

    The paper uses the weight 1 for the last layer and
    :math:`w_0 0.7^{epoch}` for the earlier ones. For this, use two entries in
    ``distill_losses``: one with ``levels=[-1]``, and one with the earlier
    levels and a ``LossWeightScheduleHook`` of type 'early_decay'. The paper's
    auxiliary teacher, with the depth of the student, can be used like any
    other teacher.

    Difference from the paper: a sample is a position of a map. In each step
    at most ``num_samples`` positions are drawn from all images of the batch,
    from a random stream that is independent of the student's. The student's
    own losses stay in use.

    Interpretation: the divergence is a mean over samples and a sum over their
    neighbours, which is S times the authors' mean over pairs. A sample is a
    neighbour of itself, as in their code. 1e-6 is added to the squares of
    norms and distances, so that zero vectors have a gradient.

    Args:
        levels (list[int], optional): Positions of the levels that are used,
            among those compared; negative positions count from the last.
            Defaults to None: all.
        num_samples (int): Number of positions of a level that are drawn in a
            step, >= 2. Defaults to 256.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        features (str): Maps that are compared: 'backbone', the stages, or
            'neck'. Defaults to 'backbone'.

    Reference:
        Passalis et al., "Heterogeneous Knowledge Distillation using
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
        """Compute the loss of the levels in ``levels``.

        Args:
            student (Sequence[Tensor]): Maps of the student, see
                :meth:`FeatureLoss.forward`.
            teacher (Sequence[Tensor]): Maps of the teacher.
            scene (Scene, optional): Scores and boxes. Defaults to None.

        Returns:
            Tensor: Loss, a scalar, at least float32.

        Raises:
            InvalidValueError: If a level does not exist.
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
