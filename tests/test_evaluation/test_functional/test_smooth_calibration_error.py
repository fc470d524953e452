import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.smooth_calibration_error import (
    detection_smooth_calibration_error, smooth_calibration_error)
from tests.test_evaluation.test_functional.plain_samples import plain_samples

SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1),
        st.sampled_from([0.0, 1.0]) | st.floats(0, 1)),
    min_size=1,
    max_size=30)


def fixed_point(smece_of):
    return brentq(lambda s: smece_of(s) - s, 1e-3, 1, xtol=1e-10)


def brute_force(confidence, correct):
    """The definition: a normal density for each mirror image, on a grid."""
    confidence, correct = np.array(confidence), np.array(correct)
    shifts = 2 * np.arange(-3, 4)[:, None]
    images = np.concatenate((shifts + confidence, shifts - confidence))
    residual = np.broadcast_to(confidence - correct, images.shape)
    t = (np.arange(1000) + .5) / 1000
    off_squared = (t[:, None] - images.ravel())**2

    def smece_of(bandwidth):
        density = np.exp(-off_squared / (2 * bandwidth**2)) / (
            bandwidth * np.sqrt(2 * np.pi))
        smoothed = density @ residual.ravel() / len(confidence)
        return np.abs(smoothed).mean()

    return fixed_point(smece_of)


@pytest.mark.parametrize('case', [(1, 1), (2, 1), (.5, .8)])
def test_brute_force(case):
    confidence, correct = (part[:15] for part in plain_samples(*case))
    assert smooth_calibration_error(confidence,
                                    correct).smece == pytest.approx(
                                        brute_force(confidence, correct),
                                        rel=2e-5)


def test_brute_force_at_the_ends():
    confidence, correct = [0, 0, .02, .05, .97, 1, 1], [1, 0, 0, 0, 1, 1, 0]
    error = smooth_calibration_error(confidence, correct)
    assert error.smece == pytest.approx(
        brute_force(confidence, correct), rel=2e-5)


# relplot 1.0.3: smECE, on 200 points and with a bisection of 10 steps.
@pytest.mark.parametrize('case, expected', [((1, 1), 0.03355607931559963),
                                            ((2, 1), 0.1697185656311047),
                                            ((.5, .8), 0.09920712401202829)])
def test_relplot(case, expected):
    error = smooth_calibration_error(*plain_samples(*case))
    assert error.smece == pytest.approx(expected, abs=4e-4)


def test_two_opposite_samples_in_closed_form():
    """Residuals a at a and -a at 1 - a cancel more with the bandwidth."""
    place = .2
    images = np.array(
        [2 * k + sign * place for k in range(-9, 10) for sign in (-1, 1)])

    def smece_of(bandwidth):
        left_half = (norm.cdf((.5 - images) / bandwidth) - norm.cdf(
            (0 - images) / bandwidth)).sum()
        return place * (2 * left_half - 1)

    error = smooth_calibration_error([place, 1 - place], [0, 1])
    assert error.smece == pytest.approx(fixed_point(smece_of), rel=1e-5)
    assert error.over == pytest.approx(error.under)


def test_small_bandwidth_in_closed_form():
    """Two residuals of .004, .003 apart: finer than the first grids."""
    error = smooth_calibration_error([.5, .503], [.496, .507])
    expected = fixed_point(lambda s: .004 * (2 * norm.cdf(.0015 / s) - 1))
    assert expected < .0025
    assert error.smece == pytest.approx(expected, rel=1e-4)
    assert error.bandwidth == pytest.approx(expected, rel=1e-4)


def test_one_sign_is_the_mean_residual():
    error = smooth_calibration_error([.9, .4, .6], [0, .1, .6])
    assert error.smece == error.over == pytest.approx(.4)
    assert error.under == pytest.approx(0, abs=1e-15)
    error = smooth_calibration_error([0], [1])
    assert error.smece == error.under == error.bandwidth == pytest.approx(1)


def test_perfect_confidences_have_no_error():
    assert smooth_calibration_error([0, 1, .5], [0, 1, .5]).smece == 0
    # Opposite residuals at one place cancel.
    assert smooth_calibration_error([.5, .5], [0, 1]).smece == pytest.approx(
        0, abs=1e-12)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(SAMPLES)
def test_bounds_and_parts(samples):
    confidence, correct = np.array(samples).T
    residual = confidence - correct
    error = smooth_calibration_error(confidence, correct)
    assert error.smece == error.over + error.under
    assert error.over - error.under == pytest.approx(
        residual.mean(), abs=1e-10)
    assert abs(residual.mean()) - 1e-10 <= error.smece
    assert error.smece <= np.abs(residual).mean() + 1e-10
    assert error.bandwidth == pytest.approx(error.smece, abs=3.1e-5)
    mirrored = smooth_calibration_error(1 - confidence, 1 - correct)
    assert (mirrored.over, mirrored.under) == pytest.approx(
        (error.under, error.over), abs=1e-7)


def test_continuous_where_bins_jump():
    confidence, correct = np.array([.1, .1, .5]), [0, 1, 1]
    moved = confidence + [1e-9, -1e-9, 0]
    assert smooth_calibration_error(moved, correct).smece == pytest.approx(
        smooth_calibration_error(confidence, correct).smece, abs=1e-7)


def test_no_samples_and_bad_samples():
    with pytest.warns(UserWarning, match='no samples'):
        nothing = smooth_calibration_error([], [])
    assert math.isnan(nothing.smece) and nothing.num_samples == 0
    with pytest.raises(InvalidValueError, match='`correct` must be in'):
        smooth_calibration_error([.5], [np.nan])
    with pytest.raises(InvalidValueError, match='same length'):
        smooth_calibration_error([.5], [1, 0])


def test_detections(few_matches):
    figures = detection_smooth_calibration_error(few_matches)
    for figure, samples in ((figures.overall, ([.9, .7, .2, .3], [1, 0, 1,
                                                                  0])),
                            (figures.per_class[0], ([.9, .7, .2], [1, 0, 1]))):
        assert figure.to_dict() == pytest.approx(
            smooth_calibration_error(*samples).to_dict(), rel=1e-12)
    assert figures.per_class[1].smece == pytest.approx(.3)
    assert math.isnan(figures.per_class[2].smece)
    form = json.loads(json.dumps(figures.to_dict()))
    assert form['overall']['smece'] == figures.overall.smece
    assert len(form['per_class']) == 3


def test_no_detection_is_nan_with_a_warning(few_matches):
    with pytest.warns(UserWarning, match='no detection is counted, so smECE'):
        figures = detection_smooth_calibration_error(few_matches.above(1.))
    assert math.isnan(figures.overall.smece)
