"""Responses to a perturbation: the formula, by hand and by a linear model."""
import math

import pytest
import torch
import torch.nn.functional as F

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import IGDMLoss
from tcal_det.models.losses.igdm_loss import response
from tcal_det.registry import MODELS


def log(*probs):
    return torch.tensor([probs], dtype=torch.float64).log()


def test_by_hand():
    """Teacher's response (3/4, 1/4), student's (1/2, 1/2)."""
    teacher, student = log(.75, .25), log(.5, .5)
    expected = .75 * math.log(1.5) + .25 * math.log(.5)
    value = IGDMLoss()(student, teacher).item()
    assert value == pytest.approx(expected, rel=1e-12)
    # One class, Bernoulli (3/4) against (1/2).
    value = IGDMLoss(activation='sigmoid')(torch.zeros(1, 1),
                                           torch.tensor([[math.log(3)]
                                                         ])).item()
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_against_torch(activation):
    generator = torch.Generator().manual_seed(0)
    plus, minus, teacher_plus, teacher_minus = torch.randn(
        4, 6, 5, generator=generator, dtype=torch.float64)
    value = IGDMLoss(activation=activation)(response(plus, minus),
                                            response(teacher_plus,
                                                     teacher_minus))
    student, teacher = plus - minus, teacher_plus - teacher_minus
    if activation == 'softmax':
        expected = F.kl_div(
            student.log_softmax(1), teacher.softmax(1), reduction='batchmean')
    else:
        target = teacher.sigmoid()
        expected = (
            F.binary_cross_entropy(student.sigmoid(), target, reduction='sum')
            - F.binary_cross_entropy(target, target, reduction='sum')) / 6
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)


def test_response_of_a_linear_model_is_its_gradient():
    """2 d'W, whatever the input: the input gradients are what is matched."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    inputs = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    shift = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        response((inputs + shift) @ weight, (inputs - shift) @ weight),
        2 * shift @ weight)


def test_nothing_where_the_responses_are_alike():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    value = IGDMLoss()(logits, logits.detach())
    assert value.item() == pytest.approx(0, abs=1e-12)
    (gradient, ) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('samples', ['all', 'foreground', 'balanced'])
def test_gradient_against_finite_differences(activation, samples):
    generator = torch.Generator().manual_seed(0)
    plus, minus, teacher = torch.randn(
        3, 4, 3, generator=generator, dtype=torch.float64)
    plus.requires_grad_(), minus.requires_grad_()
    loss = IGDMLoss(activation=activation, samples=samples)
    labels = torch.tensor([0, 2, 1, 3])
    assert torch.autograd.gradcheck(
        lambda *logits: loss(response(*logits), teacher, labels=labels),
        (plus, minus))


def test_class_that_is_masked_says_nothing():
    plus = torch.tensor([[1., 2., -torch.inf]], requires_grad=True)
    minus = torch.tensor([[0., 2., -torch.inf]])
    value = IGDMLoss()(response(plus, minus), response(minus, minus))
    value.backward()
    expected = IGDMLoss()(torch.tensor([[1., 0.]]), torch.zeros(1, 2))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.isfinite(plus.grad).all()


@pytest.mark.parametrize('arguments, error, message', [
    (dict(epsilon=0), InvalidValueError, '`epsilon` must be in'),
    (dict(epsilon='8/255'), InvalidTypeError, '`epsilon` must be'),
    (dict(activation='relu'), InvalidValueError,
     "`activation` must be 'softmax' or 'sigmoid'"),
    (dict(samples='teacher'), InvalidValueError,
     "`samples` must be 'all', 'foreground' or 'balanced'"),
    (dict(loss_weight=-1), InvalidValueError, '`loss_weight` must be'),
])
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(dict(type='tcal_det.IGDMLoss', **arguments))
