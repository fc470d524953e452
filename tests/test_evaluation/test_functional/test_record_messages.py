"""A wrong record is named by its list, its place and its field."""
import numpy as np
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (detections_from_arrays,
                                            detections_from_coco,
                                            ground_truth_from_coco)
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import load_scene


def with_last(list_name, **fields):
    """A scene whose last record of a list has other fields, and its place."""
    annotations, results = random_scene(0)
    lists = dict(annotations, results=results)
    record = dict(lists[list_name][-1])
    for field, value in fields.items():
        if value is None:
            del record[field]
        else:
            record[field] = value
    lists[list_name] = [*lists[list_name][:-1], record]
    results = lists.pop('results')
    return lists, results, len(lists.get(list_name, results)) - 1


def read(annotations, results):
    return detections_from_coco(results, ground_truth_from_coco(annotations))


@pytest.mark.parametrize('list_name, field', [
    ('images', 'id'),
    ('categories', 'id'),
    ('annotations', 'image_id'),
    ('annotations', 'category_id'),
    ('annotations', 'bbox'),
    ('results', 'image_id'),
    ('results', 'category_id'),
    ('results', 'bbox'),
    ('results', 'score'),
])
def test_missing_field(list_name, field):
    annotations, results, place = with_last(list_name, **{field: None})
    with pytest.raises(
            InvalidValueError,
            match=rf'^`{list_name}\[{place}\]` must have `{field}`'):
        read(annotations, results)


@pytest.mark.parametrize('list_name', ['annotations', 'results'])
@pytest.mark.parametrize('field, kind', [('image_id', 'image'),
                                         ('category_id', 'category')])
def test_unknown_id(list_name, field, kind):
    annotations, results, place = with_last(list_name, **{field: 987})
    with pytest.raises(
            InvalidValueError,
            match=rf'^`{list_name}\[{place}\]`: `{field}` must be one of the '
            rf'\d+ {kind} ids .* but got 987;'):
        read(annotations, results)


@pytest.mark.parametrize('list_name', ['annotations', 'results'])
@pytest.mark.parametrize('bbox, message', [
    ([0, 0, float('nan'), 1], r'be 4 finite numbers \(x, y, width, height\)'),
    ([0, 0, 1, -1], r'have width and height >= 0, but got \[.*\]; is it '
     'written as x1, y1, x2, y2'),
    ([0, 1e200, 1, 1
      ], r'have numbers of at most 1e\+?\d+, but got .*; with larger ones'),
    ([0, 0, 1e-200, 1],
     r'have sides that are 0 or at least 1e-\d+, but got .*; smaller ones'),
])
def test_impossible_box(list_name, bbox, message):
    annotations, results, place = with_last(list_name, bbox=bbox)
    with pytest.raises(
            InvalidValueError,
            match=rf'^`{list_name}\[{place}\]`: `bbox` must {message}'):
        read(annotations, results)


@pytest.mark.parametrize('list_name', ['annotations', 'results'])
def test_box_of_another_form(list_name):
    for bbox in ([0, 0, 1], '0011', [0, 0, True, 1]):
        annotations, results, place = with_last(list_name, bbox=bbox)
        with pytest.raises(
                InvalidTypeError,
                match=rf'^`{list_name}\[{place}\]`: `bbox` must be 4 finite'):
            read(annotations, results)


@pytest.mark.parametrize('boxes', [np.zeros((2, 5)), np.zeros((2, 4, 1))])
def test_array_of_another_shape_is_refused(boxes):
    ground_truth, _ = load_scene('det_small')
    with pytest.raises(InvalidTypeError, match=r'^`results\[0\]`: `bbox`'):
        detections_from_arrays([1, 1], [1, 1], boxes, [.5, .5], ground_truth)


@pytest.mark.parametrize('name', ['image_ids', 'category_ids'])
def test_unknown_subset(name):
    annotations, _ = random_scene(0)
    with pytest.raises(
            InvalidValueError, match=rf'^`{name}\[0\]`: `{name[:-1]}` must'):
        ground_truth_from_coco(annotations, **{name: [987]})
