"""ATS and ISATS: a temperature for the target, and one for the rest."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import rankdata

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import TemperatureScaling
from tcal_det.models.losses import ATSLoss, ISATSLoss, LogitKLDivLoss
from tcal_det.models.losses.ats_loss import asymmetric_logits
from tcal_det.models.losses.isats_loss import (non_target_variance,
                                               widest_asymmetric_logits)
from tests.test_models.test_losses.loss_cases import random_inputs

INF = math.inf


def soft_labels(logits, labels, target_temperature, other_temperature):
    """The formula of the paper, a sample at a time, for centred logits."""
    result = []
    for row, label in zip(logits.numpy(), labels.tolist()):
        temperatures = np.full(len(row), other_temperature, float)
        temperatures[label] = target_temperature
        result.append(softmax((row - row.mean()) / temperatures))
    return np.array(result)


def expected_loss(student, targets):
    return rel_entr(targets, softmax(student.detach().numpy(),
                                     axis=1)).sum(axis=1).mean()


def test_ats_by_hand():
    # Centred (6, 0, -6); 6 / 3 and 0, -6 over 2: softmax of (2, 0, -3).
    teacher = torch.tensor([[8., 2., -4.]]).double()
    student = torch.zeros(1, 3).double()
    total = math.exp(2) + 1 + math.exp(-3)
    entropy = math.log(total) - (2 * math.exp(2) - 3 * math.exp(-3)) / total
    loss = ATSLoss(target_temperature=3, other_temperature=2)
    assert loss(
        student, teacher, labels=torch.tensor(
            [0])).item() == pytest.approx(math.log(3) - entropy)


@pytest.mark.parametrize('temperatures', [(4., 2.), (1., 3.), (2., 2.)])
def test_ats_against_the_paper(temperatures):
    student, teacher, labels = random_inputs(8, 6)
    targets = soft_labels(teacher, labels, *temperatures)
    loss = ATSLoss(*temperatures)(student, teacher, labels=labels)
    assert loss.item() == pytest.approx(
        expected_loss(student, targets), rel=1e-12)
    # The official code has a cross-entropy, with the same gradient.
    cross_entropy = -(torch.from_numpy(targets) *
                      student.log_softmax(dim=1)).sum(dim=1).mean()
    gradients = [
        torch.autograd.grad(value, student)[0]
        for value in (loss, cross_entropy)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('temperature', [1., 1.5, 4.])
def test_equal_temperatures_are_tcal(temperature):
    student, teacher, labels = random_inputs()
    tcal = LogitKLDivLoss()(student, TemperatureScaling(temperature)(teacher))
    for loss in (ATSLoss(temperature,
                         temperature), ISATSLoss(temperature, [temperature])):
        assert loss(
            student, teacher, labels=labels).item() == pytest.approx(
                tcal.item(), rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(.5, 8), st.floats(.5, 8))
def test_order_of_the_other_classes_stays(seed, target, other):
    _, teacher, labels = random_inputs(seed=seed)
    scaled = asymmetric_logits(teacher, labels, target, other)
    for row, before, label in zip(scaled, teacher, labels.tolist()):
        kept = [column for column in range(5) if column != label]
        assert row[kept].argsort().tolist() == before[kept].argsort().tolist()


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(.5, 8), st.floats(1.1, 4))
def test_a_higher_target_temperature_takes_from_a_sure_target(
        seed, temperature, ratio):
    _, teacher, labels = random_inputs(seed=seed)
    labels = teacher.argmax(dim=1)
    low, high = (
        asymmetric_logits(teacher, labels, one, 2.).softmax(1)[torch.arange(6),
                                                               labels]
        for one in (temperature, ratio * temperature))
    assert (high < low).all()


def test_variance_is_that_of_numpy_and_splits_at_the_target():
    """The paper's product of (1 - p_y)^2 and the others' own variance."""
    _, teacher, labels = random_inputs()
    probs = softmax(teacher.numpy(), axis=1)
    others = [
        np.delete(row, label) for row, label in zip(probs, labels.tolist())
    ]
    variance = non_target_variance(teacher, labels).tolist()
    assert variance == pytest.approx([np.var(one) for one in others])
    assert variance == pytest.approx(
        [one.sum()**2 * np.var(one / one.sum()) for one in others])


def test_variance_counts_no_masked_class():
    logits = torch.tensor([[.6, .3, .1, 0.]]).double().log()
    assert logits[0, 3] == -INF
    for label, others in ((0, [.3, .1]), (2, [.6, .3]), (3, [.6, .3, .1])):
        assert non_target_variance(logits, torch.tensor(
            [label])).item() == pytest.approx(np.var(others))


def test_isats_against_all_candidates():
    candidates = (.5, 1., 1.5, 1.75)
    student, teacher, labels = random_inputs(60, 6)
    # Targets of every rank.
    labels[:30] = teacher[:30].argmax(dim=1)
    targets, chosen = [], []
    for row in range(60):
        soft = [
            soft_labels(teacher[row:row + 1], labels[row:row + 1], 2., one)[0]
            for one in (2., *candidates)
        ]
        ranks = rankdata(teacher[row])
        variances = [
            np.var(np.delete(one, labels[row])) if
            (rankdata(one) == ranks).all() else -1 for one in soft
        ]
        chosen.append(int(np.argmax(variances)))
        targets.append(soft[chosen[-1]])
    # Every candidate is the best of some.
    assert set(chosen) == {0, 1, 2, 3, 4}
    loss = ISATSLoss(2., candidates)(student, teacher, labels=labels)
    assert loss.item() == pytest.approx(
        expected_loss(student, np.array(targets)), rel=1e-12)
    # Nor does their order matter.
    again = ISATSLoss(2., candidates[::-1])(student, teacher, labels=labels)
    assert again.item() == loss.item()


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_isats_keeps_the_order_of_all_classes(seed):
    _, teacher, labels = random_inputs(20, 6, seed=seed)
    widest = widest_asymmetric_logits(teacher, labels, 4., (.5, 1., 2., 8.))
    assert torch.equal(widest.argsort(dim=1), teacher.argsort(dim=1))
    # And it has at least the variance of one temperature.
    variance = non_target_variance(teacher / 4, labels)
    assert (non_target_variance(widest, labels) >= variance - 1e-12).all()


def test_isats_gives_sure_samples_a_lower_temperature():
    # Centred already; 4 / 4 = 1 leaves room for 1 / 2, not for 3 / 2.
    teacher = torch.tensor([[4., 1., -1., -4.], [4., 3., -3., -4.]])
    labels = torch.tensor([0, 0])
    widest = widest_asymmetric_logits(teacher, labels, 4., (2., ))
    assert widest.tolist() == [[1., .5, -.5, -2.], [1., .75, -.75, -1.]]


def test_masked_classes_have_no_part_in_the_mean():
    teacher = torch.tensor([[8., -INF, 2., -4.]])
    assert asymmetric_logits(teacher, torch.tensor([0]), 3.,
                             2.).tolist() == [[2., -INF, 0., -3.]]
    # Nor is a masked target anything but masked.
    assert asymmetric_logits(teacher, torch.tensor([1]), 3.,
                             2.).tolist() == [[3., -INF, 0., -3.]]


@pytest.mark.parametrize('loss, arguments, error, message', [
    (ATSLoss, dict(target_temperature=0), InvalidValueError,
     '`target_temperature`.*0'),
    (ATSLoss, dict(other_temperature=-1), InvalidValueError,
     '`other_temperature`.*-1'),
    (ISATSLoss, dict(target_temperature='4'), InvalidTypeError,
     '`target_temperature`'),
    (ISATSLoss, dict(other_temperatures=2.), InvalidTypeError,
     '`other_temperatures` must be a list or tuple'),
    (ISATSLoss, dict(other_temperatures=[]), InvalidValueError,
     '`other_temperatures` must have at least one'),
    (ISATSLoss, dict(other_temperatures=[2., 0.]), InvalidValueError,
     '`other_temperatures`.*0'),
])
def test_bad_arguments_are_named(loss, arguments, error, message):
    with pytest.raises(error, match=message):
        loss(**arguments)
