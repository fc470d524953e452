import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom, norm

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (calibration_error,
                                            detection_calibration_error)
from tcal_det.evaluation.functional.debiased_calibration_error import (
    DebiasedCalibrationError, debiased_calibration_error,
    detection_debiased_calibration_error)
from tests.test_evaluation.test_functional.plain_samples import plain_samples


def test_by_hand():
    error = debiased_calibration_error([.7, .7, .7, .2, .4], [1, 1, 0, 0, 1],
                                       num_bins=2)
    # Gaps 1/30 of three samples and 1/5 of two.
    plain = (3 * (1 / 30)**2 + 2 * .2**2) / 5
    noise = (3 * (2 / 9) / 2 + 2 * (1 / 4) / 1) / 5
    assert error.plain_squared == pytest.approx(plain)
    assert error.squared == pytest.approx(plain - noise)
    assert error.l2 == 0
    assert error.plain_ece == pytest.approx(.1)
    assert error.coverage == 1


# uncertainty-calibration 0.1.4 with 15 bins of equal width:
# unbiased_square_ce, unbiased_l2_ce, normal_debiased_ce(power=1,
# resamples=100000) after numpy.random.seed(0), plugin_ce(power=1).
UNCERTAINTY_CALIBRATION = {
    (1, 1):
    (-0.003437064087335854, 0, 0.014949829325193412, 0.045623441396508715),
    (2, 1):
    (0.03134879818007255, 0.1770559182294468, 0.1663625643838684, 0.17),
    (.5, .8): (0.010250467084733974, 0.10124459039738358, 0.09660907818235631,
               0.11440149625935166),
}


@pytest.mark.parametrize('case', UNCERTAINTY_CALIBRATION)
def test_uncertainty_calibration(case):
    squared, l2, ece, plain = UNCERTAINTY_CALIBRATION[case]
    error = debiased_calibration_error(*plain_samples(*case), num_bins=15)
    assert error.squared == pytest.approx(squared, abs=1e-13)
    assert error.l2 == pytest.approx(l2, abs=1e-13)
    assert error.plain_ece == pytest.approx(plain, abs=1e-13)
    # Theirs is simulated.
    assert error.ece == pytest.approx(ece, abs=1e-4)


@pytest.mark.parametrize('precision', [0, .03, .3, .8, 1])
@pytest.mark.parametrize('count', [2, 3, 10])
def test_squared_error_is_unbiased(count, precision):
    """Its mean over every outcome of one bin, by the binomial law."""
    expected = 0
    for right in range(count + 1):
        error = debiased_calibration_error([.3] * count,
                                           [1] * right + [0] * (count - right))
        expected += binom.pmf(right, count, precision) * error.squared
    assert expected == pytest.approx((.3 - precision)**2, abs=1e-12)


def test_ece_has_less_bias():
    """The largest bias over all precisions, by the binomial law."""
    count, plain_bias, bias = 30, [], []
    errors = [
        debiased_calibration_error([.3] * count,
                                   [1] * right + [0] * (count - right))
        for right in range(count + 1)
    ]
    for precision in np.linspace(0, 1, 41):
        weight = binom.pmf(np.arange(count + 1), count, precision)
        truth = abs(.3 - precision)
        plain_bias.append(weight @ [one.plain_ece for one in errors] - truth)
        bias.append(weight @ [one.ece for one in errors] - truth)
    assert max(plain_bias) > .06
    assert np.abs(bias).max() < .04
    assert np.abs(bias).mean() < .6 * np.abs(plain_bias).mean()


def test_ece_correction_is_the_mean_of_a_normal():
    error = debiased_calibration_error([.5] * 20, [1] * 12 + [0] * 8)
    deviation = math.sqrt(.6 * .4 / 20)
    mean, _ = quad(
        lambda x: abs(x) * norm.pdf(x, .1, deviation), -2, 2, points=[0])
    assert error.ece == pytest.approx(.2 - mean, abs=1e-8)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([1, 3, 10]))
def test_plain_figures_are_those_of_ece(samples, num_bins):
    confidence, correct = (np.array(part) for part in zip(*samples))
    error = debiased_calibration_error(confidence, correct, num_bins)
    plain = calibration_error(confidence, correct, num_bins).bins.summarize(2)
    assert error.plain_ece == pytest.approx(
        plain.error if plain.num_used else np.nan, abs=1e-14, nan_ok=True)
    assert error.coverage == pytest.approx(plain.coverage, abs=1e-14)
    if plain.num_used:
        assert error.squared <= error.plain_squared
        assert error.ece <= error.plain_ece + 1e-15


def test_single_samples_have_no_error_but_count():
    error = debiased_calibration_error([.1, .9, .9], [1, 1, 1], num_bins=2)
    assert error.plain_ece == error.ece == pytest.approx(2 / 3 * .1)
    assert error.squared == pytest.approx(2 / 3 * .01)
    assert error.coverage == pytest.approx(2 / 3)


def test_bins_of_single_samples_alone_are_undefined():
    error = debiased_calibration_error([.1, .9], [0, 1], num_bins=2)
    assert error.coverage == 0
    for value in (error.squared, error.l2, error.ece, error.plain_ece):
        assert math.isnan(value)


def test_closed_side_arrives():
    right, left = (
        debiased_calibration_error([.5, .5, .9, .9], [1, 0, 1, 1], 2, closed)
        for closed in ('right', 'left'))
    assert right.bins.count.tolist() == [2, 2]
    assert left.bins.count.tolist() == [0, 4]


def test_no_samples_and_bad_samples():
    with pytest.warns(UserWarning, match='no samples'):
        nothing = debiased_calibration_error([], [])
    assert math.isnan(nothing.squared) and math.isnan(nothing.ece)
    with pytest.raises(InvalidValueError, match='only 0 and 1'):
        debiased_calibration_error([.5], [.5])
    with pytest.raises(InvalidValueError, match='same length'):
        debiased_calibration_error([.5], [1, 0])
    with pytest.raises(InvalidValueError, match='`num_bins`'):
        debiased_calibration_error([.5], [1], 0)


def test_detections_use_the_bins_of_d_ece(few_matches):
    figures = detection_debiased_calibration_error(few_matches, 2, 'left')
    d_ece = detection_calibration_error(few_matches, 2, 'left')
    for error, plain in zip((figures.overall, *figures.per_class),
                            (d_ece, *d_ece.per_class)):
        expected = DebiasedCalibrationError.from_bins(plain.bins)
        np.testing.assert_equal(error.to_dict(), expected.to_dict())
    # .2 and .3 against 1/2; .9 and .7 against 1/2: less 1/4 of noise each.
    assert figures.overall.squared == pytest.approx((.25**2 + .3**2) / 2 - .25)
    assert math.isnan(figures.per_class[2].l2)
    json.dumps(figures.to_dict())
