"""Standard scores of both sides, and what is left of a temperature."""
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import LogitStandardizationLoss, logit_kl_div
from tcal_det.models.losses.logit_standardization_loss import standardized
from tests.test_models.test_losses.loss_cases import random_inputs


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    # Mean 1, variance (1 + 1 + 4) / 3 = 2.
    low, high = -1 / math.sqrt(2), math.sqrt(2)
    assert standardized(rows(
        [0, 0, 3])).tolist() == [pytest.approx([low, low, high])]
    # (-1, -1, 2) / sqrt 2 against (2, -1, -1) / sqrt 2 at T = 2.
    total = math.exp(high / 2) + 2 * math.exp(low / 2)
    of_high, of_low = math.exp(high / 2) / total, math.exp(low / 2) / total
    divergence = (of_high - of_low) * math.log(of_high / of_low)
    loss = LogitStandardizationLoss(temperature=2)
    assert loss(rows([0, 0, 3]),
                rows([3, 0, 0])).item() == pytest.approx(4 * divergence)


@pytest.mark.parametrize('temperature', [1., 2., 3.])
def test_against_scipy(temperature):
    student, teacher, _ = random_inputs(8, 6)
    s, t = (
        softmax(zscore(logits.numpy(), axis=1) / temperature, axis=1)
        for logits in (student.detach(), teacher))
    expected = temperature**2 * rel_entr(t, s).sum(axis=1).mean()
    loss = LogitStandardizationLoss(temperature)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=2,
             max_size=12).filter(lambda row: np.std(row) > 1e-2),
    st.floats(.01, 100), st.floats(-50, 50))
@example([0., 0., 0., 1.], .011, 44.)
def test_standard_scores_are_those_of_any_scale_and_offset(row, scale, offset):
    scores = standardized(rows(row), smallest=1.)
    assert scores.mean().item() == pytest.approx(0, abs=1e-9)
    assert scores.square().mean().item() == pytest.approx(1, rel=1e-9)
    # The bound of the paper.
    assert scores.max().item() <= math.sqrt(len(row) - 1) * (1 + 1e-9)
    assert (scores[0, rows(row)[0].argsort()].diff() >= 0).all()
    moved = scale * rows(row) + offset
    # Below, the scores decrease, as documented.
    assume(moved.std(unbiased=False) > 1.01e-4 * moved.abs().max())
    assert standardized(moved).tolist() == [
        pytest.approx(scores[0].tolist(), abs=1e-6)
    ]


def test_documented_bound_of_the_confidence():
    one = torch.zeros(1, 81).double()
    one[0, 3] = 5
    confidence = (standardized(one) / 2).softmax(dim=1).max().item()
    assert round(confidence, 2) == .54


def test_student_of_another_scale_has_reached_the_teacher():
    _, teacher, _ = random_inputs()
    scale = torch.tensor([.1, .5, 1., 2., 9., 30.]).double()[:, None]
    student = (scale * teacher - 7).requires_grad_()
    loss = LogitStandardizationLoss()(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize('temperature', [1e-25, 1e8, 1e30])
def test_teacher_of_any_temperature(temperature):
    """As far as float32 has numbers for its logits."""
    student, teacher, _ = random_inputs()
    student, teacher = student.detach().float(), teacher.float()
    expected = LogitStandardizationLoss()(student, teacher)
    torch.testing.assert_close(
        LogitStandardizationLoss()(student, teacher / temperature), expected)


def test_gradient_has_no_part_along_the_logits():
    """Euler's theorem: the loss is homogeneous of degree 0."""
    student, teacher, _ = random_inputs()
    LogitStandardizationLoss()(student, teacher).backward()
    assert student.grad.abs().max() > 1e-3
    along = (student.grad * student.detach()).sum(dim=1)
    assert along.abs().max() < 1e-12
    assert student.grad.sum(dim=1).abs().max() < 1e-12
    smaller = (student.detach() / 10).requires_grad_()
    LogitStandardizationLoss()(smaller, teacher).backward()
    torch.testing.assert_close(smaller.grad, 10 * student.grad)


@pytest.mark.parametrize('level', [0., 1e-3, 7.])
def test_student_that_prefers_nothing(level):
    _, teacher, _ = random_inputs()
    student = torch.full((6, 5), level, requires_grad=True)
    loss = LogitStandardizationLoss()(student, teacher.float())
    loss.backward()
    expected = logit_kl_div(
        torch.zeros(6, 5), standardized(teacher.float()), 2.).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # Finite in half precision, and it leads towards the teacher's choice.
    assert 0 < student.grad.abs().max() < 6e4
    assert torch.equal((-student.grad).argmax(dim=1), teacher.argmax(dim=1))


def test_teacher_that_prefers_nothing():
    """A temperature makes 0.1 of 0.1, not noise of it."""
    student, _, _ = random_inputs()
    for level in (0., .1, 1e3):
        teacher = torch.full((6, 5), level).float() / 3
        assert (standardized(teacher).abs() < 1e-2).all()
        loss = LogitStandardizationLoss()(student, teacher)
        assert loss.item() == pytest.approx(
            LogitStandardizationLoss()(student, torch.zeros(6, 5)).item(),
            rel=1e-2)


def test_two_classes_leave_the_sign():
    student = rows([1, 2], [9, -3]).requires_grad_()
    loss = LogitStandardizationLoss(temperature=1)
    same = loss(student, rows([5, 5.1], [1, 0]))
    assert same.item() == pytest.approx(0, abs=1e-12)
    other = loss(student, rows([5, 4.9], [0, 1]))
    # softmax((1, -1)) and its mirror image: (p - q) log(p / q) = 2 (p - q).
    assert other.item() == pytest.approx(2 * math.tanh(1))
    other.backward()
    assert student.grad.abs().max() < 1e-12


def test_masked_classes_have_no_part_in_mean_and_deviation():
    scores = standardized(rows([0, -math.inf, 0, 3]))
    expected = standardized(rows([0, 0, 3]))
    assert scores[0, 1] == -math.inf
    assert scores[:,
                  [0, 2, 3]].tolist() == [pytest.approx(expected[0].tolist())]
    alone = standardized(rows([-math.inf, 4, -math.inf]))
    assert alone.tolist() == [[-math.inf, 0, -math.inf]]


def test_bad_temperature_is_named():
    with pytest.raises(InvalidValueError, match='`temperature`.*0'):
        LogitStandardizationLoss(temperature=0)
    with pytest.raises(InvalidTypeError, match='`temperature`.*None'):
        LogitStandardizationLoss(temperature=None)
