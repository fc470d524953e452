"""Errors by size, score and place, against cases worked out by hand."""
import numpy as np
import pytest

from tcal_det.evaluation.functional import (evaluate_detections,
                                            match_detections)
from tcal_det.report.error_places import (detections_by_score, errors_by_size,
                                          gaps_by_position, is_missed,
                                          misses_by_position)
from tests.test_report.report_scenes import make_scene


def at_half(scene):
    return match_detections(*scene, 0.5)


def test_sizes():
    # Areas of 31 x 32, 32 x 32, 96 x 96 - 96 and 96 x 96 pixels.
    boxes = [(0, 0, 31, 32), (0, 100, 32, 32), (100, 100, 95, 96),
             (200, 200, 96, 96)]
    images = [dict(id=1, width=400, height=400)]
    scene = make_scene([(1, 0, box) for box in boxes],
                       [(1, 0, boxes[0], 0.9), (1, 0, boxes[1], 0.2),
                        (1, 0, boxes[2], 0.8), (1, 0, (300, 0, 99, 99), 0.7)],
                       images=images)
    small, medium, large = errors_by_size(scene[0], at_half(scene), 0.5)
    assert (small['objects'], medium['objects'], large['objects']) == (1, 2, 1)
    assert (small['missed'], medium['missed'], large['missed']) == (0, 0.5, 1)
    assert (small['false'], medium['false'], large['false']) == (0, 0, 1)
    assert medium['detections'] == 1  # the other is below the threshold
    assert large['score'] == large['gap'] == pytest.approx(0.7)
    assert small['gap'] == pytest.approx(-0.1)


def test_crowds_are_not_missed():
    scene = make_scene([(1, 0, (0, 0, 10, 10)), (1, 0, (50, 50, 10, 10))],
                       [(1, 0, (0, 0, 10, 10), 0.9)])
    scene[0].iscrowd[1] = True
    assert not is_missed(scene[0], at_half(scene)).any()
    scene[0].iscrowd[1] = False
    assert is_missed(scene[0], at_half(scene)).tolist() == [False, True]


def test_scores():
    boxes = [(20 * i, 0, 10, 10) for i in range(3)]
    scene = make_scene([(1, 0, boxes[0]), (1, 0, boxes[1])],
                       [(1, 0, boxes[0], 0.93), (1, 0, boxes[1], 0.94),
                        (1, 0, boxes[2], 0.95), (1, 0, (0, 50, 9, 9), 1.0)])
    counts = {
        (row['kind'], round(row['low'], 2)): row['count']
        for row in detections_by_score(at_half(scene))
    }
    assert len(counts) == 40
    assert counts['right', 0.9] == 2
    # .95 is the closed right end of its bin.
    assert counts['wrong', 0.9] == 1
    assert counts['wrong', 0.95] == 1
    assert sum(counts.values()) == 4


def test_places_of_misses():
    # Five objects in the top left cell, two of them found; four elsewhere,
    # too few to tell.
    corner = [(i, 0, (2, 1, 6, 4)) for i in range(5)]
    other = [(i, 0, (80, 40, 6, 4)) for i in range(4)]
    scene = make_scene(corner + other,
                       [(i, 0, (2, 1, 6, 4), 0.9) for i in range(2)])
    cell, = misses_by_position(scene[0], at_half(scene), 0.5)
    assert cell == pytest.approx(
        dict(x=0, x2=1 / 8, y=0, y2=1 / 8, value=3 / 5, count=5))
    assert misses_by_position(scene[0], at_half(scene),
                              0.95)[0]['value'] == pytest.approx(1)


def test_places_are_unknown_without_image_sizes():
    scene = make_scene([(1, 0, (0, 0, 9, 9))], [(1, 0, (0, 0, 9, 9), 0.5)],
                       images=[dict(id=1)])
    assert misses_by_position(scene[0], at_half(scene), 0.5) is None
    with pytest.warns(UserWarning, match='undefined'):
        report = evaluate_detections(*scene)
    assert gaps_by_position(report) is None


@pytest.mark.filterwarnings('ignore:undefined')
def test_places_of_gaps():
    # Right of the middle, near the bottom: 4 right of 10, score .5 and .9.
    box = (72, 90, 10, 6)
    objects = [(i, 0, box) for i in range(4)]
    detections = [(i, 0, box, 0.5 if i < 5 else 0.9) for i in range(10)]
    ground_truth, found = make_scene(objects, detections)
    cell, = gaps_by_position(evaluate_detections(ground_truth, found))
    assert cell == pytest.approx(
        dict(x=6 / 8, x2=7 / 8, y=7 / 8, y2=1, value=0.7 - 0.4, count=10))


def test_gaps_add_up_to_the_overall_gap():
    rng = np.random.default_rng(0)
    boxes = np.column_stack((rng.uniform(0, 90,
                                         (400, 2)), np.full((400, 2), 10.0)))
    detections = [(i % 20, 0, box, score) for i, (box, score) in enumerate(
        zip(boxes.tolist(),
            rng.uniform(0, 1, 400).tolist()))]
    objects = [(i % 20, 0, box) for i, box in enumerate(boxes[:150].tolist())]
    ground_truth, found = make_scene(objects, detections)
    report = evaluate_detections(ground_truth, found, position_min_samples=1)
    cells = gaps_by_position(report)
    matches = match_detections(ground_truth, found, 0.5)
    assert sum(cell['count'] for cell in cells) == 400
    assert sum(
        cell['count'] * cell['value']
        for cell in cells) / 400 == pytest.approx(matches.scores.mean() -
                                                  matches.is_tp.mean())
