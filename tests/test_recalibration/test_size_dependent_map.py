import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, logit, xlogy

from tcal_det.errors import InvalidValueError, UserError
from tcal_det.evaluation.functional import (DetectionMatches,
                                            detection_calibration_error)
from tcal_det.evaluation.functional.size_calibration import \
    calibration_error_by_size
from tcal_det.recalibration import PlattMap
from tcal_det.recalibration.methods import map_from_dict
from tcal_det.recalibration.size_dependent_map import (SizeDependentPlattMap,
                                                       relative_areas)

SIDE = 400  # of the images, in pixels


def samples(log_odds, num=20000, seed=0):
    """Scores, targets and areas; log odds of being right are known."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(.02, .98, num)
    areas = np.exp(rng.uniform(np.log(1e-4), np.log(.5), num))
    is_right = rng.uniform(size=num) < expit(
        log_odds(logit(scores), np.log(areas)))
    return scores, is_right.astype(float), areas


def by_size(z, log_area):
    """Over-confident on small boxes, under-confident on large ones."""
    return (1.4 + .1 * log_area) * z + 1.5 + .4 * log_area


def matches_of(scores, targets, areas):
    num = len(scores)
    sides = np.sqrt(areas) * SIDE
    return DetectionMatches(
        iou_thr=.5,
        scores=scores,
        class_index=np.zeros(num, dtype=np.int64),
        boxes=np.stack((np.zeros(num), np.zeros(num), sides, sides), axis=1),
        image_sizes=np.full((num, 2), float(SIDE)),
        status=targets.astype(np.int8),
        iou=targets,
        object_index=np.zeros(num, dtype=np.int64),
        num_objects=np.array([num]))


def test_known_map_is_found():
    fitted = SizeDependentPlattMap.fit(*samples(by_size, 60000))
    log_areas = np.array(fitted.log_areas)
    assert log_areas == pytest.approx(np.log([1e-4, .5]), abs=.12)
    assert fitted.scales == pytest.approx(1.4 + .1 * log_areas, abs=.06)
    assert fitted.biases == pytest.approx(1.5 + .4 * log_areas, abs=.08)


def test_held_out_d_ece_by_size_falls():
    fitted = SizeDependentPlattMap.fit(*samples(by_size, seed=0))
    scores, targets, areas = samples(by_size, seed=1)
    held_out = matches_of(scores, targets, areas)
    plain = PlattMap.fit(*samples(by_size, seed=0)[:2])(scores)
    before, with_plain, after = (
        calibration_error_by_size(replace(held_out, scores=new_scores))
        for new_scores in (scores, plain, fitted(scores, areas)))
    assert before.ece > .15
    # A map of the score alone leaves what depends on the size.
    assert with_plain.ece > .1
    assert after.ece < .025
    for error in after.errors:
        assert error.ece < .04
    position_free = detection_calibration_error(
        replace(held_out, scores=fitted(scores, areas)))
    assert position_free.ece < .025


def test_without_dependence_it_is_platt():
    scores, targets, areas = samples(lambda z, _: .7 * z - 1, 30000)
    fitted = SizeDependentPlattMap.fit(scores, targets, areas)
    assert fitted(scores, areas) == pytest.approx(
        PlattMap.fit(scores, targets)(scores), abs=.02)


def test_one_size_is_exactly_platt():
    scores, targets, _ = samples(lambda z, _: .7 * z - 1, 2000)
    fitted = SizeDependentPlattMap.fit(scores, targets, np.full(2000, .01))
    plain = PlattMap.fit(scores, targets)(scores)
    for area in (.01, .3, 1e-6):
        assert fitted(scores, np.full(2000, area)) == pytest.approx(
            plain, abs=1e-12)


def test_scikit_learn():
    """Logistic regression on the score, the log area and their product."""
    scores, targets, areas = samples(by_size, 4000)
    fitted = SizeDependentPlattMap.fit(scores, targets, areas)
    log_area = np.clip(np.log(areas), *fitted.log_areas)
    features = np.stack((logit(scores), log_area, logit(scores) * log_area),
                        axis=1)
    linear_model = pytest.importorskip('sklearn.linear_model')
    reference = linear_model.LogisticRegression(
        C=1e12, tol=1e-10, max_iter=10000).fit(features, targets)
    assert fitted(scores, areas) == pytest.approx(
        reference.predict_proba(features)[:, 1], abs=1e-4)


def test_gradient_is_zero_at_the_optimum():
    """Also for fractional targets, by finite differences."""
    scores, targets, areas = samples(by_size, 1000)
    targets = targets * np.random.default_rng(2).uniform(.5, 1, 1000)
    fitted = SizeDependentPlattMap.fit(scores, targets, areas)

    def cross_entropy(weights):
        q = SizeDependentPlattMap(fitted.log_areas, list(weights[:2]),
                                  list(weights[2:]))(scores, areas)
        return -np.mean(xlogy(targets, q) + xlogy(1 - targets, 1 - q))

    weights = np.array([*fitted.scales, *fitted.biases])
    assert np.abs(approx_fprime(weights, cross_entropy, 1e-7)).max() < 1e-5
    assert np.abs(approx_fprime(weights + .1, cross_entropy, 1e-7)).max() > .01
    recalibrated = fitted(scores, areas)
    assert recalibrated.mean() == pytest.approx(targets.mean(), abs=1e-6)
    log_area = np.clip(np.log(areas), *fitted.log_areas)
    assert log_area @ recalibrated == pytest.approx(
        log_area @ targets, rel=1e-6)


def test_by_hand():
    fitted = SizeDependentPlattMap([np.log(.01), 0.], [1., 2.], [0., -1.])
    # At an area of .1, halfway: scale 1.5 and bias -.5.
    areas = np.array([.01, .1, 1., 1e-5, 0.])
    expected = expit([
        logit(.8), 1.5 * logit(.8) - .5, 2 * logit(.8) - 1,
        logit(.8),
        logit(.8)
    ])
    assert fitted(np.full(5, .8), areas) == pytest.approx(expected)


def test_order_among_boxes_of_one_size_is_kept():
    fitted = SizeDependentPlattMap.fit(*samples(by_size, 2000))
    scores = np.linspace(0.001, .999, 200)
    for area in (0, 1e-4, .02, 1):
        assert (np.diff(fitted(scores, np.full(200, area))) > 0).all()
    # Among sizes it is not: AP can change.
    small, large = fitted(np.array([.6, .5]), np.array([1e-4, .5]))
    assert small < large


def test_slopes_stay_positive_where_scores_mislead():
    fitted = SizeDependentPlattMap.fit(
        *samples(lambda z, log_area: -z - log_area, 2000))
    assert min(fitted.scales) >= .01


def test_json_form():
    fitted = SizeDependentPlattMap.fit(*samples(by_size, 500))
    form = json.loads(json.dumps(fitted.to_json_dict()))
    assert form['type'] == 'size_platt'
    assert map_from_dict(form) == fitted


@pytest.mark.parametrize('change, message', [
    (dict(log_areas=[0, -1]), '`log_areas` must be two.*smaller first'),
    (dict(log_areas=[-1, -1]), '`log_areas` must be two.*smaller first'),
    (dict(log_areas=[-1]), '`log_areas` must be a list of two'),
    (dict(log_areas=[-1, float('inf')]), r'`log_areas\[1\]`.*inf'),
    (dict(scales=3), '`scales` must be a list of two'),
    (dict(scales=[1, 0]), r'`scales\[1\]`'),
    (dict(biases=[1, None]), r'`biases\[1\]`'),
    (dict(biases=[1, 2, 3]), '`biases` must be a list of two'),
])
def test_wrong_parameters(change, message):
    right = dict(log_areas=[-5, -1], scales=[1, 1], biases=[0, 0])
    SizeDependentPlattMap(**right)
    with pytest.raises(UserError, match=message):
        SizeDependentPlattMap(**dict(right, **change))


def test_unknown_sizes_are_named():
    fitted = SizeDependentPlattMap([-5, -1], [1, 1], [0, 0])
    for area in (np.nan, 1.5, -.1):
        with pytest.raises(InvalidValueError, match=r'at \[1\].*every image'):
            fitted(np.array([.5, .5]), np.array([.5, area]))
        with pytest.raises(InvalidValueError, match=r'at \[1\]'):
            SizeDependentPlattMap.fit(
                np.array([.5, .5]), np.array([0., 1]), np.array([.5, area]))


def test_relative_areas_by_hand():
    boxes = np.array([[5., 5, 20, 20], [0, 0, 300, 20], [0, 0, 0, 9]])
    sizes = np.array([[100., 40], [100, 40], [100, 40]])
    # Half of the height; a box that is wider than its image is clipped.
    assert relative_areas(boxes, sizes) == pytest.approx([.1, .5, 0])
    assert np.isnan(relative_areas(boxes, sizes * np.nan)).all()


def test_inputs_are_not_changed():
    arrays = samples(by_size, 300)
    before = [array.copy() for array in arrays]
    SizeDependentPlattMap.fit(*arrays)(arrays[0], arrays[2])
    for array, copy in zip(arrays, before):
        assert (array == copy).all()
