"""Weights of the samples in a distillation loss.

Shapes: N samples (RoIs, anchors or points), C columns of logits, K classes;
a label outside [0, K) means background or ignored.
"""
from typing import Optional

import torch
from torch import Tensor

from tcal_det.errors import InvalidValueError
from ..logits import at_least_float32

SAMPLE_WEIGHT_MODES = ('all', 'foreground', 'balanced', 'teacher')


def sample_weight(labels: Optional[Tensor],
                  num_classes: int,
                  weight: Optional[Tensor] = None,
                  mode: str = 'all',
                  teacher_logits: Optional[Tensor] = None,
                  activation: str = 'softmax') -> Optional[Tensor]:
    r"""Compute the sample weights from the labels or from the teacher.

    - 'all': ``weight`` is unchanged.
    - 'foreground': samples without a label in [0, K) get weight 0. This
      reduces the total weight; a divisor such as ``avg_factor`` is not
      changed to compensate.
    - 'balanced': with the sum W of all weights, :math:`W_f` of the foreground
      weights and :math:`W_b` of the background weights, foreground weights
      are multiplied by :math:`W / 2W_f` and background weights by
      :math:`W / 2W_b`. Each half then has the total weight W / 2, and the sum
      stays W. If one half has the total weight 0, ``weight`` is unchanged.
      The sums are over one call: one stage of a cascade, or one pyramid level
      of a dense head.
    - 'teacher': ``weight`` is multiplied by the teacher's largest object
      probability, :math:`\max_{c < K} p_{t,c}` (prediction-guided weighting).
      As for 'foreground', a divisor is not changed.

    Args:
        labels (Tensor, optional): Assigned class of each sample, shape (N,).
            Needed for 'foreground' and 'balanced'; there None means that
            there are no samples.
        num_classes (int): Number of classes K.
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None: every sample has weight 1.
        mode (str): Weighting mode, one of the above. Defaults to 'all'.
        teacher_logits (Tensor, optional): Logits of the teacher, shape
            (N, C), needed for 'teacher'. Defaults to None.
        activation (str): Activation of the teacher's head, 'softmax' or
            'sigmoid'. Defaults to 'softmax'.

    Returns:
        Tensor, optional: Weight of each sample, shape (N,); the input
        ``weight`` if nothing changes.

    Raises:
        InvalidValueError: If ``mode`` is unknown.

    Example:
        >>> labels = torch.tensor([0, 3, 3, 3])
        >>> sample_weight(labels, num_classes=3, mode='balanced')
        tensor([2.0000, 0.6667, 0.6667, 0.6667])
        >>> teacher_logits = torch.tensor([[.7, .1, .2], [.1, .2, .7]]).log()
        >>> sample_weight(None, 2, mode='teacher',
        ...               teacher_logits=teacher_logits)
        tensor([0.7000, 0.2000])
    """
    if mode not in SAMPLE_WEIGHT_MODES:
        raise InvalidValueError(
            f'`mode` must be one of {SAMPLE_WEIGHT_MODES}, but got {mode!r}')
    if mode == 'teacher':
        scores = object_probability(
            teacher_logits,  # type: ignore[arg-type]  # given in this mode
            num_classes,
            activation)
        return scores if weight is None else weight * scores
    if mode == 'all' or labels is None:
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
    # A sum is 0 if foreground or background is missing. `torch.where` instead
    # of a branch, as a branch would wait for the GPU.
    can_balance = (foreground.sum() > 0) & (background.sum() > 0)
    return torch.where(can_balance, balanced, weight)


def object_probability(logits: Tensor, num_classes: int,
                       activation: str) -> Tensor:
    """Compute the largest probability of a foreground class.

    Args:
        logits (Tensor): Unnormalised scores, shape (N, C).
        num_classes (int): Number of foreground classes K <= C; these are the
            first columns.
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.

    Returns:
        Tensor: Probability of each sample, shape (N,), at least float32,
        without gradient.

    Example:
        >>> logits = torch.tensor([[0., 2., 5.]])
        >>> object_probability(logits, 2, 'sigmoid')
        tensor([0.8808])
    """
    logits = logits.detach()
    # Both activations keep the order, so only the largest logit is needed.
    largest = at_least_float32(logits[:, :num_classes].amax(dim=1))
    if activation == 'sigmoid':
        return largest.sigmoid()
    return (largest - at_least_float32(logits).logsumexp(dim=1)).exp()
