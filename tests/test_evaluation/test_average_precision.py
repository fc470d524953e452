"""Against pycocotools the usual way, with loadRes and all area ranges."""
import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tcal_det.evaluation.average_precision import average_precision
from tcal_det.evaluation.functional import (detections_from_coco,
                                            ground_truth_from_coco)


def usual_way(annotations, results):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = annotations
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results), 'bbox')
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def ours(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    return average_precision(ground_truth,
                             detections_from_coco(results, ground_truth))


@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_equals_cocoeval(name, golden):
    annotations, results = golden(f'{name}_gt.json'), golden(f'{name}_dt.json')
    overall, per_class = ours(annotations, results)
    evaluator = usual_way(annotations, results)
    assert list(overall.values()) == evaluator.stats[:3].tolist()
    for k, figures in enumerate(per_class):
        precision = evaluator.eval['precision'][:, :, k, 0, 2]
        assert figures['mAP'] == pytest.approx(precision.mean(), abs=1e-12)
        assert figures['AP75'] == pytest.approx(precision[5].mean(), abs=1e-12)


def test_annotation_id_0_is_found(golden):
    """COCOeval takes a match with object 0 for no match."""
    annotations, results = golden('det_small_gt.json'), golden(
        'det_small_dt.json')
    expected = ours(annotations, results)
    for number, annotation in enumerate(annotations['annotations']):
        annotation['id'] = number
    assert ours(annotations, results) == expected
    assert usual_way(annotations, results).stats[0] < expected[0]['mAP'] - 0.01


def test_no_results(golden):
    overall, per_class = ours(golden('det_small_gt.json'), [])
    assert overall == dict(mAP=0, AP50=0, AP75=0)
    assert per_class == [overall] * 3


def test_no_objects(golden):
    annotations = dict(golden('det_small_gt.json'), annotations=[])
    overall, _ = ours(annotations, golden('det_small_dt.json'))
    assert all(map(math.isnan, overall.values()))


def test_text_ids_and_order_do_not_matter(golden):
    annotations, results = golden('det_ties_gt.json'), golden(
        'det_ties_dt.json')
    expected = ours(annotations, results)[0]
    for record in annotations['annotations'] + results:
        record['image_id'] = f'{record["image_id"]:04d}'
    for image in annotations['images']:
        image['id'] = f'{image["id"]:04d}'
    np.random.default_rng(0).shuffle(annotations['images'])
    assert ours(annotations, results)[0] == expected


@pytest.mark.parametrize('side', [1e4, 1e5, 2e5, 1e8])
def test_large_boxes_count(side):
    """COCOeval's range 'all' ends at an area of 1e10."""
    box = dict(image_id=1, category_id=1, bbox=[0, 0, side, side])
    annotations = dict(
        images=[dict(id=1)], categories=[dict(id=1)], annotations=[box])
    wrong = dict(box, bbox=[0, 0, side, side / 4], score=0.9)
    overall, _ = ours(annotations, [wrong, dict(box, score=0.5)])
    # One false positive comes before the right one: precision 1 / 2.
    assert overall == dict(mAP=0.5, AP50=0.5, AP75=0.5)
