import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.score_maps import (SCORE_MAPS, BetaMap, HistogramMap,
                                            IsotonicMap, PlattMap,
                                            TemperatureMap, score_map_from)

MONOTONE = [name for name in SCORE_MAPS if name != 'histogram']


def samples(probability, num=20000, seed=0):
    """Scores, and targets that come true with a known probability."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, num)
    return scores, (rng.uniform(size=num) < probability(scores)).astype(float)


def test_temperature_is_found():
    found = TemperatureMap.fit(*samples(lambda s: expit(logit(s) / 2)))
    assert found.temperature == pytest.approx(2, rel=0.05)


def test_platt_is_found():
    found = PlattMap.fit(*samples(lambda s: expit(0.7 * logit(s) - 1)))
    assert (found.scale, found.bias) == pytest.approx((0.7, -1), abs=0.06)


def test_beta_is_found():
    found = BetaMap.fit(
        *samples(lambda s: expit(1.5 * np.log(s) - 0.5 * np.log(1 - s) + 0.3)))
    assert (found.a, found.b, found.c) == pytest.approx((1.5, 0.5, 0.3),
                                                        abs=0.12)


def test_isotonic_is_scikit_learns_to_one_in_a_thousand():
    scores, targets = samples(lambda s: s**2, num=500)
    expected = IsotonicRegression(
        y_min=0, y_max=1).fit(scores, targets).predict(scores)
    found = IsotonicMap.fit(scores, targets)(scores)
    assert np.abs(found - expected).max() <= 1e-3


def test_histogram_by_hand():
    found = HistogramMap.fit(
        np.array([0.01, 0.02, 0.99, 0.99]), np.array([0.0, 1.0, 1.0, 0.2]))
    assert found(np.array([0.05, 0.5, 1.0])) == pytest.approx([0.5, 0.5, 0.6])
    # Nothing was seen near 0.4: it stays.
    assert found(np.array([0.4])) == pytest.approx([0.4])


@pytest.mark.parametrize('name', ['platt', 'beta', 'isotonic', 'histogram'])
def test_mean_becomes_the_mean_target(name):
    """Also of fractional targets, as precision times IoU has them."""
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, 3000)
    targets = rng.uniform(0, 1, 3000) * scores
    calibrated = SCORE_MAPS[name].fit(scores, targets)(scores)
    assert calibrated.mean() == pytest.approx(targets.mean(), abs=6e-4)


@pytest.mark.parametrize('name', MONOTONE)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1, width=32), st.sampled_from([0.0, 0.3, 0.8, 1.0])),
        min_size=1,
        max_size=40))
def test_order_is_kept_and_nothing_leaves_the_interval(name, pairs):
    scores, targets = np.array(pairs).T
    fitted = SCORE_MAPS[name].fit(scores, targets)
    grid = np.unique(np.concatenate((scores, np.linspace(0, 1, 101))))
    grid = grid[(grid == 0) | (grid == 1) | ((grid > 1e-9) & (grid < 1))]
    calibrated = fitted(grid)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    # Distinct scores stay distinct, save where float64 runs out of numbers.
    is_saturated = (calibrated[1:] > 1 - 1e-12) | (calibrated[:-1] < 1e-300)
    assert (np.diff(calibrated)[~is_saturated] > 0).all()
    assert (np.diff(calibrated) >= 0).all()


@pytest.mark.parametrize('name', SCORE_MAPS)
def test_json_form(name):
    scores, targets = samples(lambda s: s**2, num=50)
    fitted = SCORE_MAPS[name].fit(scores, targets)
    form = fitted.to_json_dict()
    assert form['type'] == name
    assert (score_map_from(form)(scores) == fitted(scores)).all()


@pytest.mark.parametrize('name', SCORE_MAPS)
def test_scores_are_not_changed(name):
    scores, targets = samples(lambda s: s**2, num=50)
    before = scores.copy()
    SCORE_MAPS[name].fit(scores, targets)(scores)
    assert (scores == before).all()


@pytest.mark.parametrize('form', [
    None,
    {},
    dict(type='spline'),
    dict(type='platt', scale=1),
    dict(type='platt', scale=1, bias=0, more=1),
    dict(type='temperature', temperature='warm'),
    dict(type='temperature', temperature=0),
    dict(type='temperature', temperature=10**400),
    dict(type='platt', scale=1, bias=None),
    dict(type='isotonic', scores=[0, 1], values=[0.5]),
    dict(type='isotonic', scores=[0, 1], values=[0, 2]),
    dict(type='isotonic', scores='low', values='high'),
    dict(type='histogram', values=[]),
])
def test_another_form(form):
    with pytest.raises(InvalidValueError, match='a score map must be'):
        score_map_from(form)


def test_without_scikit_learn(monkeypatch):
    real_import = builtins.__import__

    def no_sklearn(name, *args, **kwargs):
        if name.startswith('sklearn'):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', no_sklearn)
    with pytest.raises(InvalidValueError, match='pip install scikit-learn'):
        IsotonicMap.fit(np.array([0.5]), np.array([1.0]))
