"""Calibration of whole rows of class probabilities, computed by hand."""
import warnings

import numpy as np
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (brier_score, calibration_error,
                                            classwise_calibration_error,
                                            detections_from_coco,
                                            ground_truth_from_coco, top_label)
from tcal_det.evaluation.functional.class_probability_calibration import \
    class_probability_calibration

A, B = 0, 1
CROWD = [60, 60, 30, 30]
ANNOTATIONS = dict(
    images=[dict(id=1, width=100, height=100)],
    categories=[dict(id=A, name='a'),
                dict(id=B, name='b')],
    annotations=[
        dict(image_id=1, category_id=A, bbox=[0, 0, 10, 10]),
        dict(image_id=1, category_id=B, bbox=[20, 20, 10, 10]),
        dict(image_id=1, category_id=B, bbox=CROWD, iscrowd=1)
    ])
# Class, box, and row with background.
RIGHT = (A, [0, 0, 10, 10], [.7, .2, .1])
WRONG = (A, [20, 20, 10, 10], [.6, .3, .1])
NOWHERE = (A, [40, 0, 10, 10], [.3, .1, .6])
# The same RoI as WRONG, returned for its next class.
SECONDARY = (B, [20, 20, 10, 10], [.6, .3, .1])
IN_CROWD = (A, [65, 65, 10, 10], [.8, .1, .1])
SCENE = (RIGHT, WRONG, NOWHERE, SECONDARY, IN_CROWD)


def arrays(scene, num_columns=3):
    ground_truth = ground_truth_from_coco(ANNOTATIONS)
    records = [
        dict(image_id=1, category_id=cls, bbox=box, score=row[cls])
        for cls, box, row in scene
    ]
    probs = [row[:num_columns] for _, _, row in scene]
    return ground_truth, detections_from_coco(records, ground_truth), probs


def test_softmax_head():
    result = class_probability_calibration(*arrays(SCENE))
    assert result.has_background
    assert (result.num_measured, result.num_background, result.num_secondary,
            result.num_ignored) == (3, 1, 1, 1)
    # Largest: .7 right; .6 wrong; .6 right, which is background.
    assert result.top_label.ece == pytest.approx((.3 + 2 * .1) / 3)
    # a: .7 of 1, .6 of 0, .3 of 0; b: .2 of 0, .3 of 1, .1 of 0;
    # background: twice .1 of 0, .6 of 1.
    assert [error.ece for error in result.classwise.per_class
            ] == pytest.approx([1.2 / 3, 1.0 / 3, .6 / 3])
    assert result.classwise.ece == pytest.approx(2.8 / 9)
    assert result.brier == pytest.approx((.14 + .86 + .26) / 3)


def test_sigmoid_head():
    """Of background all answers are no."""
    result = class_probability_calibration(*arrays(SCENE, num_columns=2))
    assert not result.has_background
    assert result.num_measured == 3
    # .7 right; .6 wrong; .3 wrong.
    assert result.top_label.ece == pytest.approx((.3 + .6 + .3) / 3)
    assert result.classwise.ece == pytest.approx((1.2 / 3 + 1.0 / 3) / 2)
    assert result.brier == pytest.approx((.13 + .85 + .10) / 3)


def test_objects_are_matched_without_their_class():
    """By class WRONG would be a false positive, and B missed."""
    result = class_probability_calibration(*arrays([WRONG]))
    assert result.num_background == 0
    assert result.brier == pytest.approx(.36 + .49 + .01)


def test_object_is_given_once():
    """To the detection of the higher score, whatever their classes are."""
    second = (B, [1, 0, 10, 10], [.2, .4, .4])
    result = class_probability_calibration(*arrays([second, RIGHT]))
    assert (result.num_measured, result.num_background) == (2, 1)
    assert result.brier == pytest.approx(
        ((.04 + .16 + .36) + (.09 + .04 + .01)) / 2)


def test_threshold_of_the_match():
    shifted = (A, [3, 0, 10, 10], [.7, .2, .1])  # IoU 7 / 13
    results = [
        class_probability_calibration(*arrays([shifted]), iou_thr=iou_thr)
        for iou_thr in (.5, .55)
    ]
    assert [one.num_background for one in results] == [0, 1]


def test_a_hundred_detections_of_an_image_are_not_the_most():
    """COCO's limit would make background of the last one."""
    scene = [(A, [200 + 10 * k, 0, 5, 5], [.8, .1, .1]) for k in range(150)]
    result = class_probability_calibration(*arrays([*scene, RIGHT]))
    assert (result.num_measured, result.num_background) == (151, 150)


def brute_force_labels(annotations, records, num_classes):
    """COCO's greedy matching of one image, without classes or crowds."""
    free = list(range(len(annotations)))
    labels = [num_classes] * len(records)
    for index in sorted(
            range(len(records)), key=lambda one: -records[one]['score']):
        best, best_iou = None, 0.5
        for place in free:
            ious = []
            (x, y, w, h), (u, v, s, t) = (records[index]['bbox'],
                                          annotations[place]['bbox'])
            width = min(x + w, u + s) - max(x, u)
            height = min(y + h, v + t) - max(y, v)
            inter = max(width, 0) * max(height, 0)
            ious.append(inter / (w * h + s * t - inter))
            if ious[0] >= best_iou:
                best, best_iou = place, ious[0]
        if best is not None:
            free.remove(best)
            labels[index] = annotations[best]['category_id']
    return np.array(labels)


@pytest.mark.parametrize('seed', range(5))
def test_random_scene_is_a_classification(seed):
    """As the figures of a classifier say of rows and labels."""
    rng = np.random.default_rng(seed)
    num_classes = 4
    annotations = dict(
        images=[dict(id=0, width=100, height=100)],
        categories=[dict(id=one, name=str(one)) for one in range(num_classes)],
        annotations=[
            dict(
                image_id=0,
                category_id=int(rng.integers(num_classes)),
                bbox=[*rng.uniform(0, 60, 2), *rng.uniform(20, 40, 2)])
            for _ in range(12)
        ])
    probs = rng.dirichlet(np.full(num_classes + 1, .5), 60)
    records = []
    for row in probs:
        x, y, w, h = annotations['annotations'][rng.integers(12)]['bbox']
        dx, dy = rng.uniform(-8, 8, 2)
        cls = int(row[:num_classes].argmax())
        records.append(
            dict(
                image_id=0,
                category_id=cls,
                bbox=[x + dx, y + dy, w, h],
                score=row[cls]))
    ground_truth = ground_truth_from_coco(annotations)
    result = class_probability_calibration(
        ground_truth, detections_from_coco(records, ground_truth), probs)
    labels = brute_force_labels(annotations['annotations'], records,
                                num_classes)
    assert 5 < result.num_background == (labels == num_classes).sum() < 58
    assert result.brier == pytest.approx(brier_score(probs, labels))
    assert result.top_label.ece == pytest.approx(
        calibration_error(*top_label(probs, labels)).ece)
    assert result.classwise.ece == pytest.approx(
        classwise_calibration_error(probs, labels).ece)


def test_plain_numbers():
    content = class_probability_calibration(*arrays(SCENE)).to_dict()
    assert content['brier'] == pytest.approx(.42)
    assert content['num_secondary'] == 1
    assert len(content['classwise']['per_class']) == 3


@pytest.mark.parametrize('scene', [(), (SECONDARY, ), (IN_CROWD, )])
def test_nothing_to_measure(scene):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.warns(UserWarning, match='no detection has its class'):
            result = class_probability_calibration(*arrays(scene))
    assert result.num_measured == 0
    assert np.isnan([result.brier, result.top_label.ece,
                     result.classwise.ece]).all()


@pytest.mark.parametrize('probs, error, message', [
    ([[.5]], InvalidValueError, 'must have 2 columns.*or 3 with background'),
    ([[.5, .25, 0]], InvalidValueError, 'that add up to 1, but got 0.75'),
    ([[.5, -.2]], InvalidValueError, r'must be in \[0, 1\]'),
    ([[.5, float('nan')]], InvalidValueError, r'must be in \[0, 1\]'),
    ([['.5', '.5']], InvalidTypeError, 'must be an array of numbers'),
    ([[.5, .5]] * 2, InvalidValueError, 'must have the same length'),
])
def test_wrong_rows(probs, error, message):
    ground_truth, detections, _ = arrays([RIGHT])
    with pytest.raises(error, match=message):
        class_probability_calibration(ground_truth, detections, probs)
