import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from tcal_det.errors import UserError
from tcal_det.recalibration import (SCORE_MAPS, BetaMap, HistogramMap,
                                    IsotonicMap, PlattMap, TemperatureMap,
                                    score_map_from_dict)

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
    isotonic = pytest.importorskip('sklearn.isotonic')
    expected = isotonic.IsotonicRegression(
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
    assert (score_map_from_dict(form)(scores) == fitted(scores)).all()


@pytest.mark.parametrize('name', SCORE_MAPS)
def test_scores_are_not_changed(name):
    scores, targets = samples(lambda s: s**2, num=50)
    before = scores.copy()
    SCORE_MAPS[name].fit(scores, targets)(scores)
    assert (scores == before).all()


@pytest.mark.parametrize(
    'form, message',
    [
        (None, 'a score map must be .*got None'),
        ([1], 'a score map must be'),
        ({}, 'a score map must be'),
        (dict(type='spline'), "a score map must be .*'spline'"),
        (dict(type=['platt']), 'a score map must be'),
        (dict(type='platt',
              scale=1), r"must have the keys \['scale', 'bias'\]"),
        (dict(type='platt', scale=1, bias=0, more=1), "keys.*'more'"),
        ({
            'type': 'platt',
            'scale': 1,
            3: 4
        }, 'must have the keys'),
        (dict(type='temperature',
              temperature='warm'), '`temperature`.*number'),
        (dict(type='temperature', temperature=True), '`temperature`.*bool'),
        (dict(type='temperature', temperature=[2.0]), '`temperature`.*list'),
        (dict(type='temperature',
              temperature=0), r'`temperature`.*\(0, inf\)'),
        (dict(type='temperature', temperature=-1), '`temperature`.*-1'),
        (dict(type='temperature', temperature=10**400), '`temperature`'),
        (dict(type='temperature',
              temperature=float('nan')), '`temperature`.*nan'),
        (dict(type='platt', scale=1, bias=None), '`bias` must be a finite'),
        # Each of these looks right at 0, 0.5 and 1.
        (dict(type='platt', scale=-1, bias=0), '`scale`.*-1'),
        (dict(type='platt', scale=1, bias=float('inf')), '`bias`.*inf'),
        (dict(type='beta', a=-1, b=1, c=0), '`a`.*-1'),
        (dict(type='beta', a=1, b=0, c=0), '`b`.*0'),
        (dict(type='beta', a=1, b=1, c=False), '`c`.*bool'),
        (dict(type='isotonic', scores=[0, 0.2, 0.5, 1],
              values=[0, 7, 0.5, 1]), r'`values\[1\]`.*7'),
        (dict(
            type='isotonic', scores=[0, 0.2, 0.3, 1], values=[0, 0.9, 0.5, 1]),
         '`values` must be sorted.*0.5 after 0.9'),
        (dict(
            type='isotonic', scores=[0, 0.6, 0.5, 1], values=[0, 0.1, 0.5, 1]),
         '`scores` must be sorted.*0.5 after 0.6'),
        (dict(type='isotonic', scores=[0.5, 0.5],
              values=[0, 1]), '`scores` must be sorted.*0.5 after 0.5'),
        (dict(type='isotonic', scores=[0, 2], values=[0, 1
                                                      ]), r'`scores\[1\]`.*2'),
        (dict(type='isotonic', scores=[0, float('nan'), 1],
              values=[0, .5, 1]), r'`scores\[1\]`.*nan'),
        (dict(type='isotonic', scores=[0, 1], values=[0.5]), 'one number for'),
        (dict(type='isotonic', scores=[0, 1], values=[0, 2
                                                      ]), r'`values\[1\]`'),
        (dict(type='isotonic', scores=[0, 1], values=[0, None
                                                      ]), r'`values\[1\]`'),
        (dict(type='isotonic', scores=[0, 1],
              values=[False, True]), r'`values\[0\]`.*bool'),
        (dict(type='isotonic', scores='low', values='high'), '`scores`.*list'),
        (dict(type='isotonic', scores=[], values=[]), 'at least one'),
        (dict(type='histogram', values=[]), 'at least one'),
        (dict(type='histogram', values=0.5), 'a list'),
        (dict(type='histogram', values=[0, -0.1, 1, 1
                                        ]), r'`values\[1\]`.*-0.1'),
        (dict(type='histogram', values=[0, [0.5], 1]), r'`values\[1\]`.*list'),
    ])
def test_another_form(form, message):
    with pytest.raises(UserError, match=message) as caught:
        score_map_from_dict(form)
    assert len(str(caught.value)) < 300


def finite(low, high):
    return st.floats(
        low, high, allow_nan=False, allow_infinity=False, allow_subnormal=True)


POSITIVE = finite(0, 1.7e308).filter(bool)
FORMS = st.one_of(
    st.fixed_dictionaries(
        dict(type=st.just('temperature'), temperature=POSITIVE)),
    st.fixed_dictionaries(
        dict(
            type=st.just('platt'),
            scale=POSITIVE,
            bias=finite(-1.7e308, 1.7e308))),
    st.fixed_dictionaries(
        dict(
            type=st.just('beta'),
            a=POSITIVE,
            b=POSITIVE,
            c=finite(-1.7e308, 1.7e308))),
    st.lists(
        st.tuples(finite(0, 1), finite(0, 1)),
        min_size=1,
        unique_by=lambda knot: knot[0]).map(lambda knots: dict(
            type='isotonic',
            scores=sorted(score for score, _ in knots),
            values=sorted(value for _, value in knots))),
    st.lists(
        st.one_of(st.none(), finite(0, 1)),
        min_size=1).map(lambda values: dict(type='histogram', values=values)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(form=FORMS, scores=st.lists(finite(0, 1), max_size=20))
@pytest.mark.filterwarnings('error')
def test_every_accepted_map_is_one_of_the_unit_interval(form, scores):
    """And all but the histogram never turn the order round."""
    score_map = score_map_from_dict(form)
    knots = form.get('scores', [])
    scores = np.sort([*scores, *knots, *np.linspace(0, 1, 1001)])
    calibrated = score_map(scores)
    assert np.isfinite(calibrated).all()
    assert calibrated.min() >= 0 and calibrated.max() <= 1
    if form['type'] != 'histogram':
        assert (np.diff(calibrated) >= -1e-15).all()


def corruptions(form):
    """The form with one thing in it that no JSON writer of ours writes."""
    wrong = ('0.5', True, None, float('nan'), float('inf'), -1, [[0.5]], {},
             10**400)
    for key in form:
        yield {other: form[other] for other in form if other != key}
        yield {
            **{
                other: form[other]
                for other in form if other != key
            }, 'x': 1
        }
        for value in wrong:
            yield dict(form, **{key: value})
            if isinstance(form[key], list):
                yield dict(form, **{key: [*form[key][:-1], value]})
                yield dict(form, **{key: [*form[key], value]})


@pytest.mark.parametrize('name', SCORE_MAPS)
def test_a_corrupted_map_fails_or_is_the_same(name):
    scores, targets = samples(lambda s: s**2, num=50)
    fitted = SCORE_MAPS[name].fit(scores, targets)
    grid = np.linspace(0, 1, 101)
    accepted = 0
    for form in corruptions(fitted.to_json_dict()):
        try:
            score_map = score_map_from_dict(form)
        except UserError as error:
            assert '\n' not in str(error)
            continue
        accepted += 1
        if name == 'platt':
            # A bias of -1 instead of another one is as right as that.
            assert form == dict(fitted.to_json_dict(), bias=-1)
        elif name == 'beta':
            assert form == dict(fitted.to_json_dict(), c=-1)
        else:
            # A bin without samples.
            assert name == 'histogram' and None in form['values']
        assert ((score_map(grid) >= 0) & (score_map(grid) <= 1)).all()
    assert accepted == dict(platt=1, beta=1, histogram=2).get(name, 0)


def test_numpys_numbers_become_plain_ones():
    form = PlattMap(np.float32(0.5), np.int64(1)).to_json_dict()
    assert form == dict(type='platt', scale=0.5, bias=1)
    assert {type(form['scale']), type(form['bias'])} == {float}
    values = HistogramMap([np.float32(0.5), None]).to_json_dict()['values']
    assert values == [0.5, None] and type(values[0]) is float
