"""Gradients at features: by hand, by the derivative's formula, by torch."""
import math

import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses.kdiga_loss import (KDIGALoss,
                                               classification_gradient,
                                               energy_gap)
from tcal_det.registry import MODELS


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_gradient_of_a_linear_head():
    """W' (p - e_y), whatever else is in the batch."""
    weight, features = random(3, 8), random(5, 2, 2, 2).requires_grad_()
    labels = torch.tensor([0, 2, 1, 1, 0])
    logits = features.flatten(1) @ weight.t()
    gradient = classification_gradient(logits, labels, features)
    expected = logits.softmax(1)
    expected[torch.arange(5), labels] -= 1
    torch.testing.assert_close(
        gradient.flatten(1), (expected @ weight).detach())


def test_by_hand():
    """Gaps (3, 4) and 0: 5 and 0, of two samples."""
    student = torch.tensor([[[[3., 4.]]], [[[1., 1.]]]])
    teacher = torch.tensor([[[[0., 0.]]], [[[1., 1.]]]])
    assert KDIGALoss()(student, teacher).item() == 2.5
    weight = torch.tensor([2., 7.])
    assert KDIGALoss(loss_weight=3)(student, teacher, weight, 4.).item() == 7.5


def test_energy_by_hand():
    """Energies (9, 16) and (4 + 4, 1): pooled alike, cosine of both."""
    student = torch.tensor([[[[3., 4.]]]])
    teacher = torch.tensor([[[[2., 1.]], [[2., 0.]]]])
    cosine = (9 * 8 + 16 * 1) / (math.hypot(9, 16) * math.hypot(8, 1))
    assert energy_gap(student, teacher).item() == pytest.approx(1 - cosine)
    assert KDIGALoss()(student, teacher).item() == pytest.approx(1 - cosine)
    # Of another size: means of the squares of a half each.
    wide = torch.tensor([[[[3., 3., 4., 4.]], [[0., 0., 0., 0.]]]])
    assert KDIGALoss()(student, wide).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('scale', [1., 1e-4, 1e-8, 1e-12])
def test_scale_does_not_count(scale):
    """Gradients of a sample that is surely right are that small."""
    student, teacher = (
        random(4, 2, 3, 3, seed=seed).float() for seed in (1, 2))
    expected = energy_gap(student, teacher)
    student = (scale * student).requires_grad_()
    gap = energy_gap(student, teacher)
    torch.testing.assert_close(gap, expected, rtol=1e-4, atol=1e-6)
    gap.sum().backward()
    assert student.grad.isfinite().all()
    zero = torch.zeros(1, 2, 3, 3)
    assert energy_gap(zero, zero).item() == 1


def test_nothing_where_gradients_are_alike():
    gradient = random(4, 2, 3, 3).requires_grad_()
    value = KDIGALoss()(gradient, gradient.detach())
    value.backward()
    assert value.item() == 0 and (gradient.grad == 0).all()


@pytest.mark.parametrize('channels', [2, 3])
def test_gradient_against_finite_differences(channels):
    """Through the first derivative: the second is checked."""
    weight = random(3, 8, seed=1)
    teacher = random(4, channels, 2, 2, seed=2)
    labels = torch.tensor([0, 2, 1, 1])

    def value(features, weight):
        logits = (features.flatten(1) @ weight.t()).tanh()
        gradient = classification_gradient(
            logits, labels, features, create_graph=True)
        return KDIGALoss()(gradient, teacher)

    assert torch.autograd.gradcheck(
        value, (random(4, 2, 2, 2).requires_grad_(), weight.requires_grad_()))


def test_half_precision_is_widened():
    student, teacher = (
        random(2, 2, 1, 1, seed=seed).bfloat16() for seed in (0, 1))
    value = KDIGALoss()(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(
        (student.float() - teacher.float()).flatten(1).norm(dim=1).mean())


def test_no_samples():
    student = torch.zeros(0, 2, 7, 7, requires_grad=True)
    value = KDIGALoss()(student, torch.zeros(0, 2, 7, 7))
    value.backward()
    assert value.item() == 0 and student.grad is not None


@pytest.mark.parametrize('weight, error', [(-1, InvalidValueError),
                                           ('1', InvalidTypeError)])
def test_arguments(weight, error):
    with pytest.raises(error, match='`loss_weight` must be'):
        MODELS.build(dict(type='tcal_det.KDIGALoss', loss_weight=weight))
