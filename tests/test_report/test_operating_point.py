"""Thresholds to deploy with, against cases worked out by hand."""
import pytest

from tcal_det.evaluation.functional import (evaluate_detections,
                                            match_detections)
from tcal_det.report.operating_point import (class_operating_points,
                                             overall_operating_point,
                                             threshold_curve)
from tests.test_report.report_scenes import make_scene

BOXES = [(20 * i, 0, 10, 10) for i in range(5)]


@pytest.fixture(scope='module')
def scene():
    """Four objects of class 0, one of class 1, exact boxes.

    Class 0: right at .9 and .8, wrong at .6, right at .4. Class 1: wrong at
    .7, right at .3.
    """
    objects = [(1, 0, box) for box in BOXES[:4]] + [(2, 1, BOXES[0])]
    detections = [(1, 0, BOXES[0], 0.9), (1, 0, BOXES[1], 0.8),
                  (1, 0, (0, 80, 10, 10), 0.6), (1, 0, BOXES[2], 0.4),
                  (2, 1, (0, 80, 10, 10), 0.7), (2, 1, BOXES[0], 0.3)]
    return make_scene(objects, detections)


def test_thresholds_of_each_class(scene):
    # Class 0: LRP at .9 is 3/4, at .8 2/4, at .6 3/5, at .4 2/5.
    # Class 1: at .7 2/2 (no match), at .3 1/2.
    first, second = class_operating_points(evaluate_detections(*scene))
    assert vars(first) == pytest.approx(
        dict(threshold=0.4, precision=0.75, recall=0.75, lrp=0.4))
    assert vars(second) == pytest.approx(
        dict(threshold=0.3, precision=0.5, recall=1.0, lrp=0.5))


def test_one_threshold_for_all_classes(scene):
    # By falling score: right .9, right .8, wrong .7, wrong .6, right .4,
    # right .3; five objects. LRP: 4/5, 3/5, 4/6, 5/7, 4/7, 3/7.
    point = overall_operating_point(match_detections(*scene, 0.5))
    assert vars(point) == pytest.approx(
        dict(threshold=0.3, precision=4 / 6, recall=4 / 5, lrp=3 / 7))


def test_curve(scene):
    rows = threshold_curve(match_detections(*scene, 0.5))
    assert len(rows) == 101
    by_threshold = {round(row['threshold'], 2): row for row in rows}
    # Scores equal to the threshold stay.
    assert by_threshold[0.8] == pytest.approx(
        dict(threshold=0.8, precision=1, recall=2 / 5, detections=2))
    assert by_threshold[0.65]['precision'] == pytest.approx(2 / 3)
    assert by_threshold[0.0]['recall'] == pytest.approx(4 / 5)
    assert by_threshold[0.95]['detections'] == 0
    assert by_threshold[0.95]['precision'] != by_threshold[0.95]['precision']


@pytest.mark.filterwarnings('ignore:undefined')
def test_nothing_to_choose():
    ground_truth, detections = make_scene([(1, 0, BOXES[0])], [])
    point = overall_operating_point(
        match_detections(ground_truth, detections, 0.5))
    assert point.threshold != point.threshold
    assert point.recall == 0
