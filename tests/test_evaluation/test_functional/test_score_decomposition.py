import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (binary_brier_score,
                                            binary_negative_log_likelihood)
from tcal_det.evaluation.functional.score_decomposition import (
    binned_brier_score_decomposition, brier_score_decomposition,
    detection_brier_score_decomposition, log_score_decomposition)
from tests.test_evaluation.test_functional.plain_samples import plain_samples

FRACTIONS = st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.7, 1.0]) | st.floats(0, 1)
SAMPLES = st.lists(
    st.tuples(FRACTIONS,
              st.sampled_from([0.0, 1.0]) | st.floats(0, 1)),
    min_size=1,
    max_size=30)
PARTS = ('score', 'miscalibration', 'discrimination', 'uncertainty')


def parts_of(decomposition):
    return [getattr(decomposition, part) for part in PARTS]


def test_corp_by_hand():
    parts = brier_score_decomposition([.1, .2, .3, .9], [0, 1, 0, 1])
    # Recalibrated: 0, .5, .5, 1, of Brier score .5 / 4; constant .5: .25.
    assert parts_of(parts) == pytest.approx([.1875, .0625, .125, .25])
    assert parts.curve.value.tolist() == [0, .5, 1]
    parts = log_score_decomposition([.1, .2, .3, .9], [0, 1, 0, 1])
    score = -(2 * math.log(.9) + math.log(.2) + math.log(.7)) / 4
    assert parts_of(parts) == pytest.approx(
        [score, score - math.log(2) / 2,
         math.log(2) / 2,
         math.log(2)])


# decompose() of model-diagnostics 1.5.0: miscalibration, discrimination,
# uncertainty and score, squared error and log loss.
MODEL_DIAGNOSTICS = {
    (1, 1): ((0.007705181218004675, 0.08314059268932633, 0.2496,
              0.1741645885286783), (0.025618345969087686, 0.19408914676962746,
                                    0.6923469670899614, 0.5238761662894216)),
    (2, 1): ((0.03993273830546862, 0.09547164104861078, 0.2211,
              0.16556109725685786), (0.12356881582561291, 0.252222950300854,
                                     0.6341786357122057, 0.5055245012369646)),
    (.5, .8):
    ((0.021324110460143375, 0.037406654101041104, 0.2491, 0.23301745635910223),
     (0.08118706192450109, 0.08275742165586508, 0.6913460990017393,
      0.6897757392703753)),
}


@pytest.mark.parametrize('case', MODEL_DIAGNOSTICS)
def test_corp_of_model_diagnostics(case):
    for function, expected in zip(
        (brier_score_decomposition, log_score_decomposition),
            MODEL_DIAGNOSTICS[case]):
        parts = parts_of(function(*plain_samples(*case)))
        assert parts[1:] + parts[:1] == pytest.approx(expected, abs=1e-14)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(SAMPLES)
def test_corp_adds_up_and_has_the_right_signs(samples):
    confidence, correct = np.array(samples).T
    for function in (brier_score_decomposition, log_score_decomposition):
        parts = function(confidence, correct)
        assert parts.score == pytest.approx(
            parts.miscalibration - parts.discrimination + parts.uncertainty,
            abs=1e-14)
        assert min(parts.miscalibration, parts.discrimination) >= -1e-14
    is_right = correct > .5
    assert brier_score_decomposition(confidence,
                                     is_right).score == pytest.approx(
                                         binary_brier_score(
                                             confidence, is_right),
                                         abs=1e-14)
    assert log_score_decomposition(confidence,
                                   is_right).score == pytest.approx(
                                       binary_negative_log_likelihood(
                                           confidence, is_right),
                                       abs=1e-13)


def test_recalibrated_confidences_have_no_miscalibration():
    confidence, correct = plain_samples(2, 1)
    curve = brier_score_decomposition(confidence, correct).curve
    recalibrated = np.empty_like(confidence)
    recalibrated[np.argsort(confidence)] = np.repeat(curve.value, curve.count)
    before = brier_score_decomposition(confidence, correct)
    after = brier_score_decomposition(recalibrated, correct)
    assert after.miscalibration == 0
    assert after.discrimination == pytest.approx(before.discrimination)


def test_only_the_order_decides_discrimination():
    confidence, correct = plain_samples(1, 1)
    assert brier_score_decomposition(
        confidence**3, correct).discrimination == brier_score_decomposition(
            confidence, correct).discrimination
    constant = brier_score_decomposition(np.full(400, .3), correct)
    assert constant.discrimination == pytest.approx(0, abs=1e-15)
    assert constant.miscalibration == pytest.approx((correct.mean() - .3)**2)


def test_binned_by_hand():
    parts = binned_brier_score_decomposition([.1, .3, .6, .8, 1.],
                                             [0, 1, 1, 1, 0], 2)
    # Bin means .2 and .8 against targets 1/2 and 2/3; base rate .6.
    assert parts.score == pytest.approx(.34)
    assert parts.reliability == pytest.approx(
        (2 * .3**2 + 3 * (.8 - 2 / 3)**2) / 5)
    assert parts.resolution == pytest.approx(
        (2 * .1**2 + 3 * (2 / 3 - .6)**2) / 5)
    assert parts.uncertainty == pytest.approx(.24)
    assert parts.within_bin_variance == pytest.approx(.02)
    assert parts.within_bin_covariance == pytest.approx(-.04)
    assert parts.generalized_resolution == pytest.approx(1 / 150 - .06)
    assert parts.bins.count.tolist() == [2, 3]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(SAMPLES, st.sampled_from([1, 2, 10, 37]),
       st.sampled_from(['left', 'right']))
def test_binned_adds_up(samples, num_bins, closed):
    confidence, correct = np.array(samples).T
    parts = binned_brier_score_decomposition(confidence, correct, num_bins,
                                             closed)
    assert parts.score == pytest.approx(
        np.mean((confidence - correct)**2), abs=1e-14)
    assert parts.score == pytest.approx(
        parts.reliability - parts.resolution + parts.uncertainty +
        parts.within_bin_variance - parts.within_bin_covariance,
        abs=1e-14)
    assert parts.score == pytest.approx(
        parts.reliability - parts.generalized_resolution + parts.uncertainty,
        abs=1e-14)


def test_bins_of_one_confidence_are_murphys():
    """Then the two classic decompositions agree, if targets rise."""
    confidence = np.repeat([.15, .45, .85], [4, 4, 8])
    correct = np.array([0] * 4 + [1] + [0] * 3 + [1] * 7 + [0])
    binned = binned_brier_score_decomposition(confidence, correct)
    assert binned.within_bin_variance == pytest.approx(0, abs=1e-30)
    assert binned.within_bin_covariance == pytest.approx(0, abs=1e-15)
    corp = brier_score_decomposition(confidence, correct)
    assert binned.reliability == pytest.approx(corp.miscalibration)
    assert binned.resolution == pytest.approx(corp.discrimination)


def test_saturated_confidences_stay_finite():
    parts = log_score_decomposition([0., 1, 1, 0], [1, 0, 1, 0])
    assert parts.score == pytest.approx(26 * math.log(2))
    assert parts.uncertainty == pytest.approx(math.log(2))


@pytest.mark.parametrize('function', [
    brier_score_decomposition, log_score_decomposition,
    binned_brier_score_decomposition
])
def test_no_samples_and_bad_samples(function):
    with pytest.warns(UserWarning, match='no samples'):
        nothing = function([], [])
    assert math.isnan(nothing.score) and math.isnan(nothing.uncertainty)
    with pytest.raises(InvalidValueError, match='`confidence` must be in'):
        function([1.5], [1])
    with pytest.raises(InvalidValueError, match='same length'):
        function([.5], [1, 0])
    form = function([.5, .6, .2], [1, 0, 0]).to_dict()
    assert set(json.loads(json.dumps(form))) >= {'score', 'uncertainty'}
    assert form['score'] == function([.5, .6, .2], [1, 0, 0]).score


def test_detections(few_matches):
    """Class 0: scores .9 and .2 right, .7 wrong; class 1: .3 wrong."""
    figures = detection_brier_score_decomposition(few_matches)
    expected = brier_score_decomposition([.9, .7, .2, .3], [1, 0, 1, 0])
    assert parts_of(figures.overall) == pytest.approx(parts_of(expected))
    # (.01 + .49 + .64) / 3; recalibrated .5, .5, 1
    assert parts_of(figures.per_class[0]) == pytest.approx(
        [.38, .38 - 1 / 6, 2 / 9 - 1 / 6, 2 / 9])
    assert parts_of(figures.per_class[1]) == pytest.approx([.09, .09, 0, 0])
    assert math.isnan(figures.per_class[2].score)
