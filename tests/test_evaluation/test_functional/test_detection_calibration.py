import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (BinGrid, calibration_error,
                                            detection_calibration_error,
                                            detections_from_coco,
                                            ground_truth_from_coco, laace,
                                            laece, match_detections,
                                            relative_box_features)
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import (load_golden,
                                                                load_scene,
                                                                nan_for_null)

TIGHT = dict(rel=0, abs=1e-12, nan_ok=True)
SCENES = ['det_small', 'det_ties']
GRIDS = {
    'conf_b10_right':
    dict(num_bins=10),
    'conf_b10_left':
    dict(num_bins=10, closed='left'),
    'conf_b20_left':
    dict(num_bins=20, closed='left'),
    'conf_b20_left_min8':
    dict(num_bins=20, closed='left', min_samples=8),
    'conf_cx_cy_b8_left_min8':
    dict(num_bins=8, closed='left', features=('cx', 'cy'), min_samples=8),
    'conf_w_h_b8_left_min8':
    dict(num_bins=8, closed='left', features=('w', 'h'), min_samples=8),
    'conf_cx_cy_b4_left_min8':
    dict(num_bins=4, closed='left', features=('cx', 'cy'), min_samples=8),
    'conf_cx_cy_w_h_b5_left':
    dict(num_bins=5, closed='left', features=('cx', 'cy', 'w', 'h')),
    'conf_cx_cy_w_h_b5_left_min8':
    dict(
        num_bins=5,
        closed='left',
        features=('cx', 'cy', 'w', 'h'),
        min_samples=8),
}
pytestmark = pytest.mark.filterwarnings('ignore:only .* of the detections')


def match_scene(name, iou_thr, **kwargs):
    return match_detections(*load_scene(name), iou_thr, **kwargs)


def match_random(seed, iou_thr, **kwargs):
    annotations, results = random_scene(seed)
    ground_truth = ground_truth_from_coco(annotations)
    return match_detections(ground_truth,
                            detections_from_coco(results, ground_truth),
                            iou_thr)


def by_category(name, values):
    category_ids = load_scene(name)[0].category_ids.tolist()
    return {str(k): v for k, v in zip(category_ids, values)}


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('name', SCENES)
def test_golden_d_ece(name, grid):
    expected = load_golden(name)['expected']['dece_tau0.5'][grid]
    error = detection_calibration_error(match_scene(name, 0.5), **GRIDS[grid])
    assert error.ece == pytest.approx(expected['value'], **TIGHT)
    assert error.over == pytest.approx(expected['over'], **TIGHT)
    assert error.under == pytest.approx(expected['under'], **TIGHT)
    assert error.coverage == pytest.approx(expected['coverage'], **TIGHT)
    assert error.renormalized == pytest.approx(
        nan_for_null(expected['renorm']), **TIGHT)
    assert error.num_used == expected['cells_used']


@pytest.mark.parametrize('name', SCENES)
def test_golden_d_ece_summaries(name):
    golden = load_golden(name)
    expected = golden['expected']['dece_tau0.5']
    matches = match_scene(name, 0.5)
    assert matches.is_counted.sum() == expected['n_used']
    assert matches.is_tp.sum() == expected['n_tp']
    left = detection_calibration_error(matches, closed='left')
    assert left.mce == pytest.approx(expected['dmce_conf_b10_left'], **TIGHT)
    assert left.average == pytest.approx(
        expected['dace_average_conf_b10_left'], **TIGHT)
    right = detection_calibration_error(matches)
    assert right.class_mean == pytest.approx(
        expected['class_wise_mean_conf_b10_right'], **TIGHT)
    # in these scenes every class has objects
    only = expected['conf_b10_right_only_classes_with_gt']
    assert right.ece == pytest.approx(only['value'], **TIGHT)
    fiveai = golden['reference']['fiveai']
    assert right.ece == pytest.approx(
        fiveai['dece_tau0.5_b10_empty_classes_removed'], **TIGHT)


@pytest.mark.parametrize('name', SCENES)
def test_agrees_with_netcal(name):
    netcal = load_golden(name)['reference']['netcal']
    matches = match_scene(name, 0.5)
    for grid, options in GRIDS.items():
        key = grid.replace('_left', '')
        if options.get('closed') == 'left':
            error = detection_calibration_error(matches, **options)
            assert error.ece == pytest.approx(netcal[key], **TIGHT), key


LAECE_CASES = {
    'laece0_b25': dict(iou_thr=0.0),
    'laece_tau0.1_b25': dict(iou_thr=0.1),
    'laece_tau0.1_b25_normalised_iou': dict(iou_thr=0.1, normalize_iou=True),
}


@pytest.mark.parametrize('case', LAECE_CASES)
@pytest.mark.parametrize('name', SCENES)
def test_golden_laece(name, case):
    expected = load_golden(name)['expected'][case]
    options = dict(LAECE_CASES[case])
    error = laece(match_scene(name, options.pop('iou_thr')), **options)
    assert error.laece == pytest.approx(expected['value'], **TIGHT)
    values = by_category(name, [e.ece for e in error.per_class])
    assert values == pytest.approx(expected['per_class'], **TIGHT)
    assert error.num_classes == len(expected['per_class'])


@pytest.mark.parametrize('name', SCENES)
def test_golden_laace(name):
    expected = load_golden(name)['expected']['laace0']
    error = laace(match_scene(name, 0.0))
    assert error.laace == pytest.approx(expected['value'], **TIGHT)
    assert by_category(name, error.per_class.tolist()) == pytest.approx(
        expected['per_class'], **TIGHT)


@pytest.mark.parametrize('name', SCENES)
def test_published_values_with_zero_iou_accepted(name):
    # fiveai's LaECE_0: disjoint matches, and a class of error 0 left out.
    fiveai = load_golden(name)['reference']['fiveai']
    error = laece(match_scene(name, 0.0, zero_iou='accept'))
    values = [e.ece for e in error.per_class]
    assert by_category(name,
                       values) == pytest.approx(fiveai['laece0_b25_per_class'],
                                                **TIGHT)
    nonzero = [value for value in values if value > 0]
    assert np.mean(nonzero) == pytest.approx(fiveai['laece0_b25'], **TIGHT)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(1, 30))
def test_identities_on_random_scenes(seed, iou_thr, num_bins):
    matches = match_random(seed, iou_thr)
    counted = matches.is_counted
    if not counted.any():
        return
    error = detection_calibration_error(matches, num_bins)
    plain = calibration_error(matches.scores[counted], matches.is_tp[counted],
                              num_bins)
    assert error.ece == pytest.approx(plain.ece, **TIGHT)
    assert error.ece == pytest.approx(error.over + error.under, **TIGHT)
    bias = matches.scores[counted].mean() - matches.is_tp[counted].mean()
    assert error.over - error.under == pytest.approx(bias, **TIGHT)
    # each class by its own samples
    localized, single = laece(matches, num_bins), laace(matches)
    for k in range(matches.num_classes):
        of_class = counted & (matches.class_index == k)
        if not of_class.any():
            assert np.isnan(error.per_class[k].ece)
            assert np.isnan(localized.per_class[k].ece)
            continue
        scores = matches.scores[of_class]
        assert error.per_class[k].ece == pytest.approx(
            calibration_error(scores, matches.is_tp[of_class], num_bins).ece,
            **TIGHT)
        if matches.num_objects[k] == 0:
            assert np.isnan(localized.per_class[k].ece)
            assert np.isnan(single.per_class[k])
            continue
        assert localized.per_class[k].ece == pytest.approx(
            calibration_error(scores, matches.iou[of_class], num_bins).ece,
            **TIGHT)
        assert single.per_class[k] == pytest.approx(
            np.abs(scores - matches.iou[of_class]).mean(), **TIGHT)
        assert single.per_class[k] >= localized.per_class[k].ece - 1e-12


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans())
def test_a_grid_sums_up_to_the_table_of_scores(seed, num_bins, with_size):
    matches = match_random(seed, 0.5)
    if not matches.is_counted.any():
        return
    features = ('cx', 'cy', 'w', 'h') if with_size else ('cx', 'cy')
    grid = detection_calibration_error(matches, num_bins, features=features)
    table = detection_calibration_error(matches, num_bins)
    assert isinstance(grid.bins, BinGrid)
    assert grid.bins.count.shape == (num_bins, ) * (1 + len(features))
    other_axes = tuple(range(1, 1 + len(features)))
    np.testing.assert_array_equal(
        grid.bins.count.sum(axis=other_axes), table.bins.count)
    assert grid.ece >= table.ece - 1e-12  # its cells split those bins


def hand_made(boxes_and_scores, num_objects=1, iou_thr=0.5):
    """Objects at (10, 10, 20, 20) of image 1, and results of class 1."""
    annotations = dict(
        images=[dict(id=1, width=100, height=100)],
        categories=[dict(id=1), dict(id=2)],
        annotations=[
            dict(image_id=1, category_id=1, bbox=[10, 10, 20, 20])
            for _ in range(num_objects)
        ])
    ground_truth = ground_truth_from_coco(annotations)
    results = [
        dict(image_id=1, category_id=category, bbox=box, score=score)
        for category, box, score in boxes_and_scores
    ]
    return match_detections(ground_truth,
                            detections_from_coco(results, ground_truth),
                            iou_thr)


def test_perfect_detections_have_no_error():
    matches = hand_made([(1, [10, 10, 20, 20], 1.0)] * 3, num_objects=3)
    assert detection_calibration_error(matches).ece == 0
    assert detection_calibration_error(matches, features=('cx', 'w')).ece == 0
    assert laece(matches).laece == 0
    assert laace(matches).laace == 0


def test_half_of_sure_boxes_wrong_is_one_half():
    matches = hand_made([(1, [10, 10, 20, 20], 1.0), (1, [60, 60, 20,
                                                          20], 1.0)])
    error = detection_calibration_error(matches)
    assert (error.ece, error.over, error.under) == (0.5, 0.5, 0)


def test_false_positive_of_a_class_without_objects_counts_in_d_ece():
    matches = hand_made([(1, [10, 10, 20, 20], 1.0), (2, [10, 10, 20,
                                                          20], 0.6)])
    error = detection_calibration_error(matches)
    assert error.ece == pytest.approx(0.3)
    assert error.per_class[1].ece == pytest.approx(0.6)
    # but not in the mean of the localization-aware errors
    assert laece(matches).laece == 0 and laece(matches).num_classes == 1
    assert np.isnan(laace(matches).per_class[1])


def test_heat_map_is_d_ece_inside_each_cell_of_the_image():
    matches = hand_made([(1, [10, 10, 20, 20], 1.0), (1, [15, 12, 20,
                                                          20], 0.9),
                         (1, [60, 60, 20, 20], 0.4)])
    grid = detection_calibration_error(
        matches, num_bins=2, features=('cx', 'cy')).bins
    # upper left: .9 and 1.0, one of them right; lower right: .4, wrong
    heat = grid.summarize_over_score().error
    np.testing.assert_allclose(heat, [[0.45, np.nan], [np.nan, 0.4]])


def test_low_coverage_warns():
    with pytest.warns(UserWarning, match='only 0.0% of the detections'):
        error = detection_calibration_error(
            match_scene('det_small', 0.5), min_samples=8)
    assert error.ece == 0 and np.isnan(error.renormalized)


def test_nothing_counted_is_nan_with_a_warning():
    matches = hand_made([])
    with pytest.warns(UserWarning, match='no detection is counted'):
        error = detection_calibration_error(matches)
    assert np.isnan([error.ece, error.over, error.coverage]).all()
    with pytest.warns(UserWarning, match='no class has both'):
        assert np.isnan(laece(matches).laece)
    with pytest.warns(UserWarning, match='no class has both'):
        assert np.isnan(laace(matches).laace)


def test_box_features_are_clipped_to_the_image():
    features = relative_box_features(
        np.array([[-50.0, 90, 20, 40]]), np.array([[100.0, 100]]))
    np.testing.assert_allclose(features, [[0, 1, 0.2, 0.4]])


def test_options_are_checked():
    matches = match_scene('det_small', 0.5)
    with pytest.raises(InvalidValueError, match="'cx' or 'cy'"):
        detection_calibration_error(matches, features=('area', ))
    with pytest.raises(InvalidValueError, match='3 dimension'):
        detection_calibration_error(matches, [5, 5], features=('cx', 'cy'))
    with pytest.raises(InvalidValueError, match='use fewer bins'):
        detection_calibration_error(
            matches, 1000, features=('cx', 'cy', 'w', 'h'))
    annotations = load_golden('det_small_gt')
    del annotations['images'][0]['height']
    ground_truth = ground_truth_from_coco(annotations)
    matches = match_detections(
        ground_truth,
        detections_from_coco(load_golden('det_small_dt'), ground_truth), 0.5)
    with pytest.raises(InvalidValueError, match='width and height of every'):
        detection_calibration_error(matches, features=('cx', ))
