import copy
import json
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError, UserError)
from tcal_det.evaluation.functional import (detections_from_coco,
                                            evaluate_detections,
                                            ground_truth_from_coco)
from tcal_det.evaluation.functional.average_precision import average_precision
from tcal_det.recalibration import (METHODS, SCORE_MAPS, Recalibration,
                                    fit_recalibration)

MONOTONE = [name for name in SCORE_MAPS if name != 'histogram']
pytestmark = pytest.mark.filterwarnings('ignore:undefined')


def over_confident_scene(seed, num_images=150):
    """Detections that are right as often as expit(logit(score) / 3 - 1).

    Those of class 5 nearly as often as they say. Categories are listed in
    an order that is not sorted.
    """
    rng = np.random.default_rng(seed)
    annotations = dict(
        images=[dict(id=i, width=100, height=100) for i in range(num_images)],
        categories=[dict(id=9, name='nine'),
                    dict(id=5, name='five')],
        annotations=[])
    results = []
    for image in range(num_images):
        for category in (9, 5):
            for row in range(5):
                box = [10.0, 20.0 * row, 20.0, 10.0]
                score = round(rng.uniform(0.05, 0.999), 4)
                chance = expit(logit(score) / 3 - 1)
                if category == 5:
                    chance = 0.9 * score
                if rng.uniform() < chance:
                    annotations['annotations'].append(
                        dict(
                            image_id=image,
                            category_id=category,
                            bbox=[*box[:3],
                                  float(rng.integers(7, 11))],
                            iscrowd=0))
                results.append(
                    dict(
                        image_id=image,
                        category_id=category,
                        bbox=box,
                        score=score,
                        note='kept'))
    return annotations, results


def fit(scene, **options):
    annotations, results = scene
    ground_truth = ground_truth_from_coco(annotations)
    return fit_recalibration(ground_truth,
                             detections_from_coco(results, ground_truth),
                             annotations['categories'], **options)


def measure(annotations, results, **options):
    ground_truth = ground_truth_from_coco(annotations)
    detections = detections_from_coco(results, ground_truth)
    figures = evaluate_detections(ground_truth, detections, **options).overall
    return dict(figures, **average_precision(ground_truth, detections).overall)


@pytest.fixture(scope='module')
def val():
    return over_confident_scene(0)


@pytest.fixture(scope='module')
def test():
    return over_confident_scene(1)


@pytest.mark.parametrize('method', SCORE_MAPS)
def test_calibration_error_falls_on_another_split(method, val, test):
    annotations, results = test
    before = measure(annotations, results)
    after = measure(annotations,
                    fit(val, method=method).apply_to_records(results))
    # A temperature cannot mend the bias, and no parameters fit a mixture.
    factor = dict(temperature=0.9, platt=0.5).get(method, 0.35)
    assert after['d_ece'] < factor * before['d_ece']


@pytest.mark.parametrize('classwise', [False, True])
@pytest.mark.parametrize('method', MONOTONE)
def test_ap_does_not_change(method, classwise, val, test):
    """AP counts the order inside a class alone."""
    annotations, results = test
    before = measure(annotations, results)
    calibration = fit(val, method=method, classwise=classwise)
    after = measure(annotations, calibration.apply_to_records(results))
    for key in ('mAP', 'AP50', 'AP75'):
        assert after[key] == before[key]


def test_isotonic_keeps_the_order_where_it_is_level(val):
    """A whole block of scores has one value; ties would cost AP."""
    score_map = fit(val, method='isotonic').score_map
    assert len(np.unique(score_map.values)) < 40
    level = np.flatnonzero(np.diff(score_map.values) == 0)[0]
    low, high = score_map.scores[level:level + 2]
    calibrated = score_map(np.linspace(low, high, 100))
    assert (np.diff(calibrated) > 0).all()
    assert calibrated[-1] - calibrated[0] < 1.1e-3


def test_target_precision_x_iou_mends_laece(val, test):
    annotations, results = test
    figures = {
        target:
        measure(
            annotations,
            fit(val, target=target, classwise=True).apply_to_records(results))
        for target in ('precision', 'precision_x_iou')
    }
    assert figures['precision_x_iou']['laece_0'] < (
        0.7 * figures['precision']['laece_0'])
    assert figures['precision']['d_ece'] < (
        0.7 * figures['precision_x_iou']['d_ece'])


def test_classwise_mends_classes_that_differ(val, test):
    annotations, results = test
    laece_0 = [
        measure(
            annotations,
            fit(val, target='precision_x_iou',
                classwise=classwise).apply_to_records(results))['laece_0']
        for classwise in (False, True)
    ]
    assert laece_0[1] < 0.6 * laece_0[0]


def test_labels_are_in_file_order(val):
    """Category 9 is label 0, although 5 is the smaller id."""
    calibration = fit(val, method='platt', classwise=True)
    nine, five = calibration.classes
    assert (nine.category_id, five.category_id) == (9, 5)
    assert nine.score_map.bias < -0.5 and nine.score_map.scale < 0.5
    assert five.score_map.scale > 0.5
    score = np.array([0.8, 0.8])
    expected = [nine.score_map(score)[0], five.score_map(score)[0]]
    assert calibration.recalibrate(score,
                                   np.array([0, 1]))[0].tolist() == expected
    records = [
        dict(image_id=0, category_id=key, bbox=[0, 0, 1, 1], score=0.8)
        for key in (9, 5)
    ]
    assert [one['score']
            for one in calibration.apply_to_records(records)] == expected


def test_detections_are_recalibrated_as_their_records_are(val, test):
    """For categories in any order, and maps that need the box size."""
    annotations, results = test
    ground_truth = ground_truth_from_coco(annotations)
    detections = detections_from_coco(results, ground_truth)
    sizes = {image['id']: (100, 100) for image in annotations['images']}
    for options in (dict(method='platt', classwise=True),
                    dict(method='size_platt'), dict(score_thr='lrp_optimal')):
        calibration = fit(val, **options)
        expected = detections_from_coco(
            calibration.apply_to_records(results, sizes), ground_truth)
        found = calibration.apply(detections, ground_truth)
        for field in ('image_index', 'class_index', 'boxes', 'scores'):
            assert (getattr(found, field) == getattr(expected, field)).all()
    assert len(found) < len(detections)


def test_detections_of_unknown_categories(val):
    annotations = dict(
        images=[dict(id=0)],
        categories=[dict(id=5), dict(id=7)],
        annotations=[])
    ground_truth = ground_truth_from_coco(annotations)
    record = dict(image_id=0, category_id=5, bbox=[0, 0, 1, 1], score=.5)
    calibration = fit(val, method='platt', classwise=True)
    known = detections_from_coco([record], ground_truth)
    assert calibration.apply(known, ground_truth).scores.tolist() == (
        calibration.classes[1].score_map(np.array([.5])).tolist())
    other = detections_from_coco([record, dict(record, category_id=7)],
                                 ground_truth)
    with pytest.raises(
            InvalidValueError,
            match=r'categories of the recalibration \(\[9, 5\]\), but got 7: '
    ):
        calibration.apply(other, ground_truth)
    with pytest.raises(InvalidValueError, match='width and height of every'):
        fit(val, method='size_platt').apply(known, ground_truth)
    with pytest.raises(InvalidTypeError, match='`detections` must be a Det'):
        calibration.apply([record], ground_truth)


def test_a_class_with_few_detections_takes_the_map_of_all(val):
    annotations, results = val
    few = [one for one in results if one['category_id'] == 9]
    few += [one for one in results if one['category_id'] == 5][:19]
    with pytest.warns(UserWarning, match='such as five'):
        calibration = fit((annotations, few), method='platt', classwise=True)
    assert calibration.classes[0].score_map is not None
    assert calibration.classes[1].score_map is None


def test_thresholds_are_chosen_on_one_split_and_used_on_another(val, test):
    calibration = fit(val, score_thr='lrp_optimal')
    annotations, results = val
    ground_truth = ground_truth_from_coco(annotations)
    report = evaluate_detections(
        ground_truth,
        detections_from_coco(results, ground_truth),
        score_thr='lrp_optimal')
    chosen = dict(zip((5, 9), report.score_thresholds))
    assert calibration.score_thresholds == chosen
    assert min(chosen.values()) > 0.05

    kept = [
        one for one in test[1] if one['score'] >= chosen[one['category_id']]
    ]
    applied = calibration.apply_to_records(test[1])
    assert [one['bbox'] for one in applied] == [one['bbox'] for one in kept]
    assert calibration.settings['detections'] == report.num_detections.sum()


def test_a_number_as_threshold(val):
    calibration = fit(val, score_thr=0.4, method='platt')
    assert calibration.score_thresholds == {9: 0.4, 5: 0.4}
    scores = np.array([0.4, np.nextafter(0.4, 0)])
    is_kept = calibration.recalibrate(scores, np.array([0, 1]))[1]
    assert is_kept.tolist() == [True, False]


def test_json_round_trip(val, tmp_path):
    calibration = fit(val, score_thr='lrp_optimal', classwise=True)
    path = tmp_path / 'calibration.json'
    path.write_text(json.dumps(calibration.to_json_dict()))
    assert Recalibration.from_file(str(path)) == calibration


def test_results_are_not_changed_and_other_fields_are_kept(val):
    results = copy.deepcopy(val[1][:50])
    calibrated = fit(val).apply_to_records(results)
    assert results == val[1][:50]
    assert {one['note'] for one in calibrated} == {'kept'}
    assert [one['score']
            for one in calibrated] != [one['score'] for one in results]


def test_empty_results(val):
    assert fit(val).apply_to_records([]) == []
    with pytest.raises(InvalidValueError, match='none counts'):
        fit((val[0], []))
    with pytest.raises(InvalidValueError, match='above the score threshold'):
        fit(val, score_thr=1.0)


@pytest.mark.parametrize('change, message', [
    (dict(score=1.5), r'results\[1\]`: `score`'),
    (dict(score=float('nan')), r'results\[1\]`: `score`'),
    (dict(category_id=7), r'results\[1\]`: `category_id`'),
    (dict(bbox=[0, 0, -1, 2]), r'results\[1\]`: `bbox`'),
    (dict(image_id=[1]), r'image'),
])
def test_bad_records(val, change, message):
    results = [dict(one) for one in val[1][:3]]
    results[1].update(change)
    with pytest.raises((InvalidValueError, TypeError), match=message):
        fit(val).apply_to_records(results)


@pytest.mark.parametrize('options, message', [
    (dict(method='spline'), '`method`'),
    (dict(target='recall'), '`target`'),
    (dict(iou_thr=1.0), '`iou_thr`'),
    (dict(score_thr=2), '`score_thr`'),
    (dict(score_thr='best'), '`score_thr`'),
])
def test_bad_options(val, options, message):
    with pytest.raises(InvalidValueError, match=message):
        fit(val, **options)


@pytest.mark.parametrize('label', [2, -1])
def test_label_of_no_class(val, label):
    """-1 would be the last class to numpy."""
    with pytest.raises(
            InvalidValueError, match=f'labels must be below 2.*got {label}'):
        fit(val).recalibrate(np.array([0.5, 0.5]), np.array([0, label]))


@pytest.mark.parametrize('score', [float('nan'), -0.1, 1.1])
def test_score_outside_the_unit_interval(val, score):
    with pytest.raises(InvalidValueError, match=r'`scores` must be in \[0, 1'):
        fit(val).recalibrate(np.array([0.5, score]), np.array([0, 0]))


@pytest.mark.parametrize('count, has_own_map', [(19, False), (20, True)])
def test_a_map_of_its_own_from_20_detections_on(val, count, has_own_map):
    annotations, results = val
    some = [one for one in results if one['category_id'] == 9]
    some += [one for one in results if one['category_id'] == 5][:count]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        calibration = fit((annotations, some), method='platt', classwise=True)
    assert (calibration.classes[1].score_map is not None) == has_own_map


def test_numpy_number_as_threshold(val):
    calibration = fit(val, score_thr=np.float32(0.5), method='platt')
    assert calibration.score_thresholds == {9: 0.5, 5: 0.5}


def test_bad_files(tmp_path):
    with pytest.raises(MissingFileError):
        Recalibration.from_file(str(tmp_path / 'gone.json'))
    for content in ('[]', '{"classes": []}', '{"a', '3', 'null', '"text"'):
        path = tmp_path / 'bad.json'
        path.write_text(content)
        with pytest.raises(InvalidValueError, match='bad.json'):
            Recalibration.from_file(str(path))


def changed(content, keys, value):
    """A copy with another value at a path."""
    content = copy.deepcopy(content)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return content


@pytest.mark.parametrize('keys, value, message', [
    (['settings'], 3, '`settings` must be an object'),
    (['more'], 3, "keys .'settings', 'recalibrator', 'classes'.*'more'"),
    (['recalibrator'], None, '`recalibrator`: a score map must be'),
    (['recalibrator'], [], '`recalibrator`: a score map must be'),
    (['recalibrator', 'type'], 7, '`recalibrator`: a score map must be'),
    (['recalibrator', 'scale'
      ], -1, r'`recalibrator`.*`scale`.*\(0, inf\).*-1'),
    (['recalibrator', 'scale'], True, '`recalibrator`.*`scale`.*bool'),
    (['classes'], {}, '`classes` must be a list'),
    (['classes'], [], '`classes` must be a list of at least one'),
    (['classes', 1], 5, r'`classes\[1\]`: a class must be an object'),
    (['classes', 1, 'more'], 5, r"`classes\[1\]`.*keys.*'more'"),
    (['classes', 1, 'category_id'], 9, '`category_id`.*differ.*9 twice'),
    (['classes', 1, 'category_id'], 9.0, '`category_id`.*differ.*9.0 twice'),
    (['classes', 1, 'category_id'], 5.5, r'classes\[1\]`: `category_id`.*5.5'),
    (['classes', 1, 'category_id'], True, '`category_id`.*True'),
    (['classes', 1, 'category_id'], None, '`category_id`.*None'),
    (['classes', 1, 'category_id'], float('nan'), '`category_id`.*nan'),
    (['classes', 1, 'category_id'], [5], r'`category_id`.*\[5\]'),
    (['classes', 1, 'category_id'], 'five', '`category_id`.*all'),
    (['classes', 1, 'name'], None, '`name` must be a text.*None'),
    (['classes', 1, 'score_thr'], 1.5, r'`score_thr`.*\[0, 1\].*1.5'),
    (['classes', 1, 'score_thr'], -0.1, '`score_thr`.*-0.1'),
    (['classes', 1, 'score_thr'], '0.5', "`score_thr`.*'0.5'"),
    (['classes', 1, 'score_thr'], True, '`score_thr`.*bool'),
    (['classes', 1, 'score_thr'], float('nan'), '`score_thr`.*nan'),
    (['classes', 1, 'recalibrator'
      ], {}, r'classes\[1\]`: `recalibrator`.*map'),
    (['classes', 1, 'recalibrator'
      ], 0, r'classes\[1\]`: `recalibrator`.*got 0'),
    (['classes', 1, 'recalibrator'], '', r'classes\[1\]`: `recalibrator`'),
    (['classes', 1, 'recalibrator', 'bias'], '1', '`bias` must be a finite'),
])
def test_a_wrong_value_in_a_file(val, tmp_path, keys, value, message):
    """One line: the file, the key, what is allowed, given, and the remedy."""
    content = fit(val, method='platt', classwise=True).to_json_dict()
    path = tmp_path / 'calibration.json'
    path.write_text(json.dumps(changed(content, keys, value)))
    with pytest.raises(InvalidValueError, match=message) as caught:
        Recalibration.from_file(str(path))
    line = str(caught.value)
    assert 'tcal-recalibrate fit' in line and "calibration.json'" in line
    assert '\n' not in line and len(line) < 600


@pytest.mark.parametrize('keys', [
    ['settings'],
    ['recalibrator'],
    ['classes'],
    ['recalibrator', 'bias'],
    ['classes', 0, 'category_id'],
    ['classes', 0, 'name'],
    ['classes', 0, 'score_thr'],
    ['classes', 0, 'recalibrator'],
])
def test_a_missing_key_in_a_file(val, keys):
    content = fit(val, method='platt', classwise=True).to_json_dict()
    content = json.loads(json.dumps(content))
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    with pytest.raises(InvalidValueError, match='keys.*tcal-recalibrate fit'):
        Recalibration.from_json_dict(content)


def test_texts_as_category_ids(val):
    content = fit(val, method='platt').to_json_dict()
    for one in content['classes']:
        one['category_id'] = one['name']
    read = Recalibration.from_json_dict(content)
    assert list(read.score_thresholds) == ['nine', 'five']


@pytest.mark.parametrize('ids', [(2**53 + 1, 2**53), (2**64 + 1, 3.0),
                                 (10**30, -1)])
def test_ids_of_categories_are_compared_exactly(ids, val, test, tmp_path):
    """As floats they would be one category, or in another order."""

    def with_ids(scene):
        annotations, results = copy.deepcopy(scene)
        new_id = dict(zip((9, 5), ids))
        for one in annotations['categories']:
            one['id'] = new_id[one['id']]
        for one in annotations['annotations'] + results:
            one['category_id'] = new_id[one['category_id']]
        return annotations, results

    plain = fit(val, classwise=True, score_thr=0.2, method='platt')
    expected = plain.apply_to_records(test[1])
    path = tmp_path / 'calibration.json'
    path.write_text(
        json.dumps(
            fit(with_ids(val), classwise=True, score_thr=0.2,
                method='platt').to_json_dict()))
    found = Recalibration.from_file(str(path)).apply_to_records(
        with_ids(test)[1])
    assert [one['score']
            for one in found] == [one['score'] for one in expected]


@pytest.mark.parametrize('image_id', [1.5, None, True, float('inf'), [1], 'a'])
def test_a_wrong_image_is_named_by_its_record(image_id, val):
    """Its images are those that the results name, but not any value."""
    results = [dict(val[1][0]), dict(val[1][0], image_id=image_id)]
    with pytest.raises(InvalidValueError, match=r'`results\[1\]`: `image_id`'):
        fit(val).apply_to_records(results)


# What JSON can hold, NaN and infinities of Python's reader included.
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5)


def places(content, path=()):
    """Path of everything in a file."""
    items = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.parametrize('method', METHODS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_corrupted_file_fails_in_one_line_or_is_a_calibration(
        method, val, data):
    content = json.loads(
        json.dumps(
            fit(val, method=method, classwise=True,
                score_thr='lrp_optimal').to_json_dict()))
    keys = data.draw(st.sampled_from(list(places(content))))
    value = data.draw(JSON)
    corrupted = changed(content, keys, value)
    try:
        read = Recalibration.from_json_dict(corrupted)
    except UserError as error:
        line = str(error)
        assert '\n' not in line and 'tcal-recalibrate fit' in line
        return
    scores = np.linspace(0, 1, 301)
    for label in range(2):
        # Boxes of one area: a map that depends on it keeps their order.
        calibrated, _ = read.recalibrate(scores, np.full(301, label),
                                         np.full(301, 0.1))
        assert np.isfinite(calibrated).all()
        assert calibrated.min() >= 0 and calibrated.max() <= 1
        if method != 'histogram':
            assert (np.diff(calibrated) >= 0).all()
    assert read == Recalibration.from_json_dict(
        json.loads(json.dumps(read.to_json_dict()))) or keys[0] == 'settings'
