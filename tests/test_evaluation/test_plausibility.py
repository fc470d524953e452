"""Warnings about boxes and labels: where they belong, and where they do not.

False alarms are as bad as silence, so every warning has its counterpart:
the golden files, scenes of ties and crowds, and unclipped detections.
"""
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (Detections, GroundTruth,
                                            detections_from_coco,
                                            ground_truth_from_coco)
from tcal_det.evaluation.plausibility import (check_labels,
                                              find_swapped_labels,
                                              warn_of_boxes_outside)

GOLDEN = Path(__file__).resolve().parents[1] / 'data' / 'golden'
WIDTH, HEIGHT = 640.0, 480.0


def scene(num_images=40, num_classes=3, seed=0):
    """Five objects in each image, and a detection on each of them."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(num_images), 5)
    # On a grid, so that no object hides another.
    corner = np.tile([[10, 20], [200, 30], [420, 10], [30, 300], [400, 280]],
                     (num_images, 1)) + rng.random((len(image), 2)) * 20
    boxes = np.concatenate((corner, 80 + 60 * rng.random(corner.shape)), 1)
    classes = rng.integers(num_classes, size=len(image))
    ground_truth = GroundTruth(
        np.arange(num_images), np.tile([WIDTH, HEIGHT], (num_images, 1)),
        np.arange(num_classes),
        tuple(f'class {k}' for k in range(num_classes)), image, classes, boxes,
        np.zeros(len(image), dtype=bool))
    return ground_truth, Detections(image, classes,
                                    boxes + rng.normal(0, 2, boxes.shape),
                                    rng.random(len(image)))


def warnings_of(ground_truth, boxes_of):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        warn_of_boxes_outside(ground_truth, boxes_of, 'results')
    return [str(one.message) for one in caught]


def as_corners(boxes_of):
    boxes = boxes_of.boxes
    return replace(
        boxes_of,
        boxes=np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1))


@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_golden_files_are_plausible(name):
    ground_truth = ground_truth_from_coco(
        json.loads((GOLDEN / f'{name}_gt.json').read_text()))
    detections = detections_from_coco(
        json.loads((GOLDEN / f'{name}_dt.json').read_text()), ground_truth)
    assert warnings_of(ground_truth, ground_truth) == []
    assert warnings_of(ground_truth, detections) == []
    assert find_swapped_labels(ground_truth, detections) == ''


@pytest.mark.parametrize('seed', range(20))
def test_boxes_as_corners(seed):
    ground_truth, detections = scene(seed=seed)
    assert warnings_of(ground_truth, detections) == []
    for kind in (ground_truth, detections):
        message, = warnings_of(ground_truth, as_corners(kind))
        # Three of five objects lie right of or below the middle.
        assert '60% of the boxes of the results leave' in message
        assert 'write [x1, y1, x2 - x1, y2 - y1]' in message


def test_the_first_box_outside_is_named():
    ground_truth, detections = scene(num_images=1)
    boxes = np.array([[1, 2, 30, 40], [10, 20, 30, 40], [400, 300, 500, 400],
                      [500, 100, 620, 200], [1, 2, 3, 4]])
    message, = warnings_of(ground_truth,
                           replace(detections, boxes=boxes.astype(float)))
    assert (
        '40% of the boxes of the results leave their image, the first of '
        'them `results[2]`: `bbox` [400.0, 300.0, 500.0, 400.0] in an '
        'image of [640.0, 480.0]; they would fit as x1, y1, x2, y2') in message


def test_boxes_of_larger_images():
    ground_truth, detections = scene()
    message, = warnings_of(ground_truth,
                           replace(detections, boxes=2.5 * detections.boxes))
    assert 'leave their image' in message and 'for images of these' in message
    assert 'x1' not in message


def test_boxes_as_fractions():
    ground_truth, detections = scene()
    boxes = detections.boxes / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    message, = warnings_of(ground_truth, replace(detections, boxes=boxes))
    assert 'all boxes of the results' in message and 'fractions' in message
    # One box in pixels shows that they are not.
    boxes[7] *= [WIDTH, HEIGHT, WIDTH, HEIGHT]
    assert warnings_of(ground_truth, replace(detections, boxes=boxes)) == []


def test_unclipped_boxes_are_plausible():
    """Whole detectors leave by a rounding, DETRs and YOLOs by pixels."""
    ground_truth, detections = scene()
    boxes = detections.boxes.copy()
    boxes[:, 0] = -0.04 * WIDTH
    boxes[:, 2] = 1.08 * WIDTH
    boxes[:, 3] = 1.04 * HEIGHT - boxes[:, 1]
    assert warnings_of(ground_truth, replace(detections, boxes=boxes)) == []
    # A few wild boxes of low scores, too.
    boxes[::11] = [600, 400, 600, 400]
    assert warnings_of(ground_truth, replace(detections, boxes=boxes)) == []
    # One in ten is many.
    boxes[::11] = boxes[1]
    boxes[::10] = [600, 400, 600, 400]
    assert len(warnings_of(ground_truth, replace(detections,
                                                 boxes=boxes))) == 1


def test_boxes_outside_on_the_left_or_above():
    ground_truth, detections = scene()
    for axis, side in ((0, WIDTH), (1, HEIGHT)):
        boxes = detections.boxes.copy()
        boxes[:, axis] = -0.06 * side
        assert len(
            warnings_of(ground_truth, replace(detections, boxes=boxes))) == 1


def test_images_without_a_size_say_nothing():
    ground_truth, detections = scene(num_images=4)
    sizes = ground_truth.image_sizes.copy()
    sizes[:3] = np.nan
    boxes = detections.boxes.copy()
    boxes[:15] *= 100
    unknown = replace(ground_truth, image_sizes=sizes)
    assert warnings_of(unknown, replace(detections, boxes=boxes)) == []
    boxes[17] = [0, 0, 900, 900]
    message, = warnings_of(unknown, replace(detections, boxes=boxes))
    assert '20%' in message and '`results[17]`' in message
    nothing = replace(ground_truth, image_sizes=np.full_like(sizes, np.nan))
    assert warnings_of(nothing, replace(detections, boxes=boxes)) == []
    none = Detections(*(np.zeros(shape) for shape in (0, 0, (0, 4), 0)))
    none = replace(none, image_index=np.zeros(0, int))
    assert warnings_of(ground_truth, none) == []


def test_many_boxes_are_sampled_evenly(monkeypatch):
    from tcal_det.evaluation import plausibility
    monkeypatch.setattr(plausibility, '_MOST_BOXES', 50)
    ground_truth, detections = scene()
    boxes = detections.boxes.copy()
    boxes[100:] = [600, 400, 600, 400]
    # Every fourth of 200 boxes is looked at.
    message, = warnings_of(ground_truth, replace(detections, boxes=boxes))
    assert '50%' in message and '`results[100]`' in message


@pytest.mark.parametrize('num_classes', [2, 3, 10])
@pytest.mark.parametrize('seed', range(5))
def test_swapped_labels(num_classes, seed):
    ground_truth, detections = scene(num_classes=num_classes, seed=seed)
    assert find_swapped_labels(ground_truth, detections) == ''
    shifted = replace(
        detections, class_index=(detections.class_index + 1) % num_classes)
    found = find_swapped_labels(ground_truth, shifted)
    assert 'only 0 of 200 boxes that lie on an object' in found
    with pytest.raises(InvalidValueError, match='only 0 of 200.*; look up$'):
        check_labels(ground_truth, shifted, 'look up')


def test_a_detector_of_three_of_many_classes():
    """Its labels 0, 1, 2 mean the categories 40, 7 and 60."""
    ground_truth, detections = scene()
    known = np.array([40, 7, 60])
    ground_truth = replace(
        ground_truth,
        category_ids=np.arange(80),
        category_names=tuple(f'class {k}' for k in range(80)),
        class_index=known[ground_truth.class_index])
    found = find_swapped_labels(ground_truth, detections)
    label = np.bincount(detections.class_index).argmax()
    count = np.bincount(detections.class_index).max()
    assert (f"{count} of {count} boxes of 'class {label}' lie on 'class "
            f"{known[label]}'") in found
    right = replace(detections, class_index=known[detections.class_index])
    assert find_swapped_labels(ground_truth, right) == ''


def test_bad_detectors_are_no_swapped_labels():
    ground_truth, detections = scene(num_images=200, num_classes=20)
    rng = np.random.default_rng(1)
    for labels in (
            rng.integers(20, size=len(detections)),  # knows nothing
            np.full(len(detections), 4),  # always the same class
            np.where(
                rng.random(len(detections)) < .2, ground_truth.class_index,
                (ground_truth.class_index + 1) % 20)):  # one in five
        assert find_swapped_labels(ground_truth,
                                   replace(detections,
                                           class_index=labels)) == ''
    # Class 4 is nearly all there is, and both labels lie on it.
    uneven = replace(
        ground_truth,
        class_index=np.where(ground_truth.class_index < 19, 4, 5))
    labels = np.where(rng.random(len(detections)) < .1, 8, 9)
    assert find_swapped_labels(uneven, replace(detections,
                                               class_index=labels)) == ''


@pytest.mark.parametrize('count, label, other', [(4, 5, 6), (10, 5, 5)])
def test_one_swapped_label_says_nothing(count, label, other):
    """Beside it are too few of another label, or enough that are right."""
    ground_truth, detections = scene(num_classes=20)
    is_other = np.arange(len(detections)) < count
    ground_truth = replace(
        ground_truth, class_index=np.where(is_other, other, 3))
    labels = np.where(is_other, label, 4)
    assert find_swapped_labels(ground_truth,
                               replace(detections, class_index=labels)) == ''
    labels = np.where(np.arange(len(detections)) < 100, 4, 7)
    ground_truth = replace(
        ground_truth, class_index=np.where(labels == 4, 3, other))
    assert find_swapped_labels(ground_truth,
                               replace(detections, class_index=labels)) != ''


def test_few_boxes_on_objects_say_nothing():
    ground_truth, detections = scene(num_images=3, num_classes=2)
    swapped = replace(detections, class_index=1 - detections.class_index)
    assert find_swapped_labels(ground_truth, swapped) == ''
    ground_truth, detections = scene(num_images=4, num_classes=2)
    swapped = replace(detections, class_index=1 - detections.class_index)
    assert find_swapped_labels(ground_truth, swapped) != ''
    # Boxes beside objects (IoU 1/3) do not count.
    beside = replace(swapped, boxes=ground_truth.boxes.copy())
    beside.boxes[:, 0] += beside.boxes[:, 2] / 2
    assert find_swapped_labels(ground_truth, beside) == ''


def test_many_images_are_sampled_evenly(monkeypatch):
    from tcal_det.evaluation import plausibility
    monkeypatch.setattr(plausibility, '_MOST_IMAGES', 10)
    ground_truth, detections = scene(num_classes=2)
    swapped = replace(detections, class_index=1 - detections.class_index)
    # Every fourth of 40 images is looked at, with 5 objects each.
    assert '0 of 50 boxes' in find_swapped_labels(ground_truth, swapped)
    first = replace(
        detections,
        class_index=np.where(detections.image_index < 10, swapped.class_index,
                             detections.class_index))
    assert find_swapped_labels(ground_truth, first) == ''
