"""KD scaled to the gradient of TCal."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.study.equal_gradient import (EqualGradientKDLoss,
                                             root_mean_square_gradient)
from tcal_det.models.losses import LogitKLDivLoss

TEMPERATURES = st.sampled_from([0.5, 1.0, 1.5, 4.0])


def logits(seed, scale=3.0, shape=(7, 5)):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def gradient_of(loss, student, teacher):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, teacher), student)[0]


def rms(gradient):
    """Of samples that are averaged: their own gradients."""
    return (gradient * len(gradient)).square().mean().sqrt()


@settings(deadline=None, max_examples=20)
@given(temperature=TEMPERATURES, seed=st.integers(0, 100))
def test_closed_form_is_what_autograd_finds_for_kd(temperature, seed):
    student, teacher = logits(seed), logits(seed + 1000)
    found = gradient_of(LogitKLDivLoss(temperature), student, teacher)
    expected = root_mean_square_gradient(student, teacher, temperature,
                                         temperature)
    torch.testing.assert_close(rms(found), expected)


@settings(deadline=None, max_examples=20)
@given(temperature=TEMPERATURES, seed=st.integers(0, 100))
def test_closed_form_is_what_autograd_finds_for_tcal(temperature, seed):
    student, teacher = logits(seed), logits(seed + 1000)
    found = gradient_of(LogitKLDivLoss(), student, teacher / temperature)
    expected = root_mean_square_gradient(student, teacher, 1.0, temperature)
    torch.testing.assert_close(rms(found), expected)


def test_first_step_pulls_as_hard_as_the_reference():
    student, teacher = logits(0), logits(1)
    own = gradient_of(EqualGradientKDLoss(4.0, 1.5), student, teacher)
    reference = gradient_of(LogitKLDivLoss(), student, teacher / 1.5)
    torch.testing.assert_close(rms(own), rms(reference), rtol=1e-6, atol=0)
    # Equally hard, elsewhere to.
    assert not torch.allclose(own, reference, rtol=0.1)


def test_scale_follows_a_running_mean_of_both_gradients():
    loss = EqualGradientKDLoss(momentum=0.75)
    batches = [(logits(seed), logits(seed + 1)) for seed in (0, 10, 20)]
    means = None
    for student, teacher in batches:
        now = torch.stack([
            root_mean_square_gradient(student, teacher, 4.0, 4.0),
            root_mean_square_gradient(student, teacher, 1.0, 1.5)
        ])
        means = now if means is None else 0.75 * means + 0.25 * now
        found = loss(student, teacher)
    expected = LogitKLDivLoss(4.0)(*batches[-1]) * means[1] / means[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_weight_multiplies():
    student, teacher = logits(0), logits(1)
    once = EqualGradientKDLoss()(student, teacher)
    torch.testing.assert_close(
        EqualGradientKDLoss(loss_weight=16.0)(student, teacher), 16 * once)


def test_evaluation_leaves_the_running_means():
    loss = EqualGradientKDLoss()
    loss(logits(0), logits(1))
    before = loss.mean_gradients.clone()
    loss.eval()(logits(2), logits(3))
    assert torch.equal(loss.mean_gradients, before)
    assert set(loss.state_dict()) == {'mean_gradients'}


def test_no_samples_and_a_perfect_student():
    loss = EqualGradientKDLoss()
    empty = torch.zeros(0, 5, requires_grad=True)
    assert loss(empty, torch.zeros(0, 5)).item() == 0
    assert loss(logits(0), logits(0)).item() == pytest.approx(0, abs=1e-12)
