"""Intervals by hand, and how often they hold the truth."""
import math

import numpy as np
import pytest

from tcal_det.evaluation.functional import (FALSE_POSITIVE, TRUE_POSITIVE,
                                            DetectionMatches)
from tcal_det.evaluation.image_resampling import draw_multiplicities
from tcal_det.evaluation.intervals import Interval, PairedDifference
from tcal_det.evaluation.weighted_figures import WeightedScores

NAN = math.nan


def test_interval_is_that_of_resamples_without_their_bias():
    # 0, .01, ..., 1 have quantiles .025 and .975 and mean .5.
    resamples = np.random.default_rng(0).permutation(np.arange(101) / 100)
    one = Interval.from_resamples(0.6, resamples)
    assert (one.low, one.high) == pytest.approx((.125, 1.075))
    assert (one.value, one.num_defined) == (0.6, 101)
    assert one.bias == pytest.approx(-.1)
    wide = Interval.from_resamples(0.6, resamples, confidence=0.8, highest=1)
    assert (wide.low, wide.high) == pytest.approx((.2, 1))
    assert Interval.from_resamples(0.4, resamples).low == 0
    assert one.to_dict() == dict(
        value=0.6, low=one.low, high=one.high, num_defined=101, bias=one.bias)


def test_undefined_resamples_are_left_out():
    one = Interval.from_resamples(0.5, np.array([.4, NAN, .6, NAN]))
    assert one.num_defined == 2
    assert (one.low, one.high) == pytest.approx((.405, .595))
    for value, resamples in ((NAN, [.4, .6]), (.5, [NAN]), (.5, [])):
        one = Interval.from_resamples(value, np.array(resamples))
        assert math.isnan(one.low) and math.isnan(one.high)


def test_difference_by_hand():
    a = np.array([.5, .5, .5, .5])
    b = np.array([.7, .6, .6, NAN])
    # Differences .2, .1, .1 of mean .1333 are moved to .1.
    one = PairedDifference.from_resamples(.5, .6, a, b, confidence=.5)
    assert one.difference == pytest.approx(.1) and one.num_defined == 3
    moved = np.array([.2, .1, .1]) - 1 / 30
    assert (one.low,
            one.high) == pytest.approx(tuple(np.quantile(moved, (.25, .75))))
    assert one.excludes_zero
    # None of three at or below 0: 2 * (1 + 0) / (1 + 3).
    assert one.p_value == pytest.approx(.5)


@pytest.mark.parametrize('sign', [1, -1])
def test_p_value_counts_the_smaller_tail(sign):
    # 3 of 99 lie on the other side of 0; the mean is the difference.
    shifts = np.concatenate((np.full(3, -1.0), np.full(96, 1.0)))
    difference = shifts.mean()
    one = PairedDifference.from_resamples(0.0, sign * difference, np.zeros(99),
                                          sign * shifts)
    assert one.p_value == pytest.approx(2 * (1 + 3) / 100)
    assert sign * one.difference > 0
    assert not one.excludes_zero


def test_rounding_is_no_difference():
    a = np.linspace(.2, .4, 100)
    one = PairedDifference.from_resamples(.3, .3 + 1e-16, a, a + 1e-16)
    assert (one.difference, one.low, one.high) == (0, 0, 0)
    assert one.p_value == 1 and not one.excludes_zero


@pytest.mark.parametrize('a, b', [(NAN, .5), (.5, NAN), (NAN, NAN)])
def test_difference_from_an_undefined_figure(a, b):
    one = PairedDifference.from_resamples(a, b, np.full(9, .1), np.full(9, .2))
    assert math.isnan(one.difference) and math.isnan(one.low)
    assert math.isnan(one.p_value) and not one.excludes_zero


NUM_IMAGES, PER_IMAGE = 60, 20
SCORES = np.arange(0.15, 0.9, 0.1)
PRECISION = 0.8 * SCORES - 0.05


def draw_matches(rng):
    """Scores that are too high, in images that are easy or hard.

    Of each score the share of true positives is PRECISION on average, 1.6
    times it in easy images and 0.4 times in hard ones.
    """
    num_detections = NUM_IMAGES * PER_IMAGE
    level = rng.integers(0, len(SCORES), num_detections)
    image_index = np.repeat(np.arange(NUM_IMAGES), PER_IMAGE)
    ease = rng.choice([0.4, 1.6], NUM_IMAGES)[image_index]
    is_tp = rng.random(num_detections) < ease * PRECISION[level]
    nothing = np.zeros(num_detections, np.int64)
    matches = DetectionMatches(
        iou_thr=0.5,
        scores=SCORES[level],
        class_index=nothing,
        boxes=np.zeros((num_detections, 4)),
        image_sizes=np.zeros((num_detections, 2)),
        status=np.where(is_tp, TRUE_POSITIVE, FALSE_POSITIVE),
        iou=is_tp * 1.0,
        object_index=nothing,
        num_objects=np.array([num_detections]))
    return matches, image_index


def coverage(image_of, num_sets=250):
    """How often 95 % intervals hold the true Brier score and D-ECE."""
    truth = dict(
        brier=np.mean(SCORES**2 - 2 * SCORES * PRECISION + PRECISION),
        d_ece=np.mean(SCORES - PRECISION))
    held = dict.fromkeys(truth, 0)
    rng = np.random.default_rng(11)
    draws = draw_multiplicities(NUM_IMAGES, 0, 0, 500)
    for _ in range(num_sets):
        matches, image_index = draw_matches(rng)
        image_index = image_of(rng, image_index)
        figures = WeightedScores(matches, image_index, NUM_IMAGES, 10, 'right')
        resampled = figures(draws)
        values = figures(np.ones((NUM_IMAGES, 1)))
        for key, true in truth.items():
            one = Interval.from_resamples(
                float(values[key][0]), resampled[key])
            held[key] += one.low <= true <= one.high
    return {key: count / num_sets for key, count in held.items()}


def test_intervals_hold_the_truth_as_often_as_they_say():
    # 3.5 standard deviations of 250 draws: 0.048.
    for share in coverage(lambda rng, index: index).values():
        assert share == pytest.approx(0.95, abs=0.048)


def test_detections_of_an_image_are_not_independent():
    """The same, were detections the unit instead of images."""
    shares = coverage(lambda rng, index: rng.permutation(index))
    assert max(shares.values()) < 0.9
