import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (BY_KEY, FIGURES,
                                            detection_calibration_error,
                                            detections_from_coco,
                                            evaluate_detections,
                                            ground_truth_from_coco, laece,
                                            match_detections, scoring_rules)
from tcal_det.fileio import plain_json
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import (load_golden,
                                                                load_scene)

# Figures that are not COCO's AP and AR.
CALIBRATION = [
    figure.key for figure in FIGURES
    if figure.overall and not figure.key.startswith(('mAP', 'AP', 'AR'))
]
TIGHT = dict(rel=0, abs=1e-12, nan_ok=True)
KEYS = ('d_ece d_ece_over d_ece_under d_ece_coverage laece laece_0 laace_0 '
        'lrp_0 lrp_0_loc lrp_0_fp lrp_0_fn olrp olrp_loc olrp_fp '
        'olrp_fn').split()
pytestmark = pytest.mark.filterwarnings('ignore:undefined')


def evaluate_records(annotations, results, **options):
    ground_truth = ground_truth_from_coco(annotations)
    return evaluate_detections(ground_truth,
                               detections_from_coco(results, ground_truth),
                               **options)


@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_golden(name):
    expected = load_golden(name)['expected']
    report = evaluate_detections(*load_scene(name))
    d_ece = expected['dece_tau0.5']['conf_b10_right']
    lrp_0, olrp_5 = expected['lrp_tau0'], expected['olrp_tau0.5']
    values = dict(
        d_ece=d_ece['value'],
        d_ece_over=d_ece['over'],
        d_ece_under=d_ece['under'],
        d_ece_coverage=d_ece['coverage'],
        laece=expected['laece_tau0.1_b25']['value'],
        laece_0=expected['laece0_b25']['value'],
        laace_0=expected['laace0']['value'],
        lrp_0=lrp_0['mean']['lrp'],
        lrp_0_loc=lrp_0['mean']['loc'],
        lrp_0_fp=lrp_0['mean']['fp'],
        lrp_0_fn=lrp_0['mean']['fn'],
        olrp=olrp_5['mean']['olrp'],
        olrp_loc=olrp_5['mean']['loc'],
        olrp_fp=olrp_5['mean']['fp'],
        olrp_fn=olrp_5['mean']['fn'])
    assert sorted(values) == sorted(KEYS)
    assert {
        k: report.overall[k]
        for k in KEYS
    } == pytest.approx(values, **TIGHT)
    for row in report.per_class:
        key = str(row['category_id'])
        assert row['laece'] == pytest.approx(
            expected['laece_tau0.1_b25']['per_class'][key], **TIGHT)
        assert row['laece_0'] == pytest.approx(
            expected['laece0_b25']['per_class'][key], **TIGHT)
        assert row['laace_0'] == pytest.approx(
            expected['laace0']['per_class'][key], **TIGHT)
        assert row['lrp_0'] == pytest.approx(lrp_0['per_class'][key]['lrp'],
                                             **TIGHT)
        assert row['olrp'] == pytest.approx(olrp_5['per_class'][key]['olrp'],
                                            **TIGHT)
        assert row['olrp_threshold'] == pytest.approx(
            olrp_5['per_class'][key]['threshold'], **TIGHT)


def test_counts_of_the_small_scene():
    report = evaluate_detections(*load_scene('det_small'))
    assert report.counts == dict(
        images=2,
        classes=3,
        classes_with_objects=3,
        objects=5,
        crowds=1,
        detections=8,
        true_positives=5,
        false_positives=2,
        ignored=1,
        dropped=0)
    assert [row['num_detections'] for row in report.per_class] == [5, 1, 1]


def test_brier_and_nll_of_the_small_scene():
    # counted: .92 tp, .83 fp, .72 tp, .35 fp, .76 tp | .55 tp | 1.0 tp
    report = evaluate_detections(*load_scene('det_small'))
    scores = [.92, .83, .72, .35, .76, .55, 1.0]
    is_tp = [1, 0, 1, 0, 1, 1, 1]
    assert report.overall['brier'] == pytest.approx(
        scoring_rules.binary_brier_score(scores, is_tp))
    assert report.overall['nll'] == pytest.approx(
        scoring_rules.binary_negative_log_likelihood(scores, is_tp))
    assert report.per_class[1]['brier'] == pytest.approx(0.45**2)
    assert report.per_class[1]['nll'] == pytest.approx(-np.log(0.55))
    assert report.per_class[2]['nll'] == 0


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.3, 'lrp_optimal']))
def test_overall_figures_follow_from_rows_and_tables(seed, score_thr):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        report = evaluate_records(*random_scene(seed), score_thr=score_thr)
    rows, overall = report.per_class, report.overall
    for key in ('laece', 'laece_0', 'laace_0', 'lrp_0', 'lrp_0_loc',
                'lrp_0_fp', 'lrp_0_fn', 'olrp', 'olrp_loc', 'olrp_fp',
                'olrp_fn'):
        values = [row[key] for row in rows if not np.isnan(row[key])]
        mean = np.mean(values) if values else np.nan
        assert overall[key] == pytest.approx(mean, **TIGHT), key
    document = report.to_dict()
    for name, key in (('d_ece', 'd_ece'), ('d_ece_position', ) * 2):
        table = document['bins']['overall'][name]
        count = np.array(table['count'])
        used = count >= (8 if name == 'd_ece_position' else 1)
        gap = np.abs(
            np.array(table['mean_confidence']) -
            np.array(table['mean_target']))
        if used.any():
            ece = (count * gap)[used].sum() / count.sum()
            assert overall[key] == pytest.approx(ece, **TIGHT)
    for name in ('d_ece', 'laece', 'laece_0'):
        for row, tables in zip(rows, document['bins']['per_class']):
            table = tables[name]
            count = np.array(table['count'])
            gap = np.abs(
                np.array(table['mean_confidence']) -
                np.array(table['mean_target']))
            if not np.isnan(row[name]):
                ece = np.nansum(count * gap) / count.sum()
                assert row[name] == pytest.approx(ece, **TIGHT)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_order_of_images_and_classes_has_no_influence(seed):
    annotations, results = random_scene(seed)
    expected = evaluate_records(annotations, results)
    moved = dict(
        annotations,
        images=annotations['images'][::-1],
        categories=annotations['categories'][::-1])
    # stable by image: the order inside an image decides between ties
    by_image = sorted(results, key=lambda record: -record['image_id'])
    report = evaluate_records(moved, by_image)
    assert report.overall == pytest.approx(expected.overall, **TIGHT)
    for ours, theirs in zip(report.per_class, expected.per_class):
        assert ours == pytest.approx(theirs, **TIGHT) or ours == theirs


def test_perfect_detections_give_0_everywhere():
    annotations, _ = random_scene(4)
    annotations['annotations'] = [
        dict(record, iscrowd=0, bbox=[5 * i % 37, 7 * i % 23, 4 + i, 3 + i])
        for i, record in enumerate(annotations['annotations'])
    ]
    results = [
        dict(
            image_id=r['image_id'],
            category_id=r['category_id'],
            bbox=r['bbox'],
            score=1.0) for r in annotations['annotations']
    ]
    overall = evaluate_records(
        annotations, results, position_min_samples=1).overall
    assert overall['mAP'] == overall['AR_100'] == 1
    # Objects lie on each other, so their OCE is not 0.
    for key in set(CALIBRATION) - {'oce', 'brier_dsc', 'brier_unc'}:
        best = dict(lower=0, higher=1)[BY_KEY[key].better]
        is_undefined = np.isnan(overall[key])
        assert overall[key] == best or (is_undefined
                                        and BY_KEY[key].is_often_undefined)


def test_empty_results_give_nan_and_lrp_1():
    ground_truth, _ = load_scene('det_small')
    nothing = detections_from_coco([], ground_truth)
    for score_thr in (None, 0.3, 'lrp_optimal'):
        with pytest.warns(UserWarning, match='no detection is counted: d_ece'):
            report = evaluate_detections(ground_truth, nothing, score_thr)
        overall = report.overall
        ones = {'lrp_0', 'lrp_0_fn', 'olrp', 'olrp_fn', 'oce'}
        assert {k for k, v in overall.items() if v == 1} == ones
        assert all(np.isnan(overall[k]) for k in CALIBRATION if k not in ones)
        assert overall['mAP'] == 0
        text = json.dumps(plain_json(report.to_dict()), allow_nan=False)
        assert json.loads(text)['overall']['d_ece'] is None


def test_nothing_at_all_gives_nan():
    nothing = dict(images=[], categories=[], annotations=[])
    with pytest.warns(UserWarning, match='as there is no object'):
        report = evaluate_records(nothing, [])
    assert np.isnan(list(report.overall.values())).all()
    assert report.per_class == []


def test_a_high_threshold_may_leave_nothing():
    results = [
        dict(record, score=0.9 * record['score'])
        for record in load_golden('det_ties_dt')
    ]
    report = evaluate_records(
        load_golden('det_ties_gt'), results, score_thr=1.0)
    assert np.isnan(report.overall['d_ece'])
    assert report.overall['lrp_0'] == 1


def test_lrp_optimal_thresholds_are_those_of_lrp_at_0():
    ground_truth, detections = load_scene('det_ties')
    report = evaluate_detections(ground_truth, detections, 'lrp_optimal')
    expected = load_golden('det_ties')['expected']['olrp_tau0']
    assert report.score_thresholds.tolist() == [
        expected['per_class'][k]['threshold'] for k in ('1', '2')
    ]
    # what is left has exactly that least LRP
    assert report.overall['lrp_0'] == pytest.approx(expected['mean']['olrp'],
                                                    **TIGHT)
    # the same thresholds, stored and given back as JSON would
    stored = {'1': 0.5, 2: 0.7}
    again = evaluate_detections(ground_truth, detections, stored)
    assert again.overall == pytest.approx(report.overall, **TIGHT)


def test_class_without_a_threshold_keeps_everything_and_warns():
    # Elsewhere `score < nan` is False and nobody is told.
    ground_truth, detections = load_scene('det_small')
    with pytest.warns(UserWarning, match=r'2 class\(es\) \(such as a, c\)'):
        report = evaluate_detections(ground_truth, detections, {
            3: 0.9,
            1: None
        })
    assert [row['num_detections'] for row in report.per_class] == [5, 0, 1]
    # class 7 without any true positive has no LRP-optimal threshold
    annotations = load_golden('det_small_gt')
    annotations['annotations'].pop()
    with pytest.warns(UserWarning, match=r'1 class\(es\) \(such as c\)'):
        report = evaluate_records(
            annotations, load_golden('det_small_dt'), score_thr='lrp_optimal')
    assert report.per_class[2]['num_detections'] == 1
    assert np.isnan(report.score_thresholds[2])


def test_thresholds_follow_category_ids_not_file_order():
    # fiveai looks sorted thresholds up by the order of the file.
    annotations = load_golden('det_ties_gt')
    results = load_golden('det_ties_dt')
    expected = evaluate_records(
        annotations, results, score_thr='lrp_optimal').overall
    annotations['categories'].reverse()
    assert evaluate_records(
        annotations, results,
        score_thr='lrp_optimal').overall == pytest.approx(expected, **TIGHT)


def test_images_without_size_lose_the_position_figures_only():
    annotations = load_golden('det_small_gt')
    for image in annotations['images']:
        del image['width']
    with pytest.warns(UserWarning, match='without width and height: d_ece_p'):
        report = evaluate_records(annotations, load_golden('det_small_dt'))
    assert report.d_ece_position is None
    assert 'd_ece_position' not in report.bins
    assert np.isnan(report.overall['d_ece_position'])
    assert report.overall['d_ece'] == pytest.approx(0.31857142857142856)


def test_position_error_without_a_used_cell_is_not_called_perfect():
    with pytest.warns(UserWarning, match='no cell of score and position'):
        report = evaluate_detections(*load_scene('det_small'))
    assert np.isnan(report.overall['d_ece_position'])
    assert report.overall['d_ece_position_coverage'] == 0
    assert report.d_ece_position.ece == 0  # netcal's value


@pytest.mark.parametrize('options, error, pattern', [
    (dict(score_thr='best'), InvalidValueError, "'lrp_optimal'.*'best'"),
    (dict(score_thr=1.5), InvalidValueError, '1.5'),
    (dict(score_thr=[0.5]), InvalidTypeError, 'score_thr'),
    (dict(score_thr={1: 2.0}), InvalidValueError, r'score_thr\[1\].*2.0'),
    (dict(score_thr={1: 'x'}), InvalidTypeError, r'score_thr\[1\]'),
    (dict(score_thr={5: 0.5}), InvalidValueError, 'category ids.*got 5'),
    (dict(laece_iou_thr=1), InvalidValueError, '`laece_iou_thr`'),
    (dict(d_ece_bins=0), InvalidValueError, '`d_ece_bins`'),
    (dict(d_ece_bins=10**9), InvalidValueError,
     r'`d_ece_bins` must be in \[1, 1000\], but got 1000000000'),
    (dict(laece_bins=1001), InvalidValueError,
     r'`laece_bins` must be in \[1, 1000\], but got 1001'),
    (dict(position_bins=101), InvalidValueError,
     r'`position_bins` must be in \[1, 100\], but got 101'),
    (dict(closed='top'), InvalidValueError, '`closed`'),
    (dict(zero_iou='top'), InvalidValueError, '`zero_iou`'),
])
def test_options_are_checked(options, error, pattern):
    with pytest.raises(error, match=pattern):
        evaluate_detections(*load_scene('det_small'), **options)


def test_cells_of_all_classes_fit_the_memory():
    ground_truth = ground_truth_from_coco(
        dict(
            images=[],
            categories=[dict(id=k) for k in range(80)],
            annotations=[]))
    nothing = detections_from_coco([], ground_truth)
    # 50^3 * 80 = 10^7.
    with pytest.raises(
            InvalidValueError,
            match=r'`position_bins` must be in \[1, 50\], but got 51'):
        evaluate_detections(ground_truth, nothing, position_bins=51)


def test_no_class_at_all_is_not_room_for_a_billion_bins():
    """Cells of all classes together are none, the edges are a billion."""
    nothing = ground_truth_from_coco(
        dict(images=[], categories=[], annotations=[]))
    matches = match_detections(nothing, detections_from_coco([], nothing), 0.5)
    for figure in (detection_calibration_error, laece):
        with pytest.raises(
                InvalidValueError, match=r'`num_bins` must be in \[1, 1000\]'):
            figure(matches, 10**9)


def test_report_is_printed_as_a_table():
    report = evaluate_detections(*load_scene('det_small'))
    first, *rows = str(report).splitlines()
    counts = report.counts
    assert first == (
        f'{counts["detections"]} detections of {counts["classes"]} classes in '
        f'{counts["images"]} images with {counts["objects"]} objects')
    # By hand, see the notes in det_small.json.
    d_ece, = (row for row in rows if row.startswith('D-ECE '))
    assert d_ece.split() == ['D-ECE', format(2.23 / 7, '.4f')]
    assert report.table() == str(report)


@pytest.mark.parametrize(
    'options, kept',
    [
        (dict(score_thr=0.0), lambda counts: counts['detections']),
        # One has this score.
        (dict(score_thr=1.0), lambda counts: 1),
        (dict(score_thr=0.0, max_dets=1),
         lambda counts: counts['detections'] - counts['dropped']),
    ])
def test_table_says_how_many_detections_a_threshold_keeps(options, kept):
    report = evaluate_detections(*load_scene('det_small'), **options)
    first, *_ = str(report).splitlines()
    assert first.endswith(f' objects, {kept(report.counts)} of them kept by '
                          'the score threshold and `max_dets`')


def test_numbers_of_numpy_are_numbers():
    plain = dict(
        score_thr=0.25,
        max_dets=10,
        d_ece_iou_thr=0.5,
        d_ece_bins=5,
        laece_iou_thr=0.125,
        laece_bins=20,
        olrp_iou_thr=0.75,
        position_bins=2,
        position_min_samples=1)
    numpys = {
        name: np.int64(value) if isinstance(value, int) else np.float32(value)
        for name, value in plain.items()
    }
    scene = load_golden('det_small_gt'), load_golden('det_small_dt')
    expected = evaluate_records(*scene, **plain).to_dict()
    assert expected['counts']['true_positives'] > 0
    found = evaluate_records(*scene, **numpys).to_dict()
    np.testing.assert_equal(found, expected)
    by_class = {
        np.int64(one['id']): np.float32(0.25)
        for one in scene[0]['categories']
    }
    found = evaluate_records(*scene, **dict(numpys, score_thr=by_class))
    np.testing.assert_equal(found.to_dict()['overall'], expected['overall'])
