"""Softmax and sigmoid logits of one another, by enumeration in float64."""
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcal_det.models.activation_bridges import (one_vs_rest_logits,
                                                with_background)

LOGITS = st.lists(
    st.floats(-40, 40, allow_subnormal=False), min_size=1, max_size=5)


@given(LOGITS.filter(lambda row: len(row) > 1))
def test_sigmoid_of_one_vs_rest_is_the_softmax(row):
    logits = one_vs_rest_logits(torch.tensor([row], dtype=torch.float64))
    total = math.fsum(math.exp(z) for z in row)
    for column, z in enumerate(row):
        others = math.fsum(
            math.exp(other) for k, other in enumerate(row) if k != column)
        # Both tails: the logarithm of p / (1 - p), not p alone.
        assert logits[0, column].item() == pytest.approx(
            math.log(math.exp(z) / others), abs=1e-10)
        assert logits[0, column].sigmoid().item() == pytest.approx(
            math.exp(z) / total, abs=1e-10)


@given(LOGITS)
def test_background_column_is_the_law_of_bernoullis_at_most_one_on(row):
    probs = [1 / (1 + math.exp(-z)) for z in row]
    off = [1 / (1 + math.exp(z)) for z in row]
    law = [0.0] * (len(row) + 1)
    for state in itertools.product([0, 1], repeat=len(row)):
        if sum(state) <= 1:
            which = state.index(1) if sum(state) else len(row)
            law[which] += math.prod(p if on else q
                                    for on, p, q in zip(state, probs, off))
    expected = [weight / math.fsum(law) for weight in law]
    logits = with_background(torch.tensor([row], dtype=torch.float64))
    assert logits.softmax(1)[0].tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    """A certain softmax has a finite logit, that float16 could not hold."""
    logits = one_vs_rest_logits(torch.tensor([[60., 0.]], dtype=dtype))
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[60., -60.]]


def test_a_masked_column_stays_impossible():
    logits = one_vs_rest_logits(torch.tensor([[0., -torch.inf, 0.]]))
    assert logits[0, 1] == -torch.inf
    assert logits[0, [0, 2]].tolist() == [0.0, 0.0]


def test_no_samples():
    assert one_vs_rest_logits(torch.zeros(0, 3)).shape == (0, 3)
    assert with_background(torch.zeros(0, 3)).shape == (0, 4)
