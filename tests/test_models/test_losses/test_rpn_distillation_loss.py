"""RPNDistillationLoss is the binary divergence, of one class."""
import math

import pytest
import torch

from tcal_det.models.losses import RPNDistillationLoss
from tcal_det.registry import MODELS


def test_is_registered():
    loss = MODELS.build(dict(type='tcal_det.RPNDistillationLoss'))
    assert repr(loss) == (
        "RPNDistillationLoss(loss_weight=1.0, samples='all')")


def test_by_hand():
    """KL((3/4, 1/4) || (1/2, 1/2)), of one anchor of two that are sampled."""
    student = torch.zeros(3, 1, dtype=torch.float64)
    teacher = torch.tensor([[3.], [1.], [99.]]).double().log()
    value = RPNDistillationLoss(loss_weight=2.0)(
        student,
        teacher,
        labels=torch.tensor([0, 1, 1]),
        weight=torch.tensor([1., 1., 0.]).double(),
        avg_factor=4,
        num_classes=1)
    expected = 0.75 * math.log(3) - math.log(2)
    assert value.item() == pytest.approx(2 * expected / 4, rel=1e-9)


def test_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(4, 1, generator=generator, dtype=torch.float64)
        for _ in range(2))
    loss = RPNDistillationLoss()
    weight = torch.tensor([1., 0., 1., 1.]).double()
    assert torch.autograd.gradcheck(
        lambda logits: loss(logits, teacher, weight=weight, avg_factor=3.),
        (student.requires_grad_(), ))
