import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (binary_brier_score,
                                            binary_negative_log_likelihood,
                                            brier_score,
                                            negative_log_likelihood)


def test_by_hand():
    probs, labels = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [0, 1]
    # .3^2 + .2^2 + .1^2 = .14 and .1^2 + .7^2 + .6^2 = .86
    assert brier_score(probs, labels) == pytest.approx(0.5)
    assert negative_log_likelihood(probs, labels) == pytest.approx(
        -(math.log(0.7) + math.log(0.3)) / 2)
    assert binary_brier_score([0.8, 0.4], [1, 0]) == pytest.approx(0.1)
    assert binary_negative_log_likelihood([0.8, 0.4], [1, 0]) == \
        pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_two_classes_agree_with_one_score(pairs):
    scores, positive = (np.array(part) for part in zip(*pairs))
    probs = np.stack((1 - scores, scores), axis=1)
    labels = positive.astype(int)
    assert negative_log_likelihood(probs, labels) == pytest.approx(
        binary_negative_log_likelihood(scores, positive), abs=1e-12)
    assert brier_score(probs, labels) == pytest.approx(
        2 * binary_brier_score(scores, positive), abs=1e-12)


def test_saturated_scores_stay_finite_unless_asked():
    value = binary_negative_log_likelihood([1.0, 0.0], [0, 1])
    assert value == pytest.approx(52 * math.log(2))  # -log of 2^-52
    assert binary_negative_log_likelihood([1.0], [0], smallest=0) == math.inf
    assert binary_negative_log_likelihood([1.0, 0.0], [1, 0]) == 0


def test_no_samples_give_nan_and_a_warning():
    for rule in (binary_brier_score, binary_negative_log_likelihood):
        with pytest.warns(UserWarning, match='no samples'):
            assert math.isnan(rule([], []))
    for rule in (brier_score, negative_log_likelihood):
        with pytest.warns(UserWarning, match='no samples'):
            assert math.isnan(rule(np.zeros((0, 2)), []))


def test_bad_input_is_named():
    with pytest.raises(InvalidValueError, match='rows that add up to 1'):
        brier_score([[0.9, 0.9]], [0])
    # Below 1 as above, and only beyond what float16 rows are off by.
    for off, row in ((0.02, 'row 1'), (-0.02, 'row 1')):
        with pytest.raises(InvalidValueError, match=row):
            brier_score([[0.5, 0.5], [0.5, 0.5 + off]], [0, 0])
    for off in (0.009, -0.009):
        assert brier_score([[0.5, 0.5 + off]],
                           [0]) == pytest.approx(0.5**2 + (0.5 + off)**2)
    with pytest.raises(InvalidValueError, match='`scores` must be in'):
        binary_brier_score([np.nan], [0])
    with pytest.raises(InvalidValueError, match='only 0 and 1'):
        binary_brier_score([0.5], [0.5])
