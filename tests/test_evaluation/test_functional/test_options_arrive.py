"""Options reach what they are for, and a wrong one is named."""
import warnings

import numpy as np
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (
    BY_KEY, BinGrid, BinTable, adaptive_calibration_error,
    adaptive_top_label_calibration_error, bin_index, binary_brier_score,
    brier_score, calibration_error, classwise_calibration_error,
    detection_calibration_error, detections_from_coco, evaluate_detections,
    ground_truth_from_coco, laace, laece, match_detections,
    relative_box_features, top_label)
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import load_scene

ALONE = [[.8, .2], [.4, .6], [.3, .7]]


def quietly(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return call(*args, **kwargs)


def scene():
    return load_scene('det_small')


def matches(iou_thr=0.1):
    return match_detections(*scene(), iou_thr)


@pytest.mark.parametrize('seed', range(4))
def test_row_of_a_class_is_what_the_class_alone_gives(seed):
    annotations, results = random_scene(seed)
    ground_truth = ground_truth_from_coco(annotations)
    whole = quietly(evaluate_detections, ground_truth,
                    detections_from_coco(results, ground_truth))
    for row in whole.per_class:
        one = ground_truth_from_coco(
            annotations, category_ids=[row['category_id']])
        alone = quietly(
            evaluate_detections, one,
            detections_from_coco(
                [r for r in results if r['category_id'] == row['category_id']],
                one))
        # Detections of other classes on an object are part of its OCE.
        keys = [
            key for key in alone.overall
            if key != 'oce' and BY_KEY[key].of_class is not None
        ]
        assert len(keys) > 30 and set(keys) < set(row)
        np.testing.assert_allclose([row[key] for key in keys],
                                   [alone.overall[key] for key in keys],
                                   rtol=1e-12,
                                   err_msg=str(keys))
        counts = alone.counts
        assert row['num_objects'] == counts['objects']
        assert row['num_detections'] == (
            counts['true_positives'] + counts['false_positives'])


def test_settings_are_the_options():
    options = dict(
        score_thr=0.25,
        max_dets=7,
        zero_iou='accept',
        closed='left',
        d_ece_iou_thr=0.6,
        d_ece_bins=5,
        laece_iou_thr=0.2,
        laece_bins=6,
        olrp_iou_thr=0.7,
        position_bins=3,
        position_min_samples=2)
    report = quietly(evaluate_detections, *scene(), **options)
    assert report.settings == options
    assert report.lrp_0.iou_thr == 0 and report.olrp.iou_thr == 0.7
    assert len(report.d_ece.bins.count) == 5
    for error in (report.laece, report.laece_0):
        assert len(error.bins.count) == 6
    assert report.d_ece_position.bins.count.shape == (3, 3, 3)
    for error in (report.d_ece, report.d_ece_position, report.laece,
                  report.laece_0):
        assert error.bins.closed == 'left'
        assert all(one.bins.closed == 'left' for one in error.per_class)
    matches_0 = match_detections(*scene(), 0., 7, 'accept').above(0.25)
    for error, other in ((report.laece,
                          laece(
                              match_detections(*scene(), 0.2, 7).above(0.25),
                              6, 'left')), (report.laece_0,
                                            laece(matches_0, 6, 'left'))):
        assert error.laece == other.laece
    bins = report.d_ece_position.bins
    used = bins.count >= 2
    assert report.d_ece_position.num_used == used.sum()


def test_defaults_are_the_documented_ones():
    assert evaluate_detections(*scene()).settings == dict(
        score_thr=None,
        max_dets=100,
        zero_iou='reject',
        closed='right',
        d_ece_iou_thr=0.5,
        d_ece_bins=10,
        laece_iou_thr=0.1,
        laece_bins=25,
        olrp_iou_thr=0.5,
        position_bins=8,
        position_min_samples=8)
    assert len(calibration_error([.5], [1]).bins.count) == 15
    assert calibration_error([.5], [1]).bins.closed == 'right'
    classwise = classwise_calibration_error(ALONE, [0, 1, 0]).per_class[0]
    assert len(classwise.bins.count) == 15 and classwise.bins.closed == 'right'
    assert adaptive_calibration_error(ALONE, [0, 1, 0]).count.shape == (2, 15)
    assert len(detection_calibration_error(matches()).bins.count) == 10
    assert len(laece(matches()).bins.count) == 25
    assert matches().num_classes == 3
    assert detection_calibration_error(
        matches()).num_used == (detection_calibration_error(
            matches()).bins.count > 0).sum()


def test_reasons_for_undefined_figures():
    ground_truth, detections = scene()
    with pytest.warns(
            UserWarning,
            match='score and position or size holds 8 detections'):
        evaluate_detections(ground_truth, detections)
    record = dict(category_id=1, image_id=1, bbox=[900, 900, 5, 5], score=.5)
    with pytest.warns(UserWarning, match='as there is no true positive'):
        evaluate_detections(ground_truth,
                            detections_from_coco([record] * 9, ground_truth))


@pytest.mark.parametrize('name, value',
                         [('d_ece_iou_thr', 1.), ('laece_iou_thr', 1.),
                          ('olrp_iou_thr', 1.), ('d_ece_bins', 0),
                          ('d_ece_bins', 1001), ('laece_bins', 0),
                          ('laece_bins', 1001), ('position_bins', 0),
                          ('position_bins', 101), ('position_min_samples', 0),
                          ('max_dets', 0), ('closed', 'both'),
                          ('zero_iou', 'maybe'), ('score_thr', -.1),
                          ('score_thr', 1.1)])
def test_option_out_of_range_is_named(name, value):
    with pytest.raises(InvalidValueError, match=f'^`{name}`'):
        evaluate_detections(*scene(), **{name: value})


@pytest.mark.parametrize('call, name', [
    (lambda: brier_score([[2., 0.]], [0]), 'probs'),
    (lambda: brier_score([[.5, .5]], [2]), 'labels'),
    (lambda: brier_score([.5, .5], [1]), 'probs'),
    (lambda: top_label([[2., 0.]], [0]), 'probs'),
    (lambda: top_label([[.5, .5]], [2]), 'labels'),
    (lambda: binary_brier_score([2.], [0]), 'scores'),
    (lambda: binary_brier_score([.5], [2]), 'is_positive'),
    (lambda: binary_brier_score([.5], [.5]), 'is_positive'),
    (lambda: binary_brier_score([.5], []), 'scores` and `is_positive'),
    (lambda: calibration_error([2.], [0]), 'confidence'),
    (lambda: calibration_error([.5], [2]), 'correct'),
    (lambda: calibration_error([.5], []), 'confidence` and `correct'),
    (lambda: calibration_error([.5], [1], 0), 'num_bins'),
    (lambda: calibration_error([.5], [1], closed='x'), 'closed'),
    (lambda: adaptive_calibration_error(ALONE, [0, 1, 0], 0), 'num_ranges'),
    (lambda: adaptive_calibration_error(ALONE, [0, 1, 0], 100001),
     'num_ranges'),
    (lambda: adaptive_top_label_calibration_error([2.], [0]), 'confidence'),
    (lambda: adaptive_top_label_calibration_error([.5], [2]), 'correct'),
    (lambda: adaptive_top_label_calibration_error([.5], []),
     'confidence` and `correct'),
    (lambda: adaptive_top_label_calibration_error([.5], [1], 0), 'num_ranges'),
    (lambda: adaptive_top_label_calibration_error([.5], [1], 100001),
     'num_ranges'),
    (lambda: bin_index([2.], 3), 'values'),
    (lambda: bin_index([.5], 0), 'num_bins'),
    (lambda: bin_index([.5], 3, 'x'), 'closed'),
    (lambda: calibration_error([.5], [1]).bins.summarize(0), 'min_samples'),
    (lambda: detection_calibration_error(matches(), [0]), 'num_bins'),
    (lambda: detection_calibration_error(matches(), closed='x'), 'closed'),
    (lambda: detection_calibration_error(matches(), min_samples=0),
     'min_samples'),
    (lambda: laece(matches(), 0), 'num_bins'),
    (lambda: laece(matches(), closed='x'), 'closed'),
    (lambda: relative_box_features([[0, 0, 1, 1]], [[2, 2]], ['area']),
     'features'),
])
def test_argument_out_of_range_is_named(call, name):
    with pytest.raises(InvalidValueError, match=f'^`{name}`'):
        call()


def test_types_are_named():
    with pytest.raises(InvalidTypeError, match='^`labels` .*float'):
        brier_score([[.5, .5]], [0.])
    with pytest.raises(InvalidTypeError, match="^`score_thr` .*got '?True"):
        evaluate_detections(*scene(), score_thr=True)


@pytest.mark.parametrize('list_name', ['images', 'categories', 'annotations'])
def test_record_of_the_annotations_is_named(list_name):
    annotations, _ = random_scene(0)
    annotations = dict(annotations)
    annotations[list_name] = list(annotations[list_name]) + [dict(id=[])]
    number = len(annotations[list_name]) - 1
    with pytest.raises((InvalidTypeError, InvalidValueError),
                       match=rf'`{list_name}(\[{number}\])?`'):
        ground_truth_from_coco(annotations)


def test_one_sample_has_an_error():
    assert adaptive_top_label_calibration_error([.7], [1]) == (
        pytest.approx(.3))


def test_samples_of_equal_confidence_share_their_targets():
    confidence = [.1, .5, .5, .9]
    probs = np.stack([confidence, 1 - np.array(confidence)], axis=1)
    error = adaptive_calibration_error(probs, [1, 0, 1, 0], 4)
    assert error.mean_target[0].tolist() == [0, .5, .5, 1]
    assert error.count.tolist() == [[1] * 4] * 2
    assert error.count.dtype == np.int64


def table():
    # One bin with a gap of +.5 and one of -.25, a single sample each.
    return BinTable(
        np.array([0, .5, 1]), np.array([1, 1]), np.array([.5, .75]),
        np.array([0., 1.]))


def test_bins_of_one_sample_are_used_unless_asked():
    assert table().summarize().error == pytest.approx((.5 + .25) / 2)
    assert table().summarize(2).error == 0
    assert table().summarize(2).num_used == 0


def test_errors_inside_each_cell_of_the_image():
    # Score bins down, two places across: the first place is over-confident
    # by .5, the second under-confident by .25 in 3 of its 4 detections.
    grid = BinGrid(('score', 'cx'), (np.array([0, .5, 1]), ) * 2,
                   np.array([[2, 1], [0, 3]]),
                   np.array([[.5, .5], [np.nan, .75]]),
                   np.array([[0., .5], [np.nan, 1.]]))
    cells = grid.summarize_over_score()
    np.testing.assert_allclose(cells.over, [.5, 0])
    np.testing.assert_allclose(cells.under, [0, .25 * 3 / 4])
    np.testing.assert_allclose(cells.error, [.5, .25 * 3 / 4])
    np.testing.assert_allclose(cells.largest, [.5, .25])
    np.testing.assert_allclose(cells.average, [.5, .25 / 2])
    assert cells.num_used.tolist() == [1, 2]
    cells = grid.summarize_over_score(3)
    np.testing.assert_allclose(cells.error, [0, .25 * 3 / 4])
    np.testing.assert_allclose(cells.coverage, [0, 3 / 4])
    assert grid.summarize().error == pytest.approx((2 * .5 + 3 * .25) / 6)
    assert grid.summarize(3).error == pytest.approx(3 * .25 / 6)


def test_position_bins_fill_the_memory_and_no_more():
    # 91^3 cells of 13 classes are 9.8 million, 92^3 are 10.1 million.
    ground_truth = ground_truth_from_coco(
        dict(
            images=[],
            annotations=[],
            categories=[dict(id=k) for k in range(13)]))
    nothing = detections_from_coco([], ground_truth)
    with pytest.raises(
            InvalidValueError, match=r'`position_bins` must be in \[1, 91\]'):
        evaluate_detections(ground_truth, nothing, position_bins=92)


def test_label_out_of_range_is_placed():
    with pytest.raises(InvalidValueError, match=r'but got 7 at \[1\]$'):
        brier_score([[.5, .5]] * 3, [0, 7, 1])


def test_long_values_are_cut_in_messages():
    with pytest.raises(InvalidTypeError) as info:
        calibration_error(['x' * 70, 'y' * 70], [1, 1])
    given = str(info.value).split('but got ')[1]
    assert given == str(['x' * 70, 'y' * 70])[:80] + '...'


def test_adaptive_errors_by_class_and_by_default_in_15_ranges():
    error = adaptive_calibration_error([[.8, .2], [.4, .6]], [0, 1])
    assert error.per_class.tolist() == pytest.approx([.3, .3])
    rng = np.random.default_rng(0)
    confidence = rng.random(100)
    correct = (rng.random(100) < .5).astype(int)
    assert adaptive_top_label_calibration_error(confidence, correct) == (
        adaptive_top_label_calibration_error(confidence, correct, 15))


def test_no_arithmetic_warning_reaches_the_user():
    ground_truth, _ = scene()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warnings.simplefilter('ignore', UserWarning)
        report = evaluate_detections(ground_truth,
                                     detections_from_coco([], ground_truth))
    assert np.isnan(report.brier).all() and np.isnan(report.nll).all()


@pytest.mark.parametrize('figure, name', [(laece, 'LaECE'), (laace, 'LaACE')])
def test_localization_aware_errors_say_how_many_classes(figure, name):
    assert figure(matches()).num_classes == 3
    nothing = detections_from_coco([], scene()[0])
    with pytest.warns(UserWarning, match=rf'\b{name}\b'):
        error = figure(match_detections(scene()[0], nothing, 0.1))
    assert error.num_classes == 0


def test_localization_aware_error_has_at_most_1000_bins():
    with pytest.raises(InvalidValueError, match=r'`num_bins` .*\[1, 1000\]'):
        laece(matches(), 1001)
