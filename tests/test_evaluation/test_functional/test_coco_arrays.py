import copy

import numpy as np
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (detections_from_arrays,
                                            detections_from_coco,
                                            ground_truth_from_coco,
                                            match_detections)
from tests.test_evaluation.test_functional.golden_files import load_golden


@pytest.fixture
def annotations():
    return load_golden('det_small_gt')


@pytest.fixture
def results():
    return load_golden('det_small_dt')


def broken(records, number, **fields):
    records = copy.deepcopy(records)
    records[number].update(fields)
    return records


def test_records_keep_file_order(annotations, results):
    annotations['categories'].reverse()
    annotations['images'].reverse()
    ground_truth = ground_truth_from_coco(annotations)
    assert ground_truth.image_ids.tolist() == [1, 2]
    assert ground_truth.category_ids.tolist() == [1, 3, 7]
    assert ground_truth.category_names == ('a', 'b', 'c')
    assert ground_truth.image_sizes.tolist() == [[100, 100], [200, 100]]
    assert ground_truth.iscrowd.tolist() == [False, False, True] + [False] * 3
    assert ground_truth.num_objects.tolist() == [3, 1, 1]
    detections = detections_from_coco(results, ground_truth)
    assert detections.scores.tolist() == [r['score'] for r in results]
    assert detections.class_index.tolist() == [0, 0, 0, 0, 0, 0, 1, 2]
    assert detections.image_index.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_arrays_and_records_give_the_same(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    from_records = detections_from_coco(results, ground_truth)
    from_arrays = detections_from_arrays(
        np.array([r['image_id'] for r in results]),
        np.array([r['category_id'] for r in results]),
        np.array([r['bbox'] for r in results], dtype=np.float32),
        np.array([r['score'] for r in results]), ground_truth)
    for name, value in vars(from_records).items():
        np.testing.assert_array_equal(value, getattr(from_arrays, name))


@pytest.mark.parametrize('fields, pattern', [
    (dict(image_id=9), r'`results\[3\]`: `image_id` .* 2 image ids .*got 9'),
    (dict(image_id='1'), r"`results\[3\]`: `image_id` .*got '1'"),
    (dict(image_id=1.5), r'`results\[3\]`: `image_id` .*got 1.5'),
    (dict(image_id=None), r'`results\[3\]`: `image_id` .*got None'),
    (dict(category_id=2), r'`results\[3\]`: `category_id` .*got 2'),
    (dict(score=1.01), r'`results\[3\]`: `score` must be in \[0, 1\].*1.01'),
    (dict(score=-0.1), r'`results\[3\]`: `score` .*-0.1'),
    (dict(score=float('nan')), r'`results\[3\]`: `score` .*nan'),
    (dict(score=None), r'`results\[3\]`: `score` must be a number.*None'),
    (dict(score='high'), r"`results\[3\]`: `score` must be a .*'high'"),
    (dict(bbox=[0, 0, -1, 5]), r'`results\[3\]`: `bbox` .*x1, y1, x2, y2'),
    (dict(bbox=[0, 0, float('inf'), 5]), r'`results\[3\]`: `bbox` .*finite'),
    (dict(bbox=[0, 0, 5]), r'`results\[3\]`: `bbox` must be 4 finite'),
    (dict(bbox=[0, 0, 5, None]), r'`results\[3\]`: `bbox` must be 4 finite'),
    (dict(bbox=None), r'`results\[3\]`: `bbox` must be 4 finite'),
])
def test_a_bad_result_is_named_in_one_line(annotations, results, fields,
                                           pattern):
    ground_truth = ground_truth_from_coco(annotations)
    with pytest.raises((InvalidValueError, InvalidTypeError),
                       match=pattern) as caught:
        detections_from_coco(broken(results, 3, **fields), ground_truth)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('fields, pattern', [
    (dict(image_id=9), r'`annotations\[2\]`: `image_id` .*got 9'),
    (dict(category_id=2), r'`annotations\[2\]`: `category_id` .*got 2'),
    (dict(bbox=[0, 0, -1, 5]), r'`annotations\[2\]`: `bbox` .*>= 0'),
])
def test_a_bad_annotation_is_named(annotations, fields, pattern):
    annotations['annotations'] = broken(annotations['annotations'], 2,
                                        **fields)
    with pytest.raises(InvalidValueError, match=pattern):
        ground_truth_from_coco(annotations)


def test_a_record_without_a_field_is_named(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    del results[5]['score']
    with pytest.raises(
            InvalidValueError, match=r'`results\[5\]` must have `score`'):
        detections_from_coco(results, ground_truth)
    with pytest.raises(
            InvalidTypeError,
            match=r'`results\[0\]` must be a dict, but got 3'):
        detections_from_coco([3], ground_truth)


def test_swapped_files_are_noticed(annotations, results):
    with pytest.raises(InvalidTypeError, match='the other argument'):
        ground_truth_from_coco(results)
    with pytest.raises(InvalidTypeError, match='`results` must be a list'):
        detections_from_coco(annotations, ground_truth_from_coco(annotations))
    with pytest.raises(InvalidValueError, match='must have a list `images`'):
        ground_truth_from_coco(dict(categories=[], annotations=[]))


def test_repeated_and_mixed_ids_are_refused(annotations):
    annotations['images'].append(dict(annotations['images'][0]))
    for repeated in (1, 1.0):
        annotations['images'][2]['id'] = repeated
        with pytest.raises(
                InvalidValueError,
                match=r'`images\[2\]`.*unique.*got 1.* again.*images\[0\]'):
            ground_truth_from_coco(annotations)
    annotations['images'][2]['id'] = 'one'
    with pytest.raises(
            InvalidTypeError,
            match=r"`images\[2\]`.*all whole numbers or all.*'one' after 1"):
        ground_truth_from_coco(annotations)
    for bad in (True, None, 1.5, float('inf'), float('nan'), [3], {}):
        annotations['images'][2]['id'] = bad
        with pytest.raises(
                InvalidTypeError,
                match=r'`images\[2\]`: `id` must be a whole'):
            ground_truth_from_coco(annotations)


@pytest.mark.parametrize('ids', [
    (2**53, 2**53 + 1, 3.0),
    (2**63, 2**63 + 1, -1),
    (10**30, 10**30 + 1, 7),
    ('a', 'a\x00', 'a\x00\x00'),
])
@pytest.mark.parametrize('container', [list, np.array])
def test_ids_are_compared_exactly(ids, container):
    """An array of numpy makes floats of them, or texts without zeros."""
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=one) for one in ids],
            categories=[dict(id=one) for one in ids],
            annotations=[]))
    assert ground_truth.image_ids.tolist() == sorted(ids)
    given = ids[::-1]
    if container is np.array:
        given = np.array(given, dtype=object)
    boxes = np.tile([0., 0, 1, 1], (3, 1))
    detections = detections_from_arrays(given, given, boxes, [.5] * 3,
                                        ground_truth)
    expected = [sorted(ids).index(one) for one in ids[::-1]]
    assert detections.image_index.tolist() == expected
    assert detections.class_index.tolist() == expected
    near = dict(bbox=[0, 0, 1, 1], score=.5, category_id=ids[0])
    for unknown in (2**53 + 2, 2**63 + 2, 10**30 + 2, 'a\x00\x00\x00', 'b'):
        with pytest.raises(InvalidValueError, match=r'`results\[1\]`'):
            detections_from_coco(
                [dict(near, image_id=ids[0]),
                 dict(near, image_id=unknown)], ground_truth)


def test_one_long_id_takes_no_memory(annotations, results):
    """An array of texts would give each of them the longest one's room."""
    records = [dict(results[0]) for _ in range(10**5)]
    records[-1]['image_id'] = 'x' * 10**6
    with pytest.raises(InvalidValueError, match=r'`results\[99999\]`') as info:
        detections_from_coco(records, ground_truth_from_coco(annotations))
    assert len(str(info.value)) < 500


BEYOND = 10**400  # JSON has such numbers, float64 has not
DEEP = []
for _ in range(900):
    DEEP = [DEEP]


@pytest.mark.parametrize('fields, pattern', [
    (dict(bbox='1234'), "`bbox` must be 4 finite.*got '1234'"),
    (dict(bbox={
        '1': 1,
        '2': 2,
        '3': 3,
        '4': 4
    }), '`bbox` must be 4 finite.*got {'),
    (dict(bbox=['1', '2', '3', '4']), "`bbox` must be 4 finite.*got .'1'"),
    (dict(bbox=[0, 0, 5, True]), '`bbox` must be 4 finite.*True'),
    (dict(bbox=[[0], [0], [5], [5]]), '`bbox` must be 4 finite'),
    (dict(bbox=[0, 0, 5, BEYOND]), '`bbox` must be 4 finite.*1000'),
    (dict(bbox=np.zeros(())), '`bbox` must be 4 finite'),
    (dict(bbox=np.array([True] * 4)), '`bbox` must be 4 finite'),
    (dict(bbox=DEEP), '`bbox` must be 4 finite'),
    (dict(bbox=[1e308, 0, 5, 5]),
     r'`bbox` must have numbers of at most 1e\+09'),
    (dict(bbox=[0, -1e308, 5, 5]), r'`bbox` must have numbers of at most'),
    (dict(bbox=[0, 0, 1e200, 1e200]), r'`bbox` must have numbers of at most'),
    (dict(bbox=[0, 0, 1e-200, 1e-200]), '`bbox` must have sides that are 0'),
    (dict(score=True), '`score` must be a number.*got True'),
    (dict(score=np.bool_(True)), '`score` must be a number.*True'),
    (dict(score=BEYOND), '`score` must be a number.*1000'),
    (dict(score=[0.5]), r'`score` must be a number.*got \[0.5\]'),
    (dict(score=DEEP), '`score` must be a number'),
    (dict(image_id=True), '`image_id` must be one of .*got True'),
    (dict(image_id=[1]), r'`image_id` must be one of .*got \[1\]'),
    (dict(category_id=DEEP), '`category_id` must be one of'),
])
def test_no_value_is_taken_for_what_it_is_not(annotations, results, fields,
                                              pattern):
    ground_truth = ground_truth_from_coco(annotations)
    with pytest.raises((InvalidValueError, InvalidTypeError),
                       match=r'`results\[3\]`: ' + pattern) as caught:
        detections_from_coco(broken(results, 3, **fields), ground_truth)
    assert len(str(caught.value)) < 400
    # Where all records have it, no array of numbers hides it either.
    if 'bbox' in fields or 'score' in fields:
        with pytest.raises((InvalidValueError, InvalidTypeError),
                           match=r'`results\[0\]`: ' + pattern):
            detections_from_coco([dict(one, **fields) for one in results],
                                 ground_truth)


@pytest.mark.parametrize('flag', [0, 1, False, True, 0.0, 1.0, np.int64(1)])
def test_crowd_flags(annotations, flag):
    annotations['annotations'] = broken(
        annotations['annotations'], 1, iscrowd=flag)
    assert ground_truth_from_coco(annotations).iscrowd[1] == bool(flag)


@pytest.mark.parametrize('flag', [
    2, -1, 0.5, '0', 'false', '', None, [], [0], {},
    float('nan'),
    pytest.param(BEYOND, id='beyond'),
    np.zeros(2)
])
def test_other_crowd_flags_are_refused(annotations, flag):
    annotations['annotations'] = broken(
        annotations['annotations'], 1, iscrowd=flag)
    with pytest.raises(
            InvalidValueError,
            match=r'`annotations\[1\]`: `iscrowd` must be 0 or 1'):
        ground_truth_from_coco(annotations)


@pytest.mark.parametrize('size', [
    None, 0, -1, '640', True,
    float('nan'),
    float('inf'), [640],
    pytest.param(BEYOND, id='beyond')
])
def test_a_placeholder_is_no_image_size(annotations, size):
    annotations['images'][0]['width'] = size
    sizes = ground_truth_from_coco(annotations).image_sizes
    assert np.isnan(sizes).tolist() == [[True, True], [False, False]]


def test_ids_may_be_texts_or_whole_floats(annotations, results):
    expected = match_detections(
        *_pair(annotations, results), iou_thr=0.5).status.tolist()
    for change in (float, lambda i: f'image {i}'):
        other, moved = copy.deepcopy(annotations), copy.deepcopy(results)
        for image in other['images']:
            image['id'] = change(image['id'])
        for record in other['annotations'] + moved:
            record['image_id'] = change(record['image_id'])
        status = match_detections(*_pair(other, moved), iou_thr=0.5).status
        assert status.tolist() == expected


def test_subset_of_images_and_classes(annotations):
    ground_truth = ground_truth_from_coco(
        annotations, image_ids=[2], category_ids=[7, 1])
    assert ground_truth.image_ids.tolist() == [2]
    assert ground_truth.category_ids.tolist() == [1, 7]
    assert ground_truth.category_names == ('a', 'c')
    assert ground_truth.num_objects.tolist() == [1, 1]
    assert ground_truth.image_index.tolist() == [0, 0]
    with pytest.raises(InvalidValueError, match=r'`category_ids\[0\]`'):
        ground_truth_from_coco(annotations, category_ids=[2])


def test_missing_sizes_names_and_crowd_flags_are_no_mistake(annotations):
    for image in annotations['images']:
        del image['width']
    for category in annotations['categories']:
        del category['name']
    for record in annotations['annotations']:
        del record['iscrowd'], record['id'], record['area']
    ground_truth = ground_truth_from_coco(annotations)
    assert np.isnan(ground_truth.image_sizes).all()
    assert ground_truth.category_names == ('1', '3', '7')
    assert not ground_truth.iscrowd.any()


def test_empty_lists(annotations):
    ground_truth = ground_truth_from_coco(annotations)
    assert len(detections_from_coco([], ground_truth)) == 0
    nothing = ground_truth_from_coco(
        dict(images=[], categories=[], annotations=[]))
    assert nothing.num_images == nothing.num_classes == 0
    assert len(detections_from_coco([], nothing)) == 0
    with pytest.raises(InvalidValueError, match='the 0 image ids'):
        detections_from_coco(load_golden('det_small_dt'), nothing)


def test_columns_of_unequal_length_are_refused(annotations):
    with pytest.raises(InvalidValueError, match=r'same length.*\(1, 1, 0, 1'):
        detections_from_arrays([1], [1], [], [0.5],
                               ground_truth_from_coco(annotations))


def test_inputs_are_not_changed(annotations, results):
    kept = copy.deepcopy((annotations, results))
    match_detections(*_pair(annotations, results), iou_thr=0.5)
    assert (annotations, results) == kept


def _pair(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    return ground_truth, detections_from_coco(results, ground_truth)
