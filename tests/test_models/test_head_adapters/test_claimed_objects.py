"""Labels of queries: those of COCO's own evaluation."""
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tcal_det.models.head_adapters.object_assignment import assign_objects

K = 3


def sample_of(boxes, labels, ignored=()):
    sample = DetDataSample(
        gt_instances=InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            labels=torch.tensor(labels, dtype=torch.long)))
    sample.ignored_instances = InstanceData(
        bboxes=torch.tensor(ignored, dtype=torch.float32).view(-1, 4))
    return sample


def claims(boxes, scores, *objects, **ignored):
    labels, quality, weight = assign_objects(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores), sample_of(*objects, **ignored), K)
    return labels.tolist(), quality.tolist(), weight.tolist()


def test_one_of_the_duplicates_is_right():
    """The one with the highest score of the object's class."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]
    scores = [[.6, .0, .9], [.7, .0, .0], [.8, .0, .0]]
    labels, quality, weight = claims(boxes, scores, [[0, 0, 10, 10]], [0])
    assert labels == [K, 0, K]
    assert quality == pytest.approx([0, 0.9, 0])
    assert weight == [1, 1, 1]


def test_other_class_claims_nothing():
    assert claims([[0, 0, 10, 10]], [[.1, .9, .0]], [[0, 0, 10, 10]],
                  [0])[0] == [0]
    assert claims([[0, 0, 10, 4]], [[.9, .0, .0]], [[0, 0, 10, 10]],
                  [0])[0] == [K]


def test_objects_of_two_classes_at_one_place():
    """A query that claims both has the class of its higher score."""
    place = [0, 0, 10, 10]
    labels, _, _ = claims([place, [0, 0, 10, 8]], [[.5, .8, .0], [.4, .3, .0]],
                          [place, place], [0, 1])
    assert labels == [1, K]


def test_the_second_best_object_where_the_best_is_taken():
    objects = [[0, 0, 10, 10], [0, 2, 10, 12]]
    labels, quality, _ = claims([[0, 0, 10, 10], [0, 0.5, 10, 10.5]],
                                [[.9, 0, 0], [.8, 0, 0]], objects, [0, 0])
    assert labels == [0, 0]
    # 8.5 of 11.5 rows.
    assert quality == pytest.approx([1, 8.5 / 11.5])


def test_ignored_region():
    """Neither right nor wrong, but for a query that detects an object."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [2, 2, 8, 8]]
    labels, _, weight = claims(
        boxes, [[.9, 0, 0], [.5, 0, 0], [.4, 0, 0], [.3, 0, 0]],
        [[0, 0, 10, 10]], [0],
        ignored=[[0, 0, 10, 10]])
    assert labels == [0, K, K, K]
    # Exactly one half is inside.
    assert weight == [1, 0, 1, 0]


def test_image_without_objects():
    labels, quality, weight = claims([[0, 0, 1, 1]], [[.9, 0, 0]], [], [])
    assert (labels, quality, weight) == ([K], [0], [1])
    assert claims([], np.zeros((0, K), np.float32), [[0, 0, 1, 1]],
                  [0]) == ([], [], [])


def hits_of_coco(boxes, scores, objects, labels):
    """Pairs of query and class that pycocotools calls right at IoU 0.5."""

    def xywh(box):
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=1, width=100, height=100)],
        categories=[dict(id=label + 1) for label in range(K)],
        annotations=[
            dict(
                id=index + 1,
                image_id=1,
                category_id=label + 1,
                bbox=xywh(box),
                area=1000,
                iscrowd=0)
            for index, (box, label) in enumerate(zip(objects, labels))
        ])
    coco.createIndex()
    found = COCO()
    found.dataset = dict(
        coco.dataset,
        annotations=[
            dict(
                id=query * K + label + 1,
                image_id=1,
                category_id=label + 1,
                bbox=xywh(boxes[query]),
                area=1000,
                iscrowd=0,
                score=scores[query][label]) for query in range(len(boxes))
            for label in range(K)
        ])
    found.createIndex()
    evaluation = COCOeval(coco, found, 'bbox')
    evaluation.params.maxDets = [len(boxes)]
    evaluation.evaluate()
    hits = set()
    for image in evaluation.evalImgs:
        if image is not None and image['aRng'] == evaluation.params.areaRng[0]:
            hits |= {
                divmod(int(one) - 1, K)
                for one, match in zip(image['dtIds'], image['dtMatches'][0])
                if match > 0
            }
    return hits


@pytest.mark.parametrize('seed', range(20))
def test_claims_are_the_hits_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 60, (5, 2))
    objects = np.hstack([corners, corners + rng.integers(15, 35, (5, 2))])
    labels = rng.integers(0, K, 5)
    # Several queries near each object.
    boxes = (np.repeat(objects, 4, axis=0) + rng.normal(0, 3,
                                                        (20, 4))).round(2)
    scores = rng.random((20, K)).astype(np.float32)
    hits = hits_of_coco(boxes.tolist(), scores.tolist(), objects.tolist(),
                        labels.tolist())
    expected = [
        max((label for query, label in hits if query == index),
            key=lambda label, index=index: scores[index, label],
            default=K) for index in range(20)
    ]
    found, _, _ = claims(boxes.tolist(), scores.tolist(), objects.tolist(),
                         labels.tolist())
    assert found == expected
    assert 1 < sum(label < K for label in found) <= 5
