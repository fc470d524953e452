"""How much each sample counts in a distillation loss.

Shapes: N samples (RoIs, anchors or points), C columns of logits, K classes;
a label outside [0, K) is none of a class: background, or ignored.
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
    r"""Weigh the samples by their labels or by the teacher.

    - 'all': ``weight`` as it is.
    - 'foreground': samples without a label in [0, K) get weight 0. The total
      shrinks; a divisor such as ``avg_factor`` is not changed to make up for
      it.
    - 'balanced': with W the sum of all weights, :math:`W_f` of the
      foreground and :math:`W_b` of the background, foreground weights are
      multiplied by :math:`W / 2W_f` and background weights by
      :math:`W / 2W_b`. Both halves then weigh W / 2, and the total stays W.
      Where one of them has no weight there is nothing to balance, and
      ``weight`` stays as it is. The sums are those of the call: of one stage
      of a cascade, of one pyramid level of a dense head.
    - 'teacher': multiplied by the teacher's largest object probability,
      :math:`\max_{c < K} p_{t,c}` (prediction-guided weighting). As for
      'foreground', the divisor stays.

    Args:
        labels (Tensor, optional): Assigned class of each sample, shape (N,).
            Needed for 'foreground' and 'balanced'; None is taken there for
            no samples.
        num_classes (int): K.
        weight (Tensor, optional): Weight of each sample, shape (N,).
            Defaults to None, every sample weighs 1.
        mode (str): One of the above. Defaults to 'all'.
        teacher_logits (Tensor, optional): Shape (N, C), needed for
            'teacher'. Defaults to None.
        activation (str): 'softmax' or 'sigmoid', what makes probabilities of
            ``teacher_logits``. Defaults to 'softmax'.

    Returns:
        Tensor | None: Shape (N,); ``weight`` itself where nothing changes.

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
    # One of the sums is 0 where a kind is missing: chosen without a branch,
    # which would wait for the GPU.
    can_balance = (foreground.sum() > 0) & (background.sum() > 0)
    return torch.where(can_balance, balanced, weight)


def object_probability(logits: Tensor, num_classes: int,
                       activation: str) -> Tensor:
    """Largest probability of a class that is no background.

    Args:
        logits (Tensor): Shape (N, C).
        num_classes (int): K <= C; further columns are not objects.
        activation (str): 'softmax' or 'sigmoid'.

    Returns:
        Tensor: Shape (N,), at least float32, without a gradient.

    Example:
        >>> logits = torch.tensor([[0., 2., 5.]])
        >>> object_probability(logits, 2, 'sigmoid')
        tensor([0.8808])
    """
    logits = logits.detach()
    # Both activations keep the order: only the largest is activated.
    largest = at_least_float32(logits[:, :num_classes].amax(dim=1))
    if activation == 'sigmoid':
        return largest.sigmoid()
    return (largest - at_least_float32(logits).logsumexp(dim=1)).exp()
