"""Figures of a run, against the functions that users call."""
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from benchmarks.study.measures import figures
from tcal_det.evaluation.functional import (Detections, GroundTruth,
                                            evaluate_detections,
                                            match_detections, olrp)


def make_split(seed, num_images=60):
    """Objects on a grid, found with overconfident scores."""
    rng = np.random.default_rng(seed)
    image, label, boxes = [], [], []
    found = []
    for number in range(num_images):
        for place in range(4):
            box = [30 * place, 10, 20, 20]
            kind = rng.integers(2)
            image.append(number)
            label.append(kind)
            boxes.append(box)
            chance = rng.uniform(0.05, 0.95)
            is_true = rng.random() < chance
            moved = np.array(box) + [rng.integers(3), 0, 0, 0]
            found.append((number, kind if is_true else 1 - kind, moved,
                          expit(2.5 * logit(chance))))
    ground_truth = GroundTruth(
        image_ids=np.arange(num_images),
        image_sizes=np.full((num_images, 2), 128.0),
        category_ids=np.arange(2),
        category_names=('a', 'b'),
        image_index=np.array(image),
        class_index=np.array(label),
        boxes=np.array(boxes, dtype=np.float64),
        iscrowd=np.zeros(len(boxes), bool))
    columns = [np.array(column) for column in zip(*found)]
    return ground_truth, Detections(columns[0], columns[1],
                                    columns[2].astype(np.float64), columns[3])


@pytest.fixture(scope='module')
def splits():
    return make_split(0), make_split(1)


def test_raw_figures_are_those_of_the_report(splits):
    found = figures(*splits)
    overall = evaluate_detections(*splits[1]).overall
    for name, key in (('mAP', 'mAP'), ('AP50', 'AP50'), ('AP75', 'AP75'),
                      ('D-ECE', 'd_ece'), ('D-ECE over', 'd_ece_over'),
                      ('D-ECE under', 'd_ece_under'), ('LaECE_0', 'laece_0'),
                      ('LRP_0', 'lrp_0')):
        assert found[name] == overall[key]


def test_temperature_is_fitted_on_val_and_applied_to_the_split(splits):
    val, test = splits
    found = figures(val, test)
    # The detections of a class that are true: by the matching alone.
    matches = evaluate_detections(*val).matches
    counted = matches.is_counted
    scores, is_tp = matches.scores[counted], matches.is_tp[counted]

    def nll(log_temperature):
        p = expit(logit(scores) / np.exp(log_temperature))
        return -np.where(is_tp, np.log(p), np.log1p(-p)).mean()

    fitted = np.exp(minimize_scalar(nll, bounds=(-3, 3), method='bounded').x)
    assert found['temperature'] == pytest.approx(fitted, rel=1e-3)
    assert fitted > 1.5
    ground_truth, detections = test
    rescaled = Detections(detections.image_index, detections.class_index,
                          detections.boxes,
                          expit(logit(detections.scores) / fitted))
    overall = evaluate_detections(ground_truth, rescaled).overall
    assert found['D-ECE, T'] == pytest.approx(overall['d_ece'], abs=1e-3)
    assert found['D-ECE, T'] < found['D-ECE']


def test_thresholds_are_those_of_val(splits):
    val, test = splits
    chosen = evaluate_detections(*val, score_thr='lrp_optimal')
    # On val itself they are the optimal ones.
    on_val = figures(val, val)
    assert on_val['LRP_0, thr'] == pytest.approx(chosen.overall['lrp_0'])
    assert on_val['LaECE_0, thr'] == pytest.approx(chosen.overall['laece_0'])
    best = olrp(match_detections(*val, iou_thr=0.0)).threshold
    expected = evaluate_detections(
        *test, score_thr=dict(enumerate(best.tolist()))).overall
    found = figures(val, test)
    assert found['LRP_0, thr'] == expected['lrp_0']
    assert found['LaECE_0, thr'] == expected['laece_0']
    best_on_test = evaluate_detections(*test, score_thr='lrp_optimal').overall
    assert found['LRP_0, thr'] > best_on_test['lrp_0']
