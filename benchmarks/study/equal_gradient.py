"""Classic KD that pulls on the student's logits as hard as TCal would."""
from typing import Optional

import torch
from torch import Tensor

from tcal_det.checks import check_positive
from tcal_det.models.losses.logit_kl_div_loss import logit_kl_div
from tcal_det.models.losses.logit_loss import LogitLoss
from tcal_det.registry import MODELS


def root_mean_square_gradient(student: Tensor, teacher: Tensor,
                              student_temperature: float,
                              teacher_temperature: float) -> Tensor:
    r"""Gradient of a KL divergence with respect to the student's logits.

    That of :math:`T_s^2\,\mathrm{KL}(\mathrm{softmax}(z_t/T_t)\,\|\,
    \mathrm{softmax}(z_s/T_s))` is :math:`T_s(\mathrm{softmax}(z_s/T_s) -
    \mathrm{softmax}(z_t/T_t))`.

    Args:
        student (Tensor): Logits, shape (N, C), N > 0.
        teacher (Tensor): Logits, shape (N, C).
        student_temperature (float): :math:`T_s`.
        teacher_temperature (float): :math:`T_t`.

    Returns:
        Tensor: Root mean square over samples and classes, a scalar.
    """
    gap = (student / student_temperature).softmax(1) - (
        teacher / teacher_temperature).softmax(1)
    return student_temperature * gap.square().mean().sqrt()


@MODELS.register_module()
class EqualGradientKDLoss(LogitLoss):
    """Two-sided KD, scaled while it trains to the gradient of TCal.

    Two losses are comparable at one ``loss_weight`` only if they pull equally
    hard, and how hard a divergence pulls changes as the student fits. This
    loss is divided by a running mean of the root mean square of its gradient
    with respect to the student's logits, and multiplied by that of TCal at
    ``reference_temperature`` on the very same logits.

    Args:
        temperature (float): Temperature of both sides, > 0. Defaults to 4.0.
        reference_temperature (float): Temperature of TCal's teacher, > 0.
            Defaults to 1.5.
        momentum (float): Share of the running means that a step keeps.
            Defaults to 0.99, a memory of 100 steps.
        loss_weight (float): Weight of TCal that this is to equal. Defaults
            to 1.0.
    """

    def __init__(self,
                 temperature: float = 4.0,
                 reference_temperature: float = 1.5,
                 momentum: float = 0.99,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.temperature = check_positive('temperature', temperature)
        self.reference_temperature = check_positive('reference_temperature',
                                                    reference_temperature)
        self.momentum = momentum
        # Of its own gradient and of the reference's; 0 before the first step.
        self.register_buffer('mean_gradients', torch.zeros(2))

    def reduced_loss(self, student: Tensor, teacher: Tensor,
                     labels: Optional[Tensor], weight: Optional[Tensor],
                     avg_factor, image_index: Optional[Tensor]) -> Tensor:
        loss = super().reduced_loss(student, teacher, labels, weight,
                                    avg_factor, image_index)
        if len(student) == 0:
            return loss
        if self.training:
            self._update(student.detach(), teacher)
        kd_gradient, reference = self.mean_gradients
        # A student that equals its teacher has no gradient to scale.
        return loss * (reference / kd_gradient if kd_gradient > 0 else 1.0)

    def _update(self, student: Tensor, teacher: Tensor) -> None:
        current = torch.stack([
            root_mean_square_gradient(student, teacher, self.temperature,
                                      self.temperature),
            root_mean_square_gradient(student, teacher, 1.0,
                                      self.reference_temperature)
        ]).to(self.mean_gradients)
        if not self.mean_gradients.any():
            self.mean_gradients.copy_(current)
        else:
            self.mean_gradients.lerp_(current, 1 - self.momentum)

    def per_sample_loss(self, student: Tensor, teacher: Tensor,
                        labels: Optional[Tensor]) -> Tensor:
        return logit_kl_div(student, teacher, self.temperature)
