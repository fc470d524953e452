import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (detections_from_coco,
                                            ground_truth_from_coco)
from tcal_det.evaluation.functional.object_calibration_error import \
    object_calibration_error
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import load_golden

TIGHT = dict(rel=0, abs=1e-12, nan_ok=True)
SCENES = load_golden('object_errors')['scenes']


def arrays(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    return ground_truth, detections_from_coco(results, ground_truth)


@pytest.mark.parametrize('scene', SCENES)
@pytest.mark.parametrize('reading', ['probs', 'scores'])
def test_equals_uq_detr(scene, reading):
    """Values of uq-detr 0.1.1; it lists objects image by image."""
    ground_truth, detections = arrays(scene['annotations'], scene['results'])
    error = object_calibration_error(
        ground_truth, detections,
        scene['probs'] if reading == 'probs' else None)
    expected = scene['uq_detr'][reading]
    assert error.oce == pytest.approx(expected['oce'], **TIGHT)
    by_image = np.argsort(ground_truth.image_index, kind='stable')
    assert error.per_object[by_image] == pytest.approx(expected['per_object'],
                                                       **TIGHT)
    assert error.uses_probs == (reading == 'probs')


def hand_made(results, probs=None, **kwargs):
    """Two objects of class 7 and 8 and one crowd in one image."""
    annotations = dict(
        images=[dict(id=1)],
        categories=[dict(id=7), dict(id=8), dict(id=9)],
        annotations=[
            dict(image_id=1, category_id=7, bbox=[0, 0, 10, 10]),
            dict(image_id=1, category_id=9, bbox=[20, 0, 10, 10], iscrowd=1),
            dict(image_id=1, category_id=8, bbox=[40, 0, 10, 10])
        ])
    results = [
        dict(image_id=1, category_id=k, bbox=[x, 0, width, 10], score=score)
        for k, x, width, score in results
    ]
    return object_calibration_error(*arrays(annotations, results), probs,
                                    **kwargs)


def test_by_hand_with_scores():
    # The first object: two boxes of its class and one of another, mean .5.
    # The second: a wrong box of IoU .6, at the first threshold alone.
    error = hand_made([(7, 0, 10, .9), (8, 0, 10, .4), (7, 0, 8, .2),
                       (9, 40, 6, .3), (9, 20, 10, 1)])
    assert error.iou_thrs == (0.5, 0.75)
    assert error.missed == (0, 0.5)
    assert error.per_object == pytest.approx(
        [2 * .5**2, np.nan, (2 * .3**2 + 1) / 2], **TIGHT)
    assert error.per_class == pytest.approx([.5, .59, np.nan], **TIGHT)
    assert error.per_iou_thr == pytest.approx((.34, .75), **TIGHT)
    assert error.oce == pytest.approx(.545, **TIGHT)
    assert error.uses_probs is False


def test_by_hand_with_probabilities():
    probs = [[.9, .1, 0], [.3, .6, .1]]
    error = hand_made([(7, 0, 10, .9), (8, 0, 10, .6)], probs, iou_thrs=[.5])
    assert error.per_object == pytest.approx(
        [.4**2 + .35**2 + .05**2, np.nan, 1], **TIGHT)
    assert error.uses_probs is True


def test_background_is_one_more_wrong_class():
    error = hand_made([(7, 0, 10, .6)], [[.6, .1, 0, .3]])
    assert error.per_object[0] == pytest.approx(.4**2 + .1**2 + .3**2, **TIGHT)


def test_iou_at_the_threshold_is_enough():
    assert hand_made([(7, 0, 5, 1)], iou_thrs=[.5]).missed == (.5, )
    assert hand_made([(7, 0, 5, 1)], iou_thrs=[.5001]).missed == (1, )


def test_most_votes_decide_the_class_and_the_first_class_a_tie():
    three = [(8, 0, 10, .5), (7, 0, 10, .5), (8, 0, 10, .5)]
    assert hand_made(three).per_object[0] == pytest.approx(.5, **TIGHT)
    wrong = hand_made([(8, 0, 10, .2), (8, 0, 10, .2), (7, 0, 10, .2)])
    assert wrong.per_object[0] == pytest.approx(2 * .2**2, **TIGHT)
    tie = hand_made([(8, 0, 10, .2), (7, 0, 10, .2)])
    assert tie.per_object[0] == pytest.approx(2 * .8**2, **TIGHT)


def test_dropping_a_right_detection_costs():
    """What D-ECE rewards: it never looks at the objects."""
    both = hand_made([(7, 0, 10, .6), (8, 40, 10, .9)])
    one = hand_made([(8, 40, 10, .9)])
    assert one.oce > both.oce
    assert hand_made([]).oce == 1


def plain_oce(annotations, results, probs, iou_thrs):
    """Object by object, straight from the definition."""
    category_ids = sorted(c['id'] for c in annotations['categories'])
    costs = []
    for annotation in annotations['annotations']:
        if annotation['iscrowd']:
            continue
        own = category_ids.index(annotation['category_id'])
        for iou_thr in iou_thrs:
            near = [
                row for row, result in enumerate(results)
                if result['image_id'] == annotation['image_id'] and mask.iou(
                    [result['bbox']], [annotation['bbox']], [0])[0,
                                                                 0] >= iou_thr
            ]
            if not near:
                costs.append(1)
            elif probs is not None:
                target = np.eye(probs.shape[1])[own]
                costs.append(((probs[near].mean(axis=0) - target)**2).sum())
            else:
                labels = [
                    category_ids.index(results[row]['category_id'])
                    for row in near
                ]
                named = max(sorted(set(labels)), key=labels.count)
                score = np.mean([results[row]['score'] for row in near])
                costs.append(2 * ((named == own) - score)**2)
    return np.mean(costs)


@pytest.mark.filterwarnings('ignore:there are no objects')
@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_brute_force(seed, has_probs, has_background):
    annotations, results = random_scene(seed, num_images=4)
    ground_truth, detections = arrays(annotations, results)
    probs = None
    if has_probs:
        probs = np.random.default_rng(seed).dirichlet(
            np.ones(ground_truth.num_classes + has_background), len(results))
    iou_thrs = (0.1, 0.5, 0.8)
    error = object_calibration_error(ground_truth, detections, probs, iou_thrs)
    if (~ground_truth.iscrowd).any():
        assert error.oce == pytest.approx(
            plain_oce(annotations, results, probs, iou_thrs), **TIGHT)
    assert np.average(
        np.nan_to_num(error.per_class),
        weights=ground_truth.num_objects) == pytest.approx(error.oce, **TIGHT)
    assert np.mean(error.per_iou_thr) == pytest.approx(error.oce, **TIGHT)
    assert (np.isnan(error.per_object) == ground_truth.iscrowd).all()
    assert list(error.missed) == sorted(error.missed)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_readings_agree_where_they_should(seed):
    """Two classes, probabilities that add up to 1, all boxes name one."""
    annotations, results = random_scene(seed)
    annotations['categories'] = [dict(id=1), dict(id=2)]
    for record in annotations['annotations']:
        record['category_id'] = 1 + record['id'] % 2
    for record in results:
        record['category_id'] = 2
    ground_truth, detections = arrays(annotations, results)
    probs = np.stack((1 - detections.scores, detections.scores), axis=1)
    full = object_calibration_error(ground_truth, detections, probs)
    short = object_calibration_error(ground_truth, detections)
    assert full.per_object == pytest.approx(short.per_object, **TIGHT)


def test_no_objects():
    with pytest.warns(UserWarning, match='no objects'):
        error = object_calibration_error(
            *arrays(dict(images=[], categories=[], annotations=[]), []))
    assert np.isnan(error.oce) and np.isnan(error.per_iou_thr).all()


def test_to_dict_is_json():
    error = hand_made([(7, 0, 10, .9)])
    document = json.loads(json.dumps(error.to_dict()))
    assert document.pop('per_class') == pytest.approx(error.per_class.tolist(),
                                                      **TIGHT)
    assert document == dict(
        oce=error.oce,
        iou_thrs=[.5, .75],
        per_iou_thr=list(error.per_iou_thr),
        missed=[.5, .5],
        uses_probs=False)


@pytest.mark.parametrize('probs, kwargs, error, words', [
    ([[.5, .5]], {}, InvalidValueError, r'probs.*\(1, 3\).*\(1, 2\)'),
    ([[.5, .5, 0]] * 2, {}, InvalidValueError, r'probs.*\(1, 3\).*\(2, 3\)'),
    ([[5, .5, 0]], {}, InvalidValueError, 'probs.*not logits'),
    (None, dict(iou_thrs=[]), InvalidValueError, 'iou_thrs.*empty'),
    (None, dict(iou_thrs=[1]), InvalidValueError, r'iou_thrs.*\[0, 1\)'),
    (None, dict(iou_thrs=['a']), InvalidTypeError, 'iou_thrs.*number'),
])
def test_bad_input(probs, kwargs, error, words):
    with pytest.raises(error, match=words):
        hand_made([(7, 0, 10, .9)], probs, **kwargs)
