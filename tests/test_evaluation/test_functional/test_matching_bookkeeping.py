"""What a match remembers, and how many pairs are looked at together."""
import warnings

import numpy as np
import pytest

from tcal_det.evaluation.functional import box_pairs
from tcal_det.evaluation.functional.coco_arrays import (Detections,
                                                        detections_from_coco,
                                                        ground_truth_from_coco)
from tcal_det.evaluation.functional.matching import (match_at_thresholds,
                                                     match_detections)
from tcal_det.evaluation.functional.matching_order import make_matching_order
from tests.test_evaluation.test_functional.golden_files import load_scene


def test_a_detection_below_the_threshold_forgets_its_object():
    matches = match_detections(*load_scene('det_small'), 0.5)
    kept = matches.scores >= 0.7
    cut = matches.above(0.7)
    assert (matches.object_index[~kept] >= 0).any()
    assert (matches.object_index[kept] > 0).any()
    np.testing.assert_array_equal(cut.object_index[kept],
                                  matches.object_index[kept])
    assert (cut.object_index[~kept] == -1).all()


@pytest.mark.parametrize('size', [6, 7, 12])
def test_pairs_are_looked_at_in_blocks(monkeypatch, size):
    # 9 detections beside 3 objects each: 27 pairs.
    record = dict(image_id=1, category_id=1, bbox=[0, 0, 4, 4])
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=1)],
            categories=[dict(id=1)],
            annotations=[dict(record)] * 3))
    detections = detections_from_coco([dict(record, score=.5)] * 9,
                                      ground_truth)
    sizes = []
    paired_iou = box_pairs.paired_iou

    def noted(boxes, detection, *others):
        sizes.append(len(detection))
        return paired_iou(boxes, detection, *others)

    monkeypatch.setattr(box_pairs, '_PAIRS_PER_BLOCK', size)
    monkeypatch.setattr(box_pairs, 'paired_iou', noted)
    match_detections(ground_truth, detections, 0.5)
    assert sum(sizes) == 27
    # A detection's pairs stay together, so a block ends up to 2 later.
    assert max(sizes) < size + 3


def test_at_thresholds_close_to_1_coco_asks_for_less():
    # COCOeval caps the threshold at 1 - 1e-10.
    record = dict(image_id=1, category_id=1, bbox=[0, 0, 1, 1])
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=1)], categories=[dict(id=1)],
            annotations=[record]))
    for too_wide, is_match in ((1e-11, True), (1e-9, False)):
        detections = detections_from_coco(
            [dict(record, bbox=[0, 0, 1 + too_wide, 1], score=.5)],
            ground_truth)
        matches = match_detections(ground_truth, detections, 1 - 1e-12)
        assert matches.is_tp.tolist() == [is_match]


def test_hundred_detections_are_served_at_any_threshold():
    record = dict(image_id=1, category_id=1, bbox=[0, 0, 4, 4])
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=1)], categories=[dict(id=1)],
            annotations=[record]))
    detections = detections_from_coco([dict(record, score=.5)] * 102,
                                      ground_truth)
    for matches in (match_detections(ground_truth, detections, .5),
                    *match_at_thresholds(ground_truth, detections, (0, .5))):
        assert matches.is_counted.sum() == 100


@pytest.mark.parametrize('largest', [3, 2**15, 2**16, 2**33])
def test_orders_with_large_indices(largest):
    """Sorted 16 bits at a time: more images need several rounds."""
    rng = np.random.default_rng(0)
    detections = Detections(
        rng.integers(0, largest, 300),
        rng.integers(0, largest, 300) // 2, np.zeros((300, 4)),
        rng.choice([0.0, -0.0, 0.25, 0.5, 1.0], 300))
    image, label, score = (detections.image_index, detections.class_index,
                           detections.scores)
    found = make_matching_order(detections)
    np.testing.assert_array_equal(found.order,
                                  np.lexsort((-score, image, label)))
    np.testing.assert_array_equal(found.by_score,
                                  np.lexsort((image, -score, label)))
    for rank, one in enumerate(found.order):
        earlier = found.order[:rank]
        assert found.place[rank] == ((image[earlier] == image[one]) &
                                     (label[earlier] == label[one])).sum()


@pytest.mark.parametrize('box', [
    [1 + 2**-52, 0, 2**-53, 1],
    [1 + 2**-52, 1 + 2**-52, 2**-53, 2**-53],
])
def test_sides_that_rounding_doubles(box):
    # The right edge rounds up, so that the overlap is twice (or four times)
    # the area, and nothing or less is left of the union.
    assert (box[0] + box[2]) - box[0] == 2 * box[2]
    record = dict(image_id=1, category_id=1, bbox=box)
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=1)], categories=[dict(id=1)],
            annotations=[record]))
    detections = detections_from_coco([dict(record, score=.5)], ground_truth)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        matches = match_detections(ground_truth, detections, .5)
    assert matches.iou.tolist() == [1.0]
