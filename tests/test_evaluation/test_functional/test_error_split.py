import importlib
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (FALSE_POSITIVE, TRUE_POSITIVE,
                                            detections_from_coco,
                                            ground_truth_from_coco,
                                            match_detections)
from tcal_det.evaluation.functional.average_precision import average_precision
from tcal_det.evaluation.functional.error_split import (DETECTION_ERRORS,
                                                        ERROR_TYPES,
                                                        error_split)
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import load_golden
from tests.test_evaluation.test_functional.plain_error_split import \
    PlainErrorSplit

TIGHT = dict(rel=0, abs=1e-12, nan_ok=True)
SEEDS = st.integers(0, 2**32 - 1)


def split_records(annotations, results, iou_thr=0.5, background_iou_thr=0.1):
    ground_truth = ground_truth_from_coco(annotations)
    detections = detections_from_coco(results, ground_truth)
    matches = match_detections(ground_truth, detections, iou_thr)
    return error_split(ground_truth, detections, matches,
                       background_iou_thr), matches


@pytest.mark.parametrize('scene', load_golden('object_errors')['scenes'])
def test_equals_tidecv(scene, monkeypatch):
    """Values of tidecv 1.0.1, in percent, with its recall levels."""
    monkeypatch.setattr(
        importlib.import_module(error_split.__module__), 'RECALL_THRS',
        np.arange(101) / 100)
    split, _ = split_records(scene['annotations'], scene['results'],
                             scene['iou_thr'], scene['background_iou_thr'])
    expected = scene['tidecv']
    assert split.num_errors == expected['num_errors']
    assert 100 * split.ap == pytest.approx(expected['ap'], abs=1e-9)
    for name, gain in expected['d_ap'].items():
        assert 100 * split.d_ap[name] == pytest.approx(gain, abs=1e-9), name
    for name in ('d_ap_false_positive', 'd_ap_false_negative'):
        assert 100 * getattr(split, name) == pytest.approx(
            expected[name], abs=1e-9)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from([(0.5, 0.1), (0.75, 0.25), (0.3, 0.3)]))
def test_brute_force_with_ties_and_crowds(seed, thresholds):
    scene = random_scene(seed, num_images=4, max_objects=4, max_results=8)
    split, _ = split_records(*scene, *thresholds)
    plain = PlainErrorSplit(scene, *thresholds)
    for row, code in enumerate(split.error_type):
        name = DETECTION_ERRORS[code] if code >= 0 else None
        assert name == plain.type_of.get(row), row
    assert {
        annotation['id']
        for annotation, is_missed in zip(scene[0]['annotations'],
                                         split.is_missed) if is_missed
    } == set(plain.missed)
    assert split.ap == pytest.approx(plain.ap(), **TIGHT)
    for name in ERROR_TYPES:
        assert split.d_ap[name] == pytest.approx(
            plain.ap([name]) - plain.ap(), **TIGHT), name
    some = [name for k, name in enumerate(ERROR_TYPES) if seed >> k & 1]
    assert split.ap_when_fixed(some) == pytest.approx(plain.ap(some), **TIGHT)
    right_first, found_alone = plain.special_aps()
    assert split.d_ap_false_positive == pytest.approx(right_first - plain.ap(),
                                                      **TIGHT)
    assert split.d_ap_false_negative == pytest.approx(found_alone - plain.ap(),
                                                      **TIGHT)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from([0.3, 0.5, 0.75]))
def test_identities(seed, iou_thr):
    scene = random_scene(seed, fractions=seed % 2 == 0)
    split, matches = split_records(*scene, iou_thr)
    num_fp = (matches.status == FALSE_POSITIVE).sum()
    num_tp = (matches.status == TRUE_POSITIVE).sum()
    assert sum(split.num_errors[name] for name in DETECTION_ERRORS) == num_fp
    assert ((split.error_type
             >= 0) == (matches.status == FALSE_POSITIVE)).all()
    assert split.num_errors['missed'] == split.is_missed.sum()
    assert split.num_errors['missed'] <= matches.num_objects.sum() - num_tp
    for name, counts in split.per_class.items():
        assert counts.sum() == split.num_errors[name]
    assert not min(split.d_ap.values()) < 0
    assert not split.d_ap_false_positive < 0
    assert not split.d_ap_false_negative < 0
    everything = split.ap_when_fixed(ERROR_TYPES)
    assert everything == 1 or np.isnan(everything)
    # Without false positives, and with misses alone left, recall decides.
    no_fp = split.ap_when_fixed(DETECTION_ERRORS)
    assert no_fp >= split.ap + split.d_ap_false_positive - 1e-12 or np.isnan(
        no_fp)
    for fewer, more in itertools.combinations(range(len(ERROR_TYPES)), 2):
        low = split.ap_when_fixed(ERROR_TYPES[:fewer])
        assert not low > split.ap_when_fixed(ERROR_TYPES[:more]) + 1e-12


@pytest.mark.parametrize('seed', range(12))
def test_ap_is_that_of_pycocotools(seed):
    annotations, results = random_scene(seed)
    ground_truth = ground_truth_from_coco(annotations)
    detections = detections_from_coco(results, ground_truth)
    expected = average_precision(ground_truth, detections).overall
    for name, iou_thr in (('AP50', .5), ('AP75', .75)):
        matches = match_detections(ground_truth, detections, iou_thr)
        assert error_split(ground_truth, detections,
                           matches).ap == pytest.approx(
                               expected[name], **TIGHT)


def test_recall_levels_are_those_of_cocoeval():
    """35 * .01 is above 7 / 20: the 8th right one decides there."""
    annotations, results = grid_of_objects(20)
    del results[8:]
    results.insert(7, dict(results[0], bbox=[0, 90, 9, 9], score=.5))
    results[8]['score'] = .4
    split, _ = split_records(annotations, results)
    ground_truth = ground_truth_from_coco(annotations)
    expected = average_precision(ground_truth,
                                 detections_from_coco(results, ground_truth))
    assert split.ap == pytest.approx(expected.overall['AP50'], **TIGHT)
    assert split.ap == pytest.approx((35 + 6 * 8 / 9) / 101, **TIGHT)


def grid_of_objects(num_objects):
    """Objects of class 1 in a row, and a right box for each."""
    boxes = [[20 * i, 0, 10, 10] for i in range(num_objects)]
    annotations = dict(
        images=[dict(id=1)],
        categories=[dict(id=1), dict(id=2)],
        annotations=[
            dict(image_id=1, category_id=1, bbox=box) for box in boxes
        ])
    results = [
        dict(image_id=1, category_id=1, bbox=box, score=.9) for box in boxes
    ]
    return annotations, results


@pytest.mark.parametrize(
    'category_id, box, name',
    [
        (1, [0, 0, 10, 3], 'localization'),
        (1, [0, 0, 10, 1], 'localization'),  # IoU .1 exactly
        (2, [0, 0, 10, 5], 'classification'),  # IoU .5 exactly
        (2, [0, 0, 10, 3], 'both'),
        (2, [0, 0, 10, 1], 'background'),
        (1, [0, 0, 10, .9], 'background'),
        (1, [0, 50, 10, 10], 'background'),
    ])
def test_one_error_by_hand(category_id, box, name):
    annotations, results = grid_of_objects(1)
    results = [dict(results[0], category_id=category_id, bbox=box)]
    split, _ = split_records(annotations, results)
    repairs = name in ('localization', 'classification')
    expected = dict.fromkeys(ERROR_TYPES, 0)
    expected[name] = 1
    expected['missed'] = 0 if repairs else 1
    assert split.num_errors == expected
    assert split.ap == 0
    assert split.d_ap[name] == (1 if repairs else 0)
    column = {key: counts.tolist() for key, counts in split.per_class.items()}
    assert column.pop(name) == [int(category_id == 1), int(category_id == 2)]
    assert column.pop('missed', [0, 0]) == [expected['missed'], 0]
    assert set(map(tuple, column.values())) == {(0, 0)}


def test_duplicate_by_hand():
    annotations, results = grid_of_objects(2)
    results.insert(1, dict(results[0], score=.8))
    results[2]['score'] = .7
    split, _ = split_records(annotations, results)
    assert split.num_errors == dict(dict.fromkeys(ERROR_TYPES, 0), duplicate=1)
    # Precision 1 up to recall .5, of which there are 51 levels; then 2 / 3.
    ap = (51 + 50 * 2 / 3) / 101
    assert split.ap == pytest.approx(ap, **TIGHT)
    assert split.d_ap['duplicate'] == pytest.approx(1 - ap, **TIGHT)
    assert split.d_ap_false_positive == pytest.approx(1 - ap, **TIGHT)
    assert split.d_ap_false_negative == 0
    assert split.error_type.tolist() == [-1, 3, -1]


def test_iou_at_the_threshold_with_a_taken_object():
    """Both fit; localization is asked first, as in tidecv."""
    annotations, results = grid_of_objects(1)
    results.append(dict(results[0], bbox=[0, 0, 10, 5], score=.5))
    split, _ = split_records(annotations, results)
    assert split.num_errors == dict(
        dict.fromkeys(ERROR_TYPES, 0), localization=1)


def test_missed_by_hand():
    annotations, results = grid_of_objects(4)
    split, _ = split_records(annotations, results[:1])
    assert split.num_errors == dict(dict.fromkeys(ERROR_TYPES, 0), missed=3)
    assert split.ap == pytest.approx(26 / 101, **TIGHT)
    assert split.d_ap['missed'] == pytest.approx(75 / 101, **TIGHT)
    assert split.d_ap_false_negative == split.d_ap['missed']
    assert split.is_missed.tolist() == [False, True, True, True]


def test_one_error_of_several_takes_the_object():
    """The one of highest score; a Loc error may bar a Cls error from it."""
    annotations, results = grid_of_objects(1)
    annotations['annotations'].append(
        dict(image_id=1, category_id=2, bbox=[0, 60, 10, 10]))
    results = [
        dict(results[0], bbox=[0, 0, 10, 3], score=.8),
        dict(results[0], category_id=2, score=.7),
        dict(results[0], category_id=2, bbox=[0, 60, 10, 10], score=.6),
    ]
    split, _ = split_records(annotations, results)
    assert split.num_errors == dict(
        dict.fromkeys(ERROR_TYPES, 0), localization=1, classification=1)
    assert split.ap == .25
    assert split.d_ap['localization'] == .5
    # It is removed from class 2, and is not moved to class 1.
    assert split.d_ap['classification'] == .25
    assert split.ap_when_fixed(['classification', 'localization']) == 1


@pytest.mark.parametrize('taken, num_missed', [(0, 1), (1, 0)])
def test_error_between_two_objects_points_at_the_first(taken, num_missed):
    annotations, results = grid_of_objects(2)
    annotations['annotations'][1]['bbox'] = [10, 0, 10, 10]
    results = [
        dict(results[0], bbox=annotations['annotations'][taken]['bbox']),
        dict(results[0], bbox=[5, 0, 10, 10], score=.5)
    ]
    split, _ = split_records(annotations, results)
    assert split.num_errors == dict(
        dict.fromkeys(ERROR_TYPES, 0), localization=1, missed=num_missed)


def test_crowds_and_dropped_detections_are_no_errors():
    annotations, results = grid_of_objects(1)
    crowd = dict(image_id=1, category_id=1, bbox=[100, 0, 50, 50], iscrowd=1)
    annotations['annotations'].append(crowd)
    results += [dict(results[0], bbox=[110, 5, 10, 10], score=.95)] * 99
    results += [dict(results[0], bbox=[0, 50, 10, 10], score=.1)]
    split, _ = split_records(annotations, results)
    assert split.ap == 1 and set(split.num_errors.values()) == {0}
    assert set(split.error_type) == {-1}
    assert not split.is_missed.any()


@pytest.mark.parametrize('num_objects, ap', [(0, np.nan), (2, 0)])
def test_no_detections(num_objects, ap):
    split, _ = split_records(grid_of_objects(num_objects)[0], [])
    np.testing.assert_equal(split.ap, ap)
    assert split.num_errors == dict(
        dict.fromkeys(ERROR_TYPES, 0), missed=num_objects)
    # Without the objects missed no class is left.
    assert np.isnan(split.d_ap['missed'])
    np.testing.assert_equal(split.d_ap['both'], ap)


def test_classes_without_objects_have_errors_and_no_ap():
    annotations, results = grid_of_objects(1)
    results += [dict(results[0], category_id=2, bbox=[0, 60, 9, 9])]
    split, _ = split_records(annotations, results)
    assert split.ap == 1
    assert split.per_class['background'].tolist() == [0, 1]


def test_to_dict_is_json():
    split, _ = split_records(*random_scene(3))
    document = split.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert set(document) == {
        'iou_thr', 'background_iou_thr', 'ap', 'num_errors', 'd_ap',
        'd_ap_false_positive', 'd_ap_false_negative', 'per_class'
    }
    assert list(document['num_errors']) == list(ERROR_TYPES)
    assert list(document['d_ap']) == list(ERROR_TYPES)
    for name, counts in document.pop('per_class').items():
        assert counts == split.per_class[name].tolist()
    for name, value in document.items():
        assert value == getattr(split, name)


@pytest.mark.parametrize('threshold, error, words', [
    (0, InvalidValueError, r'background_iou_thr.*\(0, iou_thr\].*0\.5'),
    (.6, InvalidValueError, r'background_iou_thr.*\(0, iou_thr\].*0\.6'),
    (np.nan, InvalidValueError, 'background_iou_thr'),
    ('.1', InvalidTypeError, 'background_iou_thr'),
])
def test_bad_threshold(threshold, error, words):
    with pytest.raises(error, match=words):
        split_records(*grid_of_objects(1), background_iou_thr=threshold)


def test_matches_of_other_detections_are_refused():
    annotations, results = grid_of_objects(2)
    ground_truth = ground_truth_from_coco(annotations)
    detections = detections_from_coco(results, ground_truth)
    matches = match_detections(ground_truth, detections, .5)
    fewer = detections_from_coco(results[:1], ground_truth)
    with pytest.raises(InvalidValueError, match='same length.* 2 and 1'):
        error_split(ground_truth, fewer, matches)


def test_unknown_type_is_refused():
    split, _ = split_records(*grid_of_objects(1))
    with pytest.raises(InvalidValueError, match="'missed'.*got 'Cls'"):
        split.ap_when_fixed(['Cls'])
