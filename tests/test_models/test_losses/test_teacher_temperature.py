"""Which losses a temperature of the teacher cannot change."""
import os.path as osp
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.models.calibrators import TemperatureScaling
from tcal_det.models.losses import IGDMLoss, LogitLoss
from tcal_det.registry import MODELS
from tests.test_models.test_losses.loss_cases import (LOSSES, SIGMOID,
                                                      make_loss, random_inputs)

# All of them; the others do change.
INVARIANT = {'ls'}
DOCS = osp.join(osp.dirname(__file__), '../../../docs/reference/methods.md')

temperatures = st.floats(
    -5, 5).filter(lambda power: abs(power) > .1).map(lambda power: 2.**power)


def value_and_gradient(name, seed, temperature):
    student, teacher, labels = random_inputs(seed=seed)
    calibrator = TemperatureScaling(
        temperature, activation='sigmoid' if name in SIGMOID else 'softmax')
    value = make_loss(name)(student, calibrator(teacher), labels=labels)
    return value.item(), torch.autograd.grad(value, student)[0]


def test_every_registered_logit_loss_is_looked_at():
    registered = {
        kind
        for kind in MODELS.module_dict.values()
        if isinstance(kind, type) and issubclass(kind, LogitLoss)
        and kind.__module__.startswith('tcal_det.')
    }
    # What IGDM is given are differences of logits.
    assert registered - {IGDMLoss} == {
        type(make_loss(name))
        for name in LOSSES
    }


@pytest.mark.parametrize('name', sorted(INVARIANT))
@settings(deadline=None)
@given(seed=st.integers(0, 2**31), temperature=temperatures)
def test_a_temperature_changes_nothing(name, seed, temperature):
    value, gradient = value_and_gradient(name, seed, 1.)
    other, other_gradient = value_and_gradient(name, seed, temperature)
    assert other == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-9, atol=1e-12)
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize('name', sorted(set(LOSSES) - INVARIANT))
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), temperature=temperatures)
def test_a_temperature_changes_the_others(name, seed, temperature):
    value, gradient = value_and_gradient(name, seed, 1.)
    other, other_gradient = value_and_gradient(name, seed, temperature)
    assert other != pytest.approx(value, rel=1e-6)
    difference = (other_gradient - gradient).norm()
    assert difference > 1e-4 * gradient.norm()


def test_the_documented_list_is_this_one():
    with open(DOCS, encoding='utf-8') as file:
        section = re.search(
            r'\n## What a temperature cannot change\n(.*?)\n## ', file.read(),
            re.DOTALL)[1]
    listed = re.search(r'\nNothing changes for (.*?):', section, re.DOTALL)[1]
    assert set(re.findall(r'`(\w+Loss)`', listed)) == {
        type(make_loss(name)).__name__
        for name in INVARIANT
    }
