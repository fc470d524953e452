import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.evaluation.functional.isotonic import isotonic_regression


def fitted(confidence, target):
    """Value at each sample."""
    fit = isotonic_regression(confidence, target)
    values = np.empty(len(confidence))
    values[np.argsort(confidence,
                      kind='stable')] = np.repeat(fit.value, fit.count)
    return values


def min_max(confidence, target):
    """The min-max formula: max over a <= x of min over b >= x of means."""
    values = []
    for x in confidence:
        values.append(
            max(
                min(target[(confidence >= a) & (confidence <= b)].mean()
                    for b in confidence[confidence >= x])
                for a in confidence[confidence <= x]))
    return np.array(values)


SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 0.8, 0.9, 1.0])
        | st.floats(0, 1),
        st.sampled_from([0.0, 1.0, 0.3])
        | st.floats(0, 1)),
    min_size=1,
    max_size=15)


def test_by_hand():
    # .35 to .45 have mean 1/3, less than 1/2 of .27 and .3: pooled to 2/5.
    confidence = np.array([.9, .8, .7, .6, .55, .5, .45, .4, .35, .3, .27, .2])
    target = np.array([1., 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0])
    fit = isotonic_regression(confidence, target)
    assert fit.value == pytest.approx([0, 2 / 5, 3 / 4, 1], abs=1e-15)
    assert fit.count.tolist() == [1, 5, 4, 2]
    assert fit.lower.tolist() == [.2, .27, .5, .8]
    assert fit.upper.tolist() == [.2, .45, .7, .9]


def test_knots_are_both_ends_of_each_block():
    fit = isotonic_regression(
        np.array([.1, .2, .2, .3, .9]), np.array([0., 1, 1, 0, 1]))
    confidence, value = fit.knots()
    assert confidence.tolist() == [.1, .2, .3, .9]
    assert value == pytest.approx([0, 2 / 3, 2 / 3, 1])


def test_equal_confidences_share_a_value():
    target = np.array([1., 0, 0, 1])
    assert fitted(np.full(4, .5), target).tolist() == [.5] * 4
    assert fitted(np.array([.5, .5, .6, .6]), target).tolist() == [.5] * 4


def test_equal_values_are_one_block():
    fit = isotonic_regression(np.array([.1, .2, .3]), np.array([1., 1, 1]))
    assert fit.count.tolist() == [3]


@settings(derandomize=True, deadline=None, max_examples=80)
@given(SAMPLES)
def test_min_max_formula(samples):
    confidence, target = np.array(samples).T
    assert fitted(confidence, target) == pytest.approx(
        min_max(confidence, target), abs=1e-12)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(SAMPLES)
def test_blocks_rise_and_knots_are_sorted(samples):
    confidence, target = np.array(samples).T
    fit = isotonic_regression(confidence, target)
    assert (np.diff(fit.value) > 0).all()
    assert (fit.lower[1:] > fit.upper[:-1]).all()
    knots, values = fit.knots()
    assert (np.diff(knots) > 0).all() and (np.diff(values) >= 0).all()
    assert fit.count.sum() == len(samples)


@pytest.mark.parametrize('case', ['typical', 'ties', 'reversed', 'one by one'])
def test_scikit_learn(case):
    rng = np.random.default_rng(3)
    confidence = rng.beta(.4, 2, 4000)
    target = (rng.random(4000) < confidence).astype(float)
    if case == 'ties':
        confidence = confidence.round(2)
    elif case == 'reversed':
        target = 1 - target
    elif case == 'one by one':
        # Each pooling makes the next one: not a matter of a few passes.
        confidence = np.sort(confidence)
        target = np.append(.5 + 1e-6 * np.arange(3999), 0)
    isotonic = pytest.importorskip('sklearn.isotonic')
    reference = isotonic.IsotonicRegression().fit(confidence, target)
    assert fitted(confidence, target) == pytest.approx(
        reference.predict(confidence), abs=1e-12)
    knots, values = isotonic_regression(confidence, target).knots()
    assert np.interp(confidence, knots, values) == pytest.approx(
        reference.predict(confidence), abs=1e-12)


def test_no_samples():
    fit = isotonic_regression(np.zeros(0), np.zeros(0))
    assert len(fit.value) == len(fit.count) == len(fit.knots()[0]) == 0


def test_json_form():
    fit = isotonic_regression(np.array([.1, .3, .3]), np.array([0., 1, 0]))
    assert json.loads(json.dumps(fit.to_dict())) == dict(
        lower=[.1, .3], upper=[.1, .3], value=[0, .5], count=[1, 2])
