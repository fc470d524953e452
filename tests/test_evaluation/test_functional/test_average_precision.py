"""COCO's figures against pycocotools, used the usual way, to the last bit."""
import contextlib
import copy
import io
import math
from collections import Counter

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tcal_det.evaluation.functional.average_precision import (
    AREA_RANGES, average_precision, mean_precision)
from tcal_det.evaluation.functional.coco_arrays import (detections_from_coco,
                                                        ground_truth_from_coco)
from tcal_det.evaluation.functional.precision_table import (
    ANY_AREA, interpolated_precision, precision_tables, recall)
from tests.test_evaluation.test_functional.detection_scenes import random_scene

NAMES = [
    'mAP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large', 'AR_1',
    'AR_10', 'AR_100', 'AR_small', 'AR_medium', 'AR_large'
]
# At and beside the bounds of the area ranges.
AREAS = [0.0, 100.0, 1023.9, 1024.0, 1024.1, 5000.0, 9216.0, 9216.1, 12000.0]


def usual_way(annotations, results):
    annotations, results = copy.deepcopy((annotations, results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = annotations
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results), 'bbox')
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def arrays_of(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    return ground_truth, detections_from_coco(results, ground_truth)


def ours(annotations, results):
    return average_precision(*arrays_of(annotations, results))


def mean_of_class(values):
    values = values[values > -1]
    return values.mean() if len(values) else -1


def figures_of_class(evaluator, k):
    """As people read them out of COCOeval."""
    precision = evaluator.eval['precision'][:, :, k]
    recalls = evaluator.eval['recall'][:, k]
    return [
        mean_of_class(values)
        for values in (precision[..., 0, 2], precision[0, :, 0,
                                                       2], precision[5, :, 0,
                                                                     2],
                       *(precision[..., a, 2] for a in (1, 2, 3)),
                       *(recalls[:, 0, m]
                         for m in range(3)), *(recalls[:, a, 2]
                                               for a in (1, 2, 3)))
    ]


def assert_equal_to_cocoeval(annotations, results, which=''):
    evaluator = usual_way(annotations, results)
    found = ours(annotations, results)
    rows = [found.overall] + found.per_class
    expected = [evaluator.stats.tolist()] + [
        figures_of_class(evaluator, k) for k in range(len(found.per_class))
    ]
    for row, values in zip(rows, expected):
        assert list(row) == NAMES
        assert [-1 if math.isnan(v) else v
                for v in row.values()] == [*values], which


def varied_scene(seed):
    """Ties, crowds, ignored objects, areas at the bounds, empty images."""
    rng = np.random.default_rng(seed)
    annotations, results = random_scene(
        seed,
        num_images=int(rng.integers(1, 4)),
        max_objects=int(rng.integers(1, 5)),
        max_results=int(rng.choice([0, 2, 6])),
        fractions=bool(seed % 2))
    for record in annotations['annotations'] + results:
        record['bbox'] = [20 * value for value in record['bbox']]
    for record in annotations['annotations']:
        # The area of a mask, unlike that of the box.
        record['area'] = float(rng.choice(AREAS))
        record['ignore'] = int(rng.random() < 0.3)
    return annotations, results


@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_golden_files(name, golden):
    assert_equal_to_cocoeval(
        golden(f'{name}_gt.json'), golden(f'{name}_dt.json'))


@pytest.mark.parametrize('block', range(10))
def test_a_thousand_scenes(block):
    for seed in range(100 * block, 100 * (block + 1)):
        annotations, results = varied_scene(seed)
        if results:  # loadRes does not take an empty list
            assert_equal_to_cocoeval(annotations, results, f'seed {seed}')


def test_more_than_100_detections_of_an_image_and_class():
    annotations, results = random_scene(
        5, num_images=2, max_objects=40, max_results=300)
    assert max(
        Counter((one['image_id'], one['category_id'])
                for one in results).values()) > 150
    assert_equal_to_cocoeval(annotations, results)


BOX = dict(image_id=1, category_id=1, iscrowd=0)
LARGE = dict(BOX, id=2, bbox=[0, 0, 30, 50], area=9999.0)


def test_an_object_out_of_the_range_yields_to_one_in_it():
    """Even to one of smaller IoU."""
    small = dict(BOX, id=1, bbox=[0, 0, 30, 41], area=1000.0)
    annotations = dict(
        images=[dict(id=1)],
        categories=[dict(id=1)],
        annotations=[small, LARGE])
    result = dict(BOX, bbox=[0, 0, 30, 50], score=.9)
    found = ours(annotations, [result]).overall
    # IoU 0.82 with the small one: right at 7 of the 10 thresholds.
    assert found['AP_small'] == pytest.approx(0.7)
    # Of any area it takes the other one: recall 1 / 2, 51 of 101 points.
    assert found['mAP'] == pytest.approx(51 / 101)


def test_a_detection_on_an_object_out_of_the_range_is_neither():
    small = dict(BOX, id=1, bbox=[200, 200, 20, 20], area=400.0)
    annotations = dict(
        images=[dict(id=1)],
        categories=[dict(id=1)],
        annotations=[small, LARGE])
    results = [
        dict(BOX, bbox=[0, 0, 30, 31], score=.9),
        dict(BOX, bbox=[200, 200, 20, 20], score=.5)
    ]
    # The first has IoU 0.62 with the large object: at 3 thresholds it is in
    # no sum, at the others it is wrong and stands before the right one.
    found = ours(annotations, results).overall
    assert found['AP_small'] == pytest.approx(0.3 * 1 + 0.7 * 0.5)


def test_a_choice_in_the_range_frees_an_object_for_others():
    """Of a detection that itself reaches one kind of objects only."""
    small = dict(BOX, id=1, bbox=[0, 10, 30, 40], area=1000.0)
    other = dict(BOX, id=3, bbox=[200, 200, 20, 20], area=400.0)
    annotations = dict(
        images=[dict(id=1)],
        categories=[dict(id=1)],
        annotations=[small, LARGE, other])
    results = [
        dict(BOX, bbox=[0, 0, 30, 50], score=.9),
        # Of any area it finds LARGE taken; among small ones it is ignored.
        dict(BOX, bbox=[0, 0, 30, 26], score=.8),
        dict(BOX, bbox=[200, 200, 20, 20], score=.7)
    ]
    assert_equal_to_cocoeval(annotations, results)


@pytest.mark.parametrize('num_objects', [20, 25, 50, 75, 100])
def test_recall_thresholds_that_rounding_meets(num_objects):
    """The share of objects found equals a threshold, or nearly so."""
    rng = np.random.default_rng(num_objects)
    objects = [
        dict(BOX, id=1 + i, bbox=[50 * i, 0, 20, 20], area=400.0)
        for i in range(num_objects)
    ]
    results = [
        dict(
            BOX,
            bbox=[50 * i, 30 * int(rng.random() < 0.5), 20, 20],
            score=float(rng.random())) for i in range(num_objects)
        for _ in range(2)
    ]
    for record in results:
        record['image_id'] = int(rng.integers(1, 3))
    for record in objects:
        record['image_id'] = 1 + record['id'] % 2
    # Each object has a detection somewhere, so that all recalls occur.
    results += [dict(one, score=float(rng.random())) for one in objects]
    assert_equal_to_cocoeval(
        dict(
            images=[dict(id=1), dict(id=2)],
            categories=[dict(id=1)],
            annotations=objects), results)


def test_annotation_id_0_is_found(golden):
    """COCOeval takes a match with object 0 for no match."""
    annotations, results = golden('det_small_gt.json'), golden(
        'det_small_dt.json')
    expected = ours(annotations, results)
    for number, annotation in enumerate(annotations['annotations']):
        annotation['id'] = number
    assert str(ours(annotations, results)) == str(expected)
    assert usual_way(annotations,
                     results).stats[0] < expected.overall['mAP'] - 0.01


def test_no_results(golden):
    annotations = golden('det_small_gt.json')
    for annotation in annotations['annotations']:
        annotation['area'] = 2000.0
    found = ours(annotations, [])
    for figures in (found.overall, *found.per_class):
        for name, value in figures.items():
            if name.endswith(('small', 'large')):
                assert math.isnan(value)
            else:
                assert value == 0


def test_no_objects(golden):
    annotations = dict(golden('det_small_gt.json'), annotations=[])
    found = ours(annotations, golden('det_small_dt.json'))
    assert all(map(math.isnan, found.overall.values()))


def test_text_ids_and_order_do_not_matter(golden):
    annotations, results = golden('det_ties_gt.json'), golden(
        'det_ties_dt.json')
    expected = ours(annotations, results)
    for record in annotations['annotations'] + results:
        record['image_id'] = f'{record["image_id"]:04d}'
    for image in annotations['images']:
        image['id'] = f'{image["id"]:04d}'
    np.random.default_rng(0).shuffle(annotations['images'])
    assert str(ours(annotations, results)) == str(expected)


@pytest.mark.parametrize('side', [1e4, 1e5, 2e5, 1e8])
def test_large_boxes_count(side):
    """COCOeval's ranges 'all' and 'large' end at an area of 1e10."""
    box = dict(image_id=1, category_id=1, bbox=[0, 0, side, side])
    annotations = dict(
        images=[dict(id=1)], categories=[dict(id=1)], annotations=[box])
    wrong = dict(box, bbox=[0, 0, side, side / 4], score=0.9)
    found = ours(annotations, [wrong, dict(box, score=0.5)]).overall
    # One false positive comes before the right one: precision 1 / 2.
    for name in ('mAP', 'AP50', 'AP75', 'AP_large'):
        assert found[name] == 0.5


def repeated(annotations, results, counts):
    """The data set with image i standing counts[i] times, copies adjacent."""
    ids = sorted(image['id'] for image in annotations['images'])
    copies_of = {
        one: [100 * one + n for n in range(count)]
        for one, count in zip(ids, counts)
    }

    def copied(records):
        return [
            dict(record, image_id=copy_id) for record in records
            for copy_id in copies_of[record['image_id']]
        ]

    objects = [
        dict(record, id=number)
        for number, record in enumerate(copied(annotations['annotations']), 1)
    ]
    images = [
        dict(image, id=copy_id) for image in annotations['images']
        for copy_id in copies_of[image['id']]
    ]
    return dict(
        annotations, images=images, annotations=objects), copied(results)


@pytest.mark.parametrize('seed', range(100))
def test_image_counts_repeat_images(seed):
    annotations, results = varied_scene(seed)
    rng = np.random.default_rng(seed)
    # Equal scores within an image would stand in another order.
    for rank, place in enumerate(rng.permutation(len(results))):
        results[place]['score'] = rank / 1000
    counts = rng.integers(0, 4, len(annotations['images']))
    again = repeated(annotations, results, counts)
    if not again[1]:
        return
    evaluator = usual_way(*again)
    for a, table in enumerate(
            precision_tables(*arrays_of(annotations, results),
                             [ANY_AREA, *AREA_RANGES.values()])):
        np.testing.assert_array_equal(
            np.nan_to_num(interpolated_precision(table, counts), nan=-1),
            evaluator.eval['precision'][..., a, 2])
        for m, max_dets in enumerate((1, 10, 100)):
            np.testing.assert_array_equal(
                np.nan_to_num(recall(table, max_dets, counts), nan=-1),
                evaluator.eval['recall'][..., a, m])
        if a == 0:
            means = mean_precision(interpolated_precision(table, counts))
            assert [-1 if math.isnan(v) else v
                    for v in means.values()] == evaluator.stats[:3].tolist()


def test_area_that_is_none_is_that_of_the_box():
    areas = [7.5, 0, None, 'large', math.nan, -1, math.inf, True, 10**400]
    annotations = dict(
        images=[dict(id=1)],
        categories=[dict(id=1)],
        annotations=[
            dict(image_id=1, category_id=1, bbox=[0, 0, 2, 3], area=area)
            for area in areas
        ] + [dict(image_id=1, category_id=1, bbox=[0, 0, 2, 4])])
    assert ground_truth_from_coco(annotations).area.tolist() == [
        7.5, 0, 6, 6, 6, 6, 6, 6, 6, 8
    ]
