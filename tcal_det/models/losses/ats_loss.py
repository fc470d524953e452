"""Asymmetric temperatures: one for the target class, one for the rest.

Shapes: N samples (RoIs), C = K + 1 classes with background last.
"""

from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.registry import MODELS
from ..logits import centred
from .logit_kl_div_loss import logit_kl_div
from .logit_loss import LogitLoss


def asymmetric_logits(logits: Tensor, labels: Tensor,
                      target_temperature: float,
                      other_temperature: float) -> Tensor:
    r"""Divide the target's logit by one temperature, the others by another.

    With the logits centred, :math:`\sum_c z_c = 0`, :math:`z_y / \tau_1` for
    the target class y and :math:`z_c / \tau_2` for all others. The order of
    the others stays; the target may lose its place among them.

    Args:
        logits (Tensor): At least float32, shape (N, C).
        labels (Tensor): Target class of each sample, shape (N,).
        target_temperature (float): :math:`\tau_1` > 0.
        other_temperature (float): :math:`\tau_2` > 0.

    Returns:
        Tensor: Shape (N, C). A masked class (a logit of -inf) stays masked.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[8., -2., -6.]])
        >>> asymmetric_logits(logits, torch.tensor([0]), 4, 2).tolist()
        [[2.0, -1.0, -3.0]]
    """
    logits = centred(logits)
    target = labels[:, None]
    return (logits / other_temperature).scatter(
        1, target,
        logits.gather(1, target) / target_temperature)


@MODELS.register_module()
class ATSLoss(LogitLoss):
    r"""Asymmetric temperature scaling, for softmax heads.

    .. math::
        \mathrm{KL}\big(\tilde p_t\,\|\,\mathrm{softmax}(z_s)\big), \qquad
        \tilde p_{t,c} \propto \exp(z_{t,c} / \tau_c), \qquad
        \tau_y = \tau_1, \quad \tau_c = \tau_2 \text{ for } c \ne y

    averaged over samples, y being the target class. A large, over-confident
    teacher says little about how the classes other than the target differ;
    :math:`\tau_1 > \tau_2` raises the variance of their probabilities
    without making the target as sure as :math:`\tau_2` alone would. Equal
    temperatures are :class:`LogitKLDivLoss` on a teacher divided by them. As
    in the official code the student is not softened.

    The target is the assigned label. That is why this is a loss and no
    calibrator: a calibrator turns what the teacher says into probabilities
    that hold, while these temperatures are chosen by what the teacher should
    have said, and probabilities made with the label are calibrated for no
    temperatures at all. Labels also are at hand in a loss for every way in
    which a teacher answers, in the classes that both models share.

    The temperatures act on what the calibrator has left. As in the paper use
    it without one: a temperature there would soften twice.

    Adapted: a sample is a RoI and its target the assigned label, background
    included. The logits of a sample are centred first: unlike a softmax with
    one temperature, the formula depends on their offset, which no
    classifier's loss determines.

    Args:
        target_temperature (float): :math:`\tau_1` > 0. Defaults to 4.0, with
            the other's 2.0 that of the official code.
        other_temperature (float): :math:`\tau_2` > 0. Defaults to 2.0.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that count, as in :class:`LogitLoss`.
            Defaults to 'all'.

    Reference: Li et al., "Asymmetric Temperature Scaling Makes Larger
    Networks Teach Well Again", NeurIPS 2022, arXiv 2210.04427.
    """

    needs_labels = True

    def __init__(self,
                 target_temperature: float = 4.0,
                 other_temperature: float = 2.0,
                 loss_weight: float = 1.0,
                 samples: str = 'all') -> None:
        super().__init__(loss_weight, samples)
        self.target_temperature = check_positive('target_temperature',
                                                 target_temperature)
        self.other_temperature = check_positive('other_temperature',
                                                other_temperature)

    def per_sample_loss(  # type: ignore[override]  # by needs_labels
            self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return logit_kl_div(
            student,
            asymmetric_logits(teacher, labels, self.target_temperature,
                              self.other_temperature))
