import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.evaluation.functional import (detections_from_coco,
                                            ground_truth_from_coco, lrp,
                                            match_detections, olrp)
from tests.test_evaluation.test_functional.detection_scenes import random_scene
from tests.test_evaluation.test_functional.golden_files import (load_golden,
                                                                load_scene)

TIGHT = dict(rel=0, abs=1e-12, nan_ok=True)
SEEDS = st.integers(0, 2**32 - 1)


def match_records(annotations, results, iou_thr):
    ground_truth = ground_truth_from_coco(annotations)
    return match_detections(ground_truth,
                            detections_from_coco(results, ground_truth),
                            iou_thr)


def class_values(error, k):
    return dict(
        lrp=error.lrp[k],
        loc=error.loc[k],
        fp=error.fp[k],
        fn=error.fn[k],
        threshold=error.threshold[k])


@pytest.mark.parametrize('iou_thr', ['0', '0.5'])
@pytest.mark.parametrize('kind', ['lrp', 'olrp'])
@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_golden(name, kind, iou_thr):
    expected = load_golden(name)['expected'][f'{kind}_tau{iou_thr}']
    ground_truth, detections = load_scene(name)
    matches = match_detections(ground_truth, detections, float(iou_thr))
    error = dict(lrp=lrp, olrp=olrp)[kind](matches)
    assert error.mean_lrp == pytest.approx(expected['mean'][kind], **TIGHT)
    for part in ('loc', 'fp', 'fn'):
        assert getattr(error, f'mean_{part}') == pytest.approx(
            expected['mean'][part], **TIGHT)
    for k, category_id in enumerate(ground_truth.category_ids):
        values = class_values(error, k)
        for key, value in expected['per_class'][str(category_id)].items():
            ours = values['lrp' if key == kind else key]
            assert ours == pytest.approx(value, **TIGHT), (category_id, key)


def plain_lrp(matches, k):
    """LRP of one class, straight from the definition."""
    of_class = matches.class_index == k
    is_tp = of_class & matches.is_tp
    num_tp = int(is_tp.sum())
    num_fp = int((of_class & matches.is_counted).sum()) - num_tp
    num_fn = int(matches.num_objects[k]) - num_tp
    loc = sum(1 - iou for iou in matches.iou[is_tp])
    return (loc / (1 - matches.iou_thr) + num_fp + num_fn) / (num_tp + num_fp +
                                                              num_fn), num_tp


@settings(derandomize=True, deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
def test_identities_on_random_scenes(seed, iou_thr):
    matches = match_records(*random_scene(seed), iou_thr)
    error = lrp(matches)
    for k in range(matches.num_classes):
        if matches.num_objects[k] == 0:
            assert np.isnan(list(class_values(error, k).values())).all()
            continue
        total = error.num_tp[k] + error.num_fp[k] + error.num_fn[k]
        loc = 0 if error.num_tp[k] == 0 else (error.num_tp[k] * error.loc[k] /
                                              (1 - iou_thr))
        assert error.lrp[k] * total == pytest.approx(
            loc + error.num_fp[k] + error.num_fn[k], abs=1e-9)
        assert error.lrp[k] == pytest.approx(plain_lrp(matches, k)[0], **TIGHT)
        assert error.fn[k] == pytest.approx(
            error.num_fn[k] / matches.num_objects[k], **TIGHT)
        assert 0 <= error.lrp[k] <= 1 + 1e-12


@settings(derandomize=True, deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
def test_olrp_is_the_least_lrp_of_all_thresholds(seed, iou_thr):
    matches = match_records(*random_scene(seed), iou_thr)
    error = olrp(matches)
    for k in np.flatnonzero(matches.num_objects):
        candidates = []
        for score in np.unique(matches.scores[matches.class_index == k]):
            value, num_tp = plain_lrp(matches.above(score), k)
            if num_tp > 0:
                candidates.append((value, score))
        if not candidates:
            assert error.lrp[k] == 1 and error.fn[k] == 1
            assert np.isnan(error.threshold[k]) and np.isnan(error.loc[k])
            continue
        least = min(value for value, _ in candidates)
        highest = max(score for value, score in candidates
                      if value <= least + 1e-12)
        assert error.lrp[k] == pytest.approx(least, **TIGHT)
        assert error.threshold[k] == highest
        # cutting there gives the parts that were reported
        cut = lrp(matches.above(error.threshold))
        for part in ('lrp', 'loc', 'fp', 'fn'):
            assert getattr(cut, part)[k] == pytest.approx(
                getattr(error, part)[k], **TIGHT)


def hand_made(results, num_objects=2, iou_thr=0.5):
    annotations = dict(
        images=[dict(id=1, width=100, height=100)],
        categories=[dict(id=1), dict(id=2)],
        annotations=[
            dict(image_id=1, category_id=1, bbox=[50 * i, 0, 20, 20])
            for i in range(num_objects)
        ])
    results = [
        dict(image_id=1, category_id=1, bbox=box, score=score)
        for box, score in results
    ]
    return match_records(annotations, results, iou_thr)


def test_perfect_detections():
    matches = hand_made([([0, 0, 20, 20], 1.0), ([50, 0, 20, 20], 1.0)])
    for error in (lrp(matches), olrp(matches)):
        assert (error.mean_lrp, error.mean_loc, error.mean_fp,
                error.mean_fn) == (0, 0, 0, 0)


def test_no_detections_are_lrp_1():
    for error in (lrp(hand_made([])), olrp(hand_made([]))):
        assert error.mean_lrp == error.mean_fn == 1
        assert np.isnan([error.mean_loc, error.mean_fp]).all()
        assert np.isnan(error.lrp[1])  # a class without objects


def test_false_positive_part_is_1_without_true_positives():
    matches = hand_made([([80, 80, 5, 5], 0.9)])
    for error in (lrp(matches), olrp(matches)):
        assert error.lrp[0] == error.fp[0] == error.fn[0] == 1
        assert np.isnan(error.loc[0]) and np.isnan(error.threshold[0])


def test_every_match_at_the_threshold_is_lrp_1_with_parts():
    # IoU exactly 1/2, behind a false positive: no cut beats 1. The highest
    # cut that keeps a true positive is reported.
    matches = hand_made([([80, 80, 5, 5], 0.9), ([0, 0, 20, 10], 0.8),
                         ([50, 0, 20, 10], 0.7)])
    error = olrp(matches)
    assert error.lrp[0] == 1
    assert error.threshold[0] == 0.8
    assert (error.loc[0], error.fp[0], error.fn[0]) == (0.5, 0.5, 0.5)


def test_a_run_of_equal_scores_is_not_cut():
    # Inside the run of .8 the first prefix would be better.
    matches = hand_made([([0, 0, 20, 20], 0.8), ([80, 80, 5, 5], 0.8),
                         ([50, 0, 20, 20], 0.9)])
    error = olrp(matches)
    assert error.threshold[0] == 0.8
    assert error.lrp[0] == pytest.approx(1 / 3)
