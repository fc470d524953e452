"""Four states of a teacher, and a head that tells them apart."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses.pretraining_state_loss import (
    STATES, PretrainingStateLoss, pretraining_states)
from tcal_det.registry import MODELS


def test_the_four_states():
    probs = torch.tensor([[.7, .2, .1], [.9, .05, .05], [.7, .2, .1],
                          [.05, .05, .9]])
    states = pretraining_states(probs.log(), torch.tensor([1, 1, 0, 2]), .8)
    assert [STATES[state] for state in states] == [
        'wrong, unsure', 'wrong, sure', 'right, unsure', 'right, sure'
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9)),
        min_size=1,
        max_size=8).filter(
            lambda rows: all(len(set(row)) == 3 for row in rows)),
    st.integers(0, 2), st.sampled_from([0., .5, .8, 1.]))
def test_states_against_python(rows, label, threshold):
    states = pretraining_states(
        torch.tensor(rows, dtype=torch.float64),
        torch.full((len(rows), ), label), threshold)
    for row, state in zip(rows, states.tolist()):
        best = max(range(3), key=row.__getitem__)
        confidence = 1 / sum(math.exp(one - row[best]) for one in row)
        if abs(confidence - threshold) > 1e-9:
            assert state == 2 * (best == label) + (confidence > threshold)


def test_threshold_means_what_it_says():
    """Of a calibrated teacher's sure answers a share above it is right."""
    generator = torch.Generator().manual_seed(0)
    probs = (3 * torch.randn(20000, 4, generator=generator)).softmax(1)
    labels = torch.multinomial(probs, 1, generator=generator)[:, 0]
    for calibrated, logits in ((True, probs.log()), (False, 3 * probs.log())):
        states = pretraining_states(logits, labels, .8)
        sure, right = states % 2 == 1, states >= 2
        confidence = logits.softmax(1).amax(1)[sure].mean()
        share = right[sure].float().mean()
        assert (abs(share - confidence) < .01) == calibrated


def test_by_hand():
    """A head of zeros gives each state a quarter."""
    loss = PretrainingStateLoss(2, loss_weight=3.)
    torch.nn.init.zeros_(loss.head.weight)
    loss.head.bias.data = torch.tensor([.1, .2, .3, .4]).log()
    features = torch.ones(2, 2, requires_grad=True)
    logits = torch.tensor([[.9, .1], [.6, .4]]).log()
    # Right and sure, wrong and unsure.
    value = loss(features, logits, torch.tensor([0, 1]))
    expected = -3 * (math.log(.4) + math.log(.1)) / 2
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value = loss(features, logits, torch.tensor([0, 1]),
                 torch.tensor([2., 0.]), 4.)
    assert value.item() == pytest.approx(-3 * 2 * math.log(.4) / 4, rel=1e-6)


def test_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    loss = PretrainingStateLoss(3).double()
    features, logits = (
        torch.randn(5, 3, generator=generator, dtype=torch.float64)
        for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0, 1])
    parameters = [one.detach().requires_grad_() for one in loss.parameters()]

    def value(features, weight, bias):
        return torch.func.functional_call(loss, {
            'head.weight': weight,
            'head.bias': bias
        }, (features, logits, labels))

    assert torch.autograd.gradcheck(value,
                                    (features.requires_grad_(), *parameters))


def test_no_gradient_into_the_teacher_and_float32_in_autocast():
    loss = PretrainingStateLoss(3)
    features = torch.randn(5, 3).bfloat16().requires_grad_()
    teacher = torch.randn(5, 4, requires_grad=True)
    labels = torch.zeros(5, dtype=torch.long)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(features, teacher, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert teacher.grad is None and features.grad is not None
    assert value.item() == loss(features.float(), teacher, labels).item()


def test_no_samples():
    loss = PretrainingStateLoss(3)
    value = loss(
        torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    value.backward()
    assert value.item() == 0 and loss.head.weight.grad is not None


def test_features_of_another_layer():
    with pytest.raises(
            InvalidValueError,
            match=r'`in_features` must be .* \(4,\), but got 3'):
        PretrainingStateLoss(3)(torch.zeros(2, 4), torch.zeros(2, 3),
                                torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize('arguments, error, message', [
    (dict(), InvalidValueError, 'in_features'),
    (dict(in_features=0), InvalidValueError, '`in_features` must be >= 1'),
    (dict(in_features=2.5), InvalidTypeError, '`in_features` must be'),
    (dict(in_features=2, threshold=80), InvalidValueError,
     r'`threshold` must be in \[0, 1\]'),
    (dict(in_features=2, loss_weight=-1), InvalidValueError, '`loss_weight`'),
])
def test_arguments(arguments, error, message, distiller_cfg):
    cfg = distiller_cfg(
        losses=dict(loss_state=dict(type='PretrainingStateLoss', **arguments)))
    with pytest.raises(error, match=message):
        MODELS.build(cfg)
