"""Asymmetric temperatures: one for the target class, one for the others.

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

    The logits are centred, :math:`\sum_c z_c = 0`; the result is
    :math:`z_y / \tau_1` for the target class y and :math:`z_c / \tau_2` for
    all other classes. The order of the other classes does not change, but the
    rank of the target may change.

    Args:
        logits (Tensor): Logits, at least float32, shape (N, C).
        labels (Tensor): Target class of each sample, shape (N,).
        target_temperature (float): Temperature :math:`\tau_1` of the target
            class, > 0.
        other_temperature (float): Temperature :math:`\tau_2` of the other
            classes, > 0.

    Returns:
        Tensor: Logits, shape (N, C). A masked class (a logit of -inf) stays
        masked.

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

    averaged over samples, with the target class y. A large, over-confident
    teacher gives little information about the differences between the
    non-target classes. With :math:`\tau_1 > \tau_2` the variance of their
    probabilities increases, while the target does not become as confident as
    with :math:`\tau_2` alone. Equal temperatures give
    :class:`LogitKLDivLoss` with a teacher whose logits are divided by that
    temperature. As in the official code, the student is not softened.

    The target is the assigned label. For this reason it is a loss and not a
    calibrator: a calibrator maps the teacher's output to calibrated
    probabilities without the label, while these temperatures depend on the
    label, and probabilities that depend on the label are not calibrated for
    any temperatures. In addition, a loss has the labels for every kind of
    teacher, in the classes that both models share.

    The temperatures are applied after the teacher's calibrator. As in the
    paper, use the loss without a calibrator: a temperature there would soften
    the logits a second time.

    Difference from the paper: a sample is a RoI and its target is the
    assigned label, which may be background. The logits of a sample are
    centred first: unlike a softmax with one temperature, the formula depends
    on their offset, which the loss of a classifier does not determine.

    Args:
        target_temperature (float): Temperature :math:`\tau_1` of the target
            class, > 0. Defaults to 4.0, as in the official code.
        other_temperature (float): Temperature :math:`\tau_2` of the other
            classes, > 0. Defaults to 2.0, as in the official code.
        loss_weight (float): Weight of this term, >= 0. Defaults to 1.0.
        samples (str): Samples that enter the loss, see :class:`LogitLoss`.
            Defaults to 'all'.

    Reference:
        Li et al., "Asymmetric Temperature Scaling Makes Larger Networks Teach
        Well Again", NeurIPS 2022, arXiv 2210.04427.
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
