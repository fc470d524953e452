"""How much each sampled RoI counts in a distillation loss.

Shapes: N samples (RoIs), K classes, label K for background.
"""
from typing import Optional

import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError

SAMPLE_WEIGHT_MODES = ('uniform', 'foreground', 'balanced')


def roi_sample_weight(labels: Optional[Tensor],
                      num_classes: int,
                      weight: Optional[Tensor] = None,
                      mode: str = 'uniform') -> Optional[Tensor]:
    r"""Weigh foreground and background samples.

    - 'uniform': ``weight`` as it is.
    - 'foreground': background samples get weight 0. The total shrinks; a
      divisor such as ``avg_factor`` is not changed to make up for it.
    - 'balanced': with W the sum of all weights, :math:`W_f` of the
      foreground and :math:`W_b` of the background, foreground weights are
      multiplied by :math:`W / 2W_f` and background weights by
      :math:`W / 2W_b`. Both halves then weigh W / 2, and the total stays W.
      Where one of them has no weight there is nothing to balance, and
      ``weight`` stays as it is.

    Args:
        labels (Tensor, optional): Assigned class, ``num_classes`` for
            background, shape (N,); None is taken for no samples.
        num_classes (int): K.
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None, every sample weighs 1.
        mode (str): One of the above. Defaults to 'uniform'.

    Returns:
        Tensor | None: Shape (N,); ``weight`` itself where nothing changes.

    Raises:
        InvalidValueError: If ``mode`` is unknown.

    Example:
        >>> labels = torch.tensor([0, 3, 3, 3])
        >>> roi_sample_weight(labels, num_classes=3, mode='balanced')
        tensor([2.0000, 0.6667, 0.6667, 0.6667])
    """
    if mode not in SAMPLE_WEIGHT_MODES:
        raise InvalidValueError(
            f'`mode` must be one of {SAMPLE_WEIGHT_MODES}, but got {mode!r}')
    if mode == 'uniform' or labels is None:
        return weight
    if weight is None:
        weight = torch.ones_like(labels, dtype=torch.float32)
    is_foreground = (labels >= 0) & (labels < num_classes)
    foreground = weight * is_foreground
    if mode == 'foreground':
        return foreground
    background = weight - foreground
    half = weight.sum() / 2
    balanced = (
        foreground * (half / foreground.sum()) + background *
        (half / background.sum()))
    # One of the sums is 0 where a kind is missing: chosen without a branch,
    # which would wait for the GPU.
    can_balance = (foreground.sum() > 0) & (background.sum() > 0)
    return torch.where(can_balance, balanced, weight)
