"""Asymmetric temperatures with the second one selected for each sample.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""
import math
from typing import Sequence

import torch
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from .ats_loss import asymmetric_logits
from .logit_kl_div_loss import logit_kl_div
from .logit_loss import LogitLoss


def non_target_variance(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the variance of the probabilities of the non-target classes.

    .. math::
        \frac{1}{C - 1} \sum_{c \ne y} (p_c - \bar p)^2, \qquad
        \bar p = \frac{1 - p_y}{C - 1}

    Masked classes (a logit of -inf) are left out.

    Args:
        logits (Tensor): Logits, at least float32, shape (N, C).
        labels (Tensor): Target class y of each sample, shape (N,).

    Returns:
        Tensor: Variance of each sample, shape (N,).

    Example:
        >>> logits = torch.tensor([[.6, .3, .1]]).log()
        >>> print(f'{non_target_variance(logits, torch.tensor([0]))[0]:.4f}')
        0.0100
    """
    is_other = (logits != -math.inf).scatter(1, labels[:, None], False)
    probs = logits.softmax(dim=1)
    count = is_other.sum(dim=1).clamp(min=1)
    mean = (probs * is_other).sum(dim=1) / count
    deviations = (probs - mean[:, None]) * is_other
    return deviations.square().sum(dim=1) / count


def widest_asymmetric_logits(logits: Tensor, labels: Tensor,
                             target_temperature: float,
                             other_temperatures: Sequence[float]) -> Tensor:
    """Compute asymmetric logits with the largest non-target variance.

    Only temperatures that keep the order of all classes are allowed. The
    target's temperature keeps it, and is always a candidate.

    Args:
        logits (Tensor): Logits, at least float32, shape (N, C).
        labels (Tensor): Target class of each sample, shape (N,).
        target_temperature (float): Temperature of the target class, > 0.
        other_temperatures (Sequence[float]): Candidates for the temperature
            of the other classes, each > 0.

    Returns:
        Tensor: Logits, shape (N, C).
    """
    chosen = asymmetric_logits(logits, labels, target_temperature,
                               target_temperature)
    order = _order_of_target(chosen, labels)
    largest = non_target_variance(chosen, labels)
    for temperature in other_temperatures:
        other = asymmetric_logits(logits, labels, target_temperature,
                                  temperature)
        variance = non_target_variance(other, labels)
        is_wider = (variance > largest) & (_order_of_target(other, labels)
                                           == order).all(dim=1)
        chosen = torch.where(is_wider[:, None], other, chosen)
        largest = torch.where(is_wider, variance, largest)
    return chosen


def _order_of_target(logits: Tensor, labels: Tensor) -> Tensor:
    """Compare the target with each class: 1 above, 0 equal, -1 below."""
    return torch.sign(logits.gather(1, labels[:, None]) - logits)


@MODELS.register_module()
class ISATSLoss(LogitLoss):
    r"""Instance-specific asymmetric temperature scaling, for softmax heads.

    The loss is that of :class:`ATSLoss`, but :math:`\tau_2` is selected for
    each sample: it is the candidate with the largest variance of the
    probabilities of the non-target classes, see :func:`non_target_variance`.
    The authors find that the benefit of a teacher increases with this
    variance. So a sample whose target has a much larger logit than the other
    classes gets a low :math:`\tau_2`; for a sample in which another class has
    nearly the same logit as the target, :math:`\tau_2` stays close to
    :math:`\tau_1`.

    Difference from the paper: the same as for :class:`ATSLoss`.

    Interpretation: the authors' summary states the criterion for the
    temperature of the other classes, but not the candidates. Without a bound,
    the variance would grow until another class has a larger logit than the
    target. As the summary mentions temperatures that keep the order of the
    classes, only such temperatures are allowed. The candidates are those of
    the experiments in the official code of ATS, and the halves between them;
    :math:`\tau_1` is always a candidate.

    Args:
        target_temperature (float): Temperature :math:`\tau_1` of the target
            class, > 0. Defaults to 4.0.
        other_temperatures (Sequence[float]): Candidates for the temperature
            :math:`\tau_2` of the other classes, each > 0, at least one.
            Defaults to (1.0, 1.5, 2.0, 2.5, 3.0, 3.5).
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Fan et al., "Exploring dark knowledge under various teacher capacities
        and addressing capacity mismatch", Frontiers of Computer Science
        20(6), 2026, arXiv 2405.13078.
    """

    needs_labels = True

    def __init__(self,
                 target_temperature: float = 4.0,
                 other_temperatures: Sequence[float] = (1.0, 1.5, 2.0, 2.5,
                                                        3.0, 3.5),
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.target_temperature = check_positive('target_temperature',
                                                 target_temperature)
        if not isinstance(other_temperatures, (list, tuple)):
            raise InvalidTypeError(
                '`other_temperatures` must be a list or tuple of numbers in '
                f'(0, inf), but got {other_temperatures!r}')
        if not other_temperatures:
            raise InvalidValueError('`other_temperatures` must have at least '
                                    'one number, but is empty')
        self.other_temperatures = tuple(
            check_positive('other_temperatures', value)
            for value in other_temperatures)

    def per_sample_loss(  # type: ignore[override]  # by needs_labels
            self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return logit_kl_div(
            student,
            widest_asymmetric_logits(teacher, labels, self.target_temperature,
                                     self.other_temperatures))
