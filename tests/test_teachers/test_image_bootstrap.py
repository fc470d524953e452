"""Resampled sums equal resampled samples."""
import numpy as np
import pytest
from scipy.special import expit, softmax

from tcal_det.evaluation.functional import (adaptive_calibration_error,
                                            calibration_error, top_label)
from tcal_det.models.calibrators import PlattScaling, TemperatureScaling
from tcal_det.teachers.image_bootstrap import (Estimate, draw_images,
                                               resampled_ace, resampled_ece,
                                               resampled_mean, resampled_platt,
                                               resampled_sum_ratio,
                                               resampled_temperature)


def make_samples(num_images=30, rois_per_image=20, sharpness=2.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (num_images * rois_per_image, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    image_ids = rng.integers(0, num_images, len(labels))
    return (logits * sharpness).astype(np.float32), labels, image_ids


def rows_of(draw, image_ids):
    """The samples of one resample, each as often as its image was drawn."""
    return np.repeat(np.arange(len(image_ids)), draw[image_ids].astype(int))


def test_draws_are_whole_images():
    draws = draw_images(7, 50, seed=3)
    assert draws.shape == (50, 7)
    assert (draws.sum(axis=1) == 7).all() and (draws == draws.round()).all()
    assert (draws == draw_images(7, 50, seed=3)).all()
    assert (draws != draw_images(7, 50, seed=4)).any()


def test_ece_equals_that_of_the_drawn_samples():
    logits, labels, image_ids = make_samples()
    confidence, correct = top_label(softmax(logits, axis=1), labels)
    draws = draw_images(30, 20, seed=0)
    resampled = np.transpose(
        resampled_ece(confidence, correct, image_ids, draws, 15))
    for draw, figures in zip(draws, resampled):
        rows = rows_of(draw, image_ids)
        error = calibration_error(confidence[rows], correct[rows], 15)
        assert figures == pytest.approx((error.ece, error.over, error.under))


def test_ace_with_each_image_once_is_that_of_all():
    logits, labels, image_ids = make_samples()
    probs = softmax(logits.astype(np.float64), axis=1)
    once = np.ones((1, 30))
    whole = adaptive_calibration_error(probs, labels, 15).ace
    assert resampled_ace(probs, labels, image_ids, once,
                         15) == pytest.approx([whole])


def test_ace_is_close_to_that_of_the_drawn_samples():
    logits, labels, image_ids = make_samples(200)
    probs = softmax(logits.astype(np.float64), axis=1)
    draws = draw_images(200, 30, seed=0)
    exact = []
    for draw in draws:
        rows = rows_of(draw, image_ids)
        exact.append(adaptive_calibration_error(probs[rows], labels[rows]).ace)
    fast = resampled_ace(probs, labels, image_ids, draws, 15)
    assert np.abs(fast - exact).max() < 0.1 * np.mean(exact)
    assert fast.std() == pytest.approx(np.std(exact), rel=.2)


def test_temperature_is_close_to_that_of_the_drawn_samples():
    logits, labels, image_ids = make_samples(200)
    fitted = TemperatureScaling().fit(logits, labels).temperature
    draws = draw_images(200, 12, seed=0)
    fast = resampled_temperature(logits, labels, fitted, image_ids, draws)
    exact = []
    for draw in draws:
        rows = rows_of(draw, image_ids)
        exact.append(TemperatureScaling().fit(logits[rows],
                                              labels[rows]).temperature)
    assert np.std(exact) > .03
    assert fast == pytest.approx(exact, abs=.15 * np.std(exact))
    # Where nothing is resampled nothing moves.
    once = np.ones((1, 200))
    assert resampled_temperature(logits, labels, fitted, image_ids,
                                 once) == pytest.approx([fitted])


def test_platt_is_close_to_that_of_the_drawn_samples():
    rng = np.random.default_rng(0)
    true = rng.normal(-1, 1.5, 4000)
    targets = (rng.random(4000) < expit(true)).astype(np.float64)
    logits, image_ids = 2 * true + 1, rng.integers(0, 200, 4000)
    fitted = PlattScaling().fit(logits[:, None], targets[:, None])
    draws = draw_images(200, 12, seed=0)
    fast = resampled_platt(logits, targets, fitted.scale, fitted.bias,
                           image_ids, draws)
    ratio = resampled_sum_ratio(expit(logits), targets, image_ids, draws)
    exact = []
    for index, draw in enumerate(draws):
        rows = rows_of(draw, image_ids)
        one = PlattScaling().fit(logits[rows, None], targets[rows, None])
        exact.append((one.scale, one.bias))
        assert ratio[index] == pytest.approx(
            expit(logits[rows]).sum() / targets[rows].sum())
    for values, expected in zip(fast, np.transpose(exact)):
        assert np.std(expected) > .01
        assert values == pytest.approx(expected, abs=.15 * np.std(expected))
    # Where nothing is resampled nothing moves.
    once = np.ones((1, 200))
    for values, expected in zip(
            resampled_platt(logits, targets, fitted.scale, fitted.bias,
                            image_ids, once), (fitted.scale, fitted.bias)):
        assert values == pytest.approx([expected], abs=1e-5)


def test_mean_equals_that_of_the_drawn_samples():
    _, _, image_ids = make_samples()
    values = np.random.default_rng(0).gamma(2, 1, len(image_ids))
    draws = draw_images(30, 20, seed=0)
    expected = [values[rows_of(draw, image_ids)].mean() for draw in draws]
    assert resampled_mean(values, image_ids, draws) == pytest.approx(expected)


def test_interval_covers_the_value_though_noise_adds_to_errors():
    resampled = np.random.default_rng(0).uniform(0.04, 0.06, 1000)
    estimate = Estimate.from_resamples(0.02, resampled, lowest=0)
    assert resampled.min() > estimate.value
    assert estimate.low == pytest.approx(0.0105, abs=.001)
    assert estimate.high == pytest.approx(0.0295, abs=.001)
    assert Estimate.from_resamples(0.005, resampled, lowest=0).low == 0
    assert Estimate.from_resamples(0.005, resampled).low < 0


def test_interval_covers_the_truth_as_often_as_it_says():
    """Mean of 40 images, 200 times: about 95 % of the intervals hold 0."""
    rng = np.random.default_rng(0)
    covered = 0
    draws = draw_images(40, 400, seed=1)
    for _ in range(200):
        values = rng.normal(0, 1, 40)
        estimate = Estimate.from_resamples(values.mean(), draws @ values / 40)
        covered += estimate.low <= 0 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.filterwarnings('error')
def test_resamples_without_a_sample_are_left_out():
    """Two images, one of them without RoIs: a quarter draws it twice."""
    logits, labels, _ = make_samples(1, 40)
    probs = softmax(logits, axis=1)
    confidence, correct = top_label(probs, labels)
    image_ids = np.zeros(40, int)
    draws = np.array([[2., 0.], [1., 1.], [0., 2.]])
    resampled = resampled_ece(confidence, correct, image_ids, draws, 15)[0]
    expected = calibration_error(confidence, correct).ece
    assert resampled[:2] == pytest.approx([expected, expected])
    assert np.isnan(resampled[2])
    assert np.isnan(resampled_ace(probs, labels, image_ids, draws, 15)[2])
    estimate = Estimate.from_resamples(expected, resampled)
    assert (estimate.low, estimate.high) == pytest.approx((expected, expected))


@pytest.mark.filterwarnings('error')
def test_no_interval_where_nothing_is_known():
    """Equal logits fit every temperature."""
    draws = draw_images(3, 10, seed=0)
    resampled = resampled_temperature(
        np.zeros((6, 4)), np.array([0, 1, 2, 3, 0, 1]), 1.0,
        np.arange(6) % 3, draws)
    estimate = Estimate.from_resamples(1.0, resampled, lowest=0)
    assert estimate.value == 1
    assert np.isnan(estimate.low) and np.isnan(estimate.high)
