"""Quality focal distillation: by hand, against plain formulas and mmdet."""
import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses.gfocal_loss import quality_focal_loss_tensor_target
from scipy.special import expit, xlogy

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import (LogitBinaryKLDivLoss, QualityFocalKDLoss,
                                    quality_focal_kd)
from tests.test_models.test_losses.loss_cases import random_inputs

BETAS = [0., .5, 1., 1.5, 2., 3.]
INF = math.inf


def plain(student, teacher, beta):
    """The formula, differentiated by autograd."""
    probs, targets = student.sigmoid(), teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy(probs, targets, reduction='none')
    return ((targets - probs).abs()**beta * cross_entropy).sum(dim=1)


def loss_and_gradient(student, teacher, beta):
    student = student.detach().clone().requires_grad_()
    per_sample = quality_focal_kd(student, teacher, beta)
    per_sample.sum().backward()
    return per_sample.detach(), student.grad


def test_by_hand():
    teacher = torch.tensor([[.75, .5], [.2, .9]], dtype=torch.float64).logit()
    student = torch.tensor([[.5, .5], [.7, .4]], dtype=torch.float64).logit()
    # In the first row the second class agrees.
    first = .25 * math.log(2)
    second = .5 * -(.2 * math.log(.7) + .8 * math.log(.3)) + .5 * -(
        .9 * math.log(.4) + .1 * math.log(.6))
    assert quality_focal_kd(student,
                            teacher).tolist() == pytest.approx([first, second])
    loss = QualityFocalKDLoss()
    assert loss(student, teacher).item() == pytest.approx((first + second) / 2)
    # As published: summed, over the number of positives.
    assert loss(
        student, teacher, avg_factor=3.).item() == pytest.approx(
            (first + second) / 3)


def test_gradient_by_hand():
    # p_s = 1/2, p_t = 3/4, d = -1/4, H = log 2, p_s (1 - p_s) = 1/4.
    student = torch.zeros(1, 1, dtype=torch.float64)
    teacher = torch.full((1, 1), math.log(3), dtype=torch.float64)
    _, gradient = loss_and_gradient(student, teacher, 1.)
    assert gradient.item() == pytest.approx(-1 / 16 - math.log(2) / 4)
    _, gradient = loss_and_gradient(student, teacher, 2.)
    assert gradient.item() == pytest.approx(-1 / 64 - math.log(2) / 8)


@pytest.mark.parametrize('beta', BETAS)
def test_against_autograd_of_the_plain_formula(beta):
    student, teacher, _ = random_inputs(samples=50)
    expected = plain(student, teacher, beta)
    expected_gradient, = torch.autograd.grad(expected.sum(), student)
    per_sample, gradient = loss_and_gradient(student, teacher, beta)
    assert torch.allclose(per_sample, expected.detach(), rtol=1e-10)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-8)


@pytest.mark.parametrize('beta', BETAS)
def test_against_finite_differences(beta):
    student, teacher, _ = random_inputs()
    assert torch.autograd.gradcheck(
        lambda logits: quality_focal_kd(logits, teacher, beta), (student, ))


@pytest.mark.parametrize('beta', [1., 2.])
def test_against_quality_focal_loss_of_mmdet(beta):
    student, teacher, _ = random_inputs(samples=30)
    expected = quality_focal_loss_tensor_target(
        student,
        teacher.sigmoid(),
        beta=beta,
        activated=False,
        reduction='none')
    expected_gradient, = torch.autograd.grad(expected.sum(), student)
    per_sample, gradient = loss_and_gradient(student, teacher, beta)
    assert torch.allclose(per_sample, expected.detach(), rtol=1e-10)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-8)


def test_beta_of_0_is_binary_cross_entropy():
    """Binary KL has the same gradient: they differ by an entropy."""
    student, teacher, _ = random_inputs()
    per_sample, gradient = loss_and_gradient(student, teacher, 0.)
    expected = F.binary_cross_entropy_with_logits(
        student, teacher.sigmoid(), reduction='none').sum(dim=1)
    assert torch.allclose(per_sample, expected.detach(), rtol=1e-12)
    LogitBinaryKLDivLoss()(student, teacher, avg_factor=1.).backward()
    assert torch.allclose(gradient, student.grad, rtol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('beta', BETAS[1:])
def test_agreement_has_no_loss_and_no_gradient(beta, dtype):
    logits = torch.tensor([[0., 3., -50., 50., -INF, INF, 1e30, -1e30]],
                          dtype=dtype)
    per_sample, gradient = loss_and_gradient(logits, logits, beta)
    assert per_sample.item() == 0
    assert (gradient == 0).all()


def test_certainty_shared_has_no_cross_entropy():
    """Without a factor, too, 0 times the infinite logarithm is 0."""
    logits = torch.tensor([[-INF, INF, 1e30, -1e30]])
    per_sample, gradient = loss_and_gradient(logits, logits, 0.)
    assert per_sample.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('beta', [.01, .5, 1., 2., 30.])
def test_almost_agreement_has_a_finite_gradient(beta, dtype):
    """One step of the number format apart, over the whole range."""
    logits = torch.linspace(-110, 110, 2001, dtype=dtype)[:, None]
    neighbour = torch.nextafter(logits, torch.full_like(logits, INF))
    for student, teacher in [(logits, neighbour), (neighbour, logits)]:
        per_sample, gradient = loss_and_gradient(student, teacher, beta)
        assert per_sample.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize('beta', BETAS)
def test_finite_logits_are_finite(beta):
    extremes = [0., 15., 90., 105., 1e4, 1e30]
    extremes = torch.tensor(extremes + [-value for value in extremes])
    student, teacher = torch.cartesian_prod(extremes, extremes).split(1, dim=1)
    per_sample, gradient = loss_and_gradient(student, teacher, beta)
    assert per_sample.isfinite().all() and (per_sample >= 0).all()
    assert gradient.isfinite().all()
    # The wrong sign of the largest logits, against scipy's binary terms.
    s, t = expit(student.double().numpy()), expit(teacher.double().numpy())
    is_moderate = student.abs().squeeze(1) < 20
    expected = abs(s - t)**beta * -(xlogy(t, s) + xlogy(1 - t, 1 - s))
    assert per_sample[is_moderate].tolist() == pytest.approx(
        expected[is_moderate.numpy(), 0].tolist(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize('beta', BETAS)
def test_teacher_that_masks_a_class(beta):
    """Its target is 0: p_s^beta times -log(1 - p_s)."""
    student, _, _ = random_inputs()
    teacher = torch.full((6, 5), -INF).double()
    per_sample, gradient = loss_and_gradient(student, teacher, beta)
    probs = student.detach().sigmoid()
    expected = (-(probs**beta) * (1 - probs).log()).sum(dim=1)
    assert torch.allclose(per_sample, expected, rtol=1e-10)
    assert gradient.isfinite().all() and (gradient > 0).all()


@pytest.mark.parametrize('beta', BETAS)
def test_student_that_masks_a_class_alone(beta):
    student = torch.tensor([[-INF, 1.]])
    teacher = torch.tensor([[-1., 1.]])
    per_sample, gradient = loss_and_gradient(student, teacher, beta)
    assert per_sample.item() == INF
    assert gradient.isfinite().all()
    # Of a teacher that is so sure that the power underflows it is 0.
    per_sample, gradient = loss_and_gradient(student, torch.tensor([[-80.,
                                                                     1.]]), 3.)
    assert per_sample.item() == 0 and gradient.isfinite().all()


def test_agreeing_background_adds_next_to_nothing():
    """10,000 priors on which both are sure, beside one in dispute."""
    student = torch.full((10001, 1), -6.)
    teacher = torch.full((10001, 1), -6.2)
    student[0], teacher[0] = -1., 2.
    per_sample = quality_focal_kd(student, teacher)
    assert per_sample[1:].sum() < .2 * per_sample[0]
    # Which plain cross-entropy does not have.
    per_sample = quality_focal_kd(student, teacher, beta=0)
    assert per_sample[1:].sum() > 50 * per_sample[0]


def test_bad_beta_is_named():
    with pytest.raises(InvalidValueError, match='`beta`.*-1'):
        QualityFocalKDLoss(beta=-1)
    with pytest.raises(InvalidTypeError, match='`beta`.*str'):
        QualityFocalKDLoss(beta='1')
