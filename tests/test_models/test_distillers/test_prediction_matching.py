"""Pairs of predictions, against hand-made costs and scipy's assignment."""
import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from tcal_det.models.distillers.prediction_matching import (best_by_overlap,
                                                            match_sets,
                                                            pairing_cost,
                                                            remove_duplicates)

SIZE = (100, 200)


def iou(a, b):
    """Of two boxes, by hand."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)]
    return both / (sum(areas) - both)


def giou(a, b):
    hull = ((max(a[2], b[2]) - min(a[0], b[0])) *
            (max(a[3], b[3]) - min(a[1], b[1])))
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)]
    union = sum(areas) / (1 + iou(a, b))
    return iou(a, b) - (hull - union) / hull


def centred(box):
    return np.array([(box[0] + box[2]) / 2 / 200, (box[1] + box[3]) / 2 / 100,
                     (box[2] - box[0]) / 200, (box[3] - box[1]) / 100])


def scene(count, seed, num_classes=3):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 90, (count, 2))
    boxes = np.hstack([corner, corner + generator.uniform(5, 60, (count, 2))])
    probs = generator.uniform(0, 1, (count, num_classes))
    return torch.tensor(boxes).float(), torch.tensor(probs).float()


def cost_by_hand(boxes, probs, found, scores):
    cost = np.zeros((len(boxes), len(found)))
    for i, j in itertools.product(range(len(boxes)), range(len(found))):
        a, b = boxes[i].tolist(), found[j].tolist()
        cost[i, j] = (5 * np.abs(centred(a) - centred(b)).sum() + 2 *
                      (1 - giou(a, b)) - 2 * float(
                          (probs[i].double() * scores[j].double()).sum()))
    return cost


def test_cost_by_hand():
    mine, theirs = scene(4, 0), scene(6, 1)
    assert pairing_cost(*mine, *theirs, SIZE).numpy() == pytest.approx(
        cost_by_hand(*mine, *theirs), abs=1e-5)


@pytest.mark.parametrize('counts', [(5, 5), (3, 8), (8, 3), (1, 1)])
def test_pairs_are_those_of_the_least_total_cost(counts):
    """Scipy's, and for few samples the best of all permutations."""
    mine, theirs = scene(counts[0], 2), scene(counts[1], 3)
    rows, columns = match_sets(*mine, *theirs, SIZE)
    cost = cost_by_hand(*mine, *theirs)
    expected = linear_sum_assignment(cost)
    assert rows.tolist() == expected[0].tolist()
    assert columns.tolist() == expected[1].tolist()
    if counts == (5, 5):
        best = min(
            itertools.permutations(range(5)),
            key=lambda order: cost[range(5), order].sum())
        assert columns.tolist() == list(best)


def test_the_same_set_is_paired_with_itself():
    boxes, probs = scene(20, 4)
    rows, columns = match_sets(boxes, probs, boxes, probs, SIZE)
    assert rows.tolist() == columns.tolist() == list(range(20))


def test_what_is_no_detection_is_not_paired():
    boxes, probs = scene(4, 5)
    scores = torch.full((4, 3), 0.04)
    assert match_sets(boxes, probs, boxes, scores, SIZE)[0].tolist() == []
    scores[2, 1] = 0.06
    rows, columns = match_sets(boxes, probs, boxes, scores, SIZE)
    assert rows.tolist() == columns.tolist() == [2]


def test_best_by_overlap_by_hand():
    """IoU times score, of those that overlap by half."""
    boxes = torch.tensor([
        [0., 0., 10., 10.],  # on both of the first two
        [0., 0., 10., 20.],  # IoU 0.5 with the first: enough
        [0., 0., 10., 21.],  # 0.476: not
        [50., 50., 60., 60.],
    ])
    found = torch.tensor([
        [0., 0., 10., 10.],
        [0., 0., 10., 9.],
        [50., 50., 60., 60.],
    ])
    scores = torch.tensor([[0.1, 0.2], [0.9, 0.0], [0.0, 0.0]])
    mine, theirs = best_by_overlap(boxes, found, scores)
    # 0.9 * 0.9 goes before 1.0 * 0.2; a score of 0 is an answer too.
    assert mine.tolist() == [0, 1, 3]
    assert theirs.tolist() == [1, 0, 2]
    assert iou(boxes[1], found[1]) < 0.5 <= iou(boxes[1], found[0])


@pytest.mark.parametrize('pair', [best_by_overlap, match_sets])
@pytest.mark.parametrize('counts', [(0, 3), (3, 0), (0, 0)])
def test_nothing_on_one_side(pair, counts):
    mine, theirs = scene(counts[0], 6), scene(counts[1], 7)
    if pair is match_sets:
        found = pair(*mine, *theirs, SIZE)
    else:
        found = pair(mine[0], *theirs)
    assert [one.tolist() for one in found] == [[], []]
    assert all(one.dtype == torch.long for one in found)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Under autocast too the cost is that of float32."""
    mine, theirs = ([one.to(dtype) for one in scene(6, seed)]
                    for seed in (8, 9))
    expected = cost_by_hand(*mine, *theirs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cost = pairing_cost(*mine, *theirs, SIZE)
        rows, columns = match_sets(*mine, *theirs, SIZE)
        mine_too, _ = best_by_overlap(mine[0], *theirs)
    assert cost.dtype == torch.float32
    assert cost.numpy() == pytest.approx(expected, abs=1e-4)
    assert columns.tolist() == linear_sum_assignment(expected)[1].tolist()
    assert mine_too.dtype == torch.long


def test_unique_keeps_the_confident_box_of_an_object():
    found = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 9.],
                          [0., 0., 10., 6.], [50., 50., 60., 60.]])
    scores = torch.tensor([[0.1, 0.3], [0.5, 0.2], [0.9, 0.1], [0.2, 0.2]])
    # The third overlaps the second by 2/3, below 0.7; the first by 0.9.
    assert remove_duplicates(found, scores).tolist() == [2, 1, 3]
    assert remove_duplicates(found[:0], scores[:0]).tolist() == []


def test_unique_keeps_at_most_300():
    side = torch.arange(400.) * 20
    found = torch.stack([side, side, side + 10, side + 10], dim=1)
    scores = torch.linspace(1, 0.1, 400)[:, None]
    assert remove_duplicates(found, scores).tolist() == list(range(300))
