"""Resamples equal data sets in which images really repeat."""
import math
import warnings

import numpy as np
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.bootstrap import (RESAMPLED_FIGURES,
                                           bootstrap_figures,
                                           compare_detections,
                                           resample_figures)
from tcal_det.evaluation.functional import evaluate_detections
from tcal_det.evaluation.image_resampling import draw_multiplicities
from tests.image_scenes import all_figures, arrays_of, image_scene, repeated

OPTIONS = dict(
    none={},
    above=dict(score_thr=0.4),
    each_class=dict(score_thr={
        2: 0.5,
        4: 0.2,
        9: None
    }),
    conventions=dict(closed='left', zero_iou='accept', max_dets=2),
    thresholds=dict(
        d_ece_iou_thr=0.3,
        d_ece_bins=4,
        laece_iou_thr=0.6,
        laece_bins=7,
        olrp_iou_thr=0.2))


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return function(*args, **kwargs)


def assert_resamples_equal_repeated_images(scene, keys, options, **repeats):
    """Compare a dozen resamples with what evaluation says of their images."""
    ground_truth, detections = arrays_of(*scene)
    resampled, = quietly(
        resample_figures,
        ground_truth, [detections],
        num_resamples=12,
        seed=5,
        **options)
    counts = draw_multiplicities(ground_truth.num_images, 5, 0, 12)
    assert set(resampled.values) == set(resampled.resamples)
    for number in range(12):
        expected = all_figures(*repeated(*scene, counts[:, number]),
                               **(repeats or options))
        np.testing.assert_allclose(
            [resampled.resamples[key][number] for key in keys],
            [expected[key] for key in keys],
            rtol=0,
            atol=1e-12,
            err_msg=str(keys))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('options', OPTIONS)
def test_resample_is_the_data_set_of_repeated_images(seed, options):
    assert_resamples_equal_repeated_images(
        image_scene(seed), RESAMPLED_FIGURES, OPTIONS[options])


@pytest.mark.parametrize('seed', range(6))
def test_equal_scores_inside_an_image(seed):
    # AP depends on the order of equal scores.
    keys = [key for key in RESAMPLED_FIGURES if 'AP' not in key]
    assert len(keys) == len(RESAMPLED_FIGURES) - 3
    assert_resamples_equal_repeated_images(
        image_scene(seed, equal_scores=True), keys, {})


@pytest.mark.parametrize('seed', range(4))
def test_thresholds_of_the_full_data_hold_in_all_resamples(seed):
    scene = image_scene(seed, num_images=12)
    options = dict(score_thr='lrp_optimal')
    report = quietly(evaluate_detections, *arrays_of(*scene), **options)
    thresholds = {
        row['category_id']: row['score_threshold']
        for row in report.per_class
    }
    assert not all(map(math.isnan, thresholds.values()))
    assert_resamples_equal_repeated_images(
        scene, RESAMPLED_FIGURES, options, score_thr=thresholds)


def test_values_are_those_of_the_evaluation():
    scene = image_scene(1)
    expected = all_figures(*scene)
    found = quietly(bootstrap_figures, *arrays_of(*scene), num_resamples=40)
    assert tuple(found) == RESAMPLED_FIGURES
    assert {
        key: one.value
        for key, one in found.items()
    } == {
        key: expected[key]
        for key in RESAMPLED_FIGURES
    }


def test_comparison_draws_the_same_images_for_both():
    annotations, results = image_scene(2)
    ground_truth, a = arrays_of(annotations, results)
    b = arrays_of(annotations,
                  [dict(r, score=r['score'] * .9) for r in results])[1]
    differences = quietly(compare_detections, ground_truth, a, b, 200, seed=3)
    of_a, of_b = quietly(
        resample_figures, ground_truth, [a, b], num_resamples=200, seed=3)
    for key in RESAMPLED_FIGURES:
        one = differences[key]
        assert (one.a, one.b) == (of_a.values[key], of_b.values[key])
        shift = of_b.resamples[key] - of_a.resamples[key]
        shift += one.difference - shift.mean()
        assert (one.low, one.high) == pytest.approx(
            np.quantile(shift, (.025, .975)), abs=1e-12)
    # Order alone decides these.
    for key in ('mAP', 'AP50', 'lrp_0', 'olrp'):
        assert differences[key].difference == 0
        assert differences[key].p_value == 1
        assert not differences[key].excludes_zero
    alone = quietly(bootstrap_figures, ground_truth, b, 200, seed=3)['brier']
    paired = differences['brier']
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_result_depends_on_the_seed_and_on_nothing_else():
    scene = arrays_of(*image_scene(0))
    calls = []
    first = quietly(bootstrap_figures, *scene, 50, num_workers=1)
    again = quietly(
        bootstrap_figures,
        *scene,
        50,
        num_workers=2,
        progress=lambda *numbers: calls.append(numbers))
    assert first == again
    assert calls == [(16, 50), (32, 50), (48, 50), (50, 50)]
    other = quietly(bootstrap_figures, *scene, 50, seed=1)
    assert first['brier'].low != other['brier'].low


def test_undefined_resamples_are_left_out():
    """One image of three has detections: 8 of 27 resamples lack it."""
    image = dict(width=100, height=100)
    box = dict(image_id=1, category_id=1, bbox=[0., 0., 10., 10.])
    ground_truth, detections = arrays_of(
        dict(
            images=[dict(image, id=i) for i in range(3)],
            categories=[dict(id=1, name='one')],
            annotations=[box, dict(box, image_id=0)]), [dict(box, score=.7)])
    found = bootstrap_figures(ground_truth, detections, num_resamples=400)
    assert found['brier'].value == pytest.approx(.09)
    # 281 are expected; 4 standard deviations are 37.
    assert 244 < found['brier'].num_defined < 318
    assert (found['brier'].low, found['brier'].high) == pytest.approx(
        (.09, .09))
    # Objects are there in all resamples but those of the third image alone.
    # 385 are expected.
    assert 370 < found['lrp_0'].num_defined < 400


def test_without_detections():
    annotations, _ = image_scene(3)
    with pytest.warns(UserWarning, match='no detection is counted'):
        found = bootstrap_figures(*arrays_of(annotations, []), 40)
    assert math.isnan(found['d_ece'].value) and math.isnan(found['d_ece'].low)
    assert found['d_ece'].num_defined == 0
    assert (found['lrp_0'].low, found['lrp_0'].high) == (1, 1)
    assert (found['mAP'].value, found['mAP'].high) == (0, 0)


def test_one_image_says_nothing_of_others():
    annotations, results = image_scene(3, num_images=1)
    found = quietly(bootstrap_figures, *arrays_of(annotations, results), 40)
    assert not math.isnan(found['lrp_0'].value)
    assert math.isnan(found['lrp_0'].low) and found['lrp_0'].num_defined == 0


@pytest.mark.parametrize('options, error, message', [
    (dict(confidence=1.0), InvalidValueError, r'`confidence` must be in'),
    (dict(confidence='high'), InvalidTypeError, '`confidence`'),
    (dict(num_resamples=39), InvalidValueError,
     '`num_resamples` must be >= 40 for a confidence of 0.95, but got 39'),
    (dict(num_resamples=199, confidence=.99), InvalidValueError, '>= 200'),
    (dict(seed=-1), InvalidValueError, '`seed` must be >= 0'),
    (dict(num_workers=0), InvalidValueError, '`num_workers` must be >= 1'),
    (dict(d_ece_bins=0), InvalidValueError, '`d_ece_bins`'),
])
def test_wrong_options(options, error, message):
    ground_truth, detections = arrays_of(*image_scene(0))
    with pytest.raises(error, match=message):
        quietly(bootstrap_figures, ground_truth, detections, **options)
    with pytest.raises(error, match=message):
        quietly(compare_detections, ground_truth, detections, detections,
                **options)
