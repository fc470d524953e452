import copy

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import box_pairs
from tcal_det.evaluation.functional.coco_arrays import (detections_from_coco,
                                                        ground_truth_from_coco)
from tcal_det.evaluation.functional.lrp import lrp
from tcal_det.evaluation.functional.matching import (DROPPED, FALSE_POSITIVE,
                                                     IGNORED, TRUE_POSITIVE,
                                                     match_at_thresholds,
                                                     match_detections)
from tcal_det.evaluation.functional.record_fields import (LARGEST_COORDINATE,
                                                          SMALLEST_SIDE)
from tests.test_evaluation.test_functional.detection_scenes import (
    cocoeval_flags, random_scene)
from tests.test_evaluation.test_functional.golden_files import (load_golden,
                                                                load_scene)

SEEDS = st.integers(0, 2**32 - 1)
NAMES = {
    TRUE_POSITIVE: 'tp',
    FALSE_POSITIVE: 'fp',
    IGNORED: 'ignored',
    DROPPED: 'dropped'
}
GOLDEN_CASES = {
    'tau0.5': dict(iou_thr=0.5),
    'tau0.1': dict(iou_thr=0.1),
    'tau0': dict(iou_thr=0.0),
    'tau0_cocoeval_zero_iou_accepted': dict(iou_thr=0.0, zero_iou='accept')
}


def arrays_of(scene):
    ground_truth = ground_truth_from_coco(scene[0])
    return ground_truth, detections_from_coco(scene[1], ground_truth)


def matched_ids(scene, matches):
    """Annotation id of the match of each result, -1 for none."""
    ids = np.array([record['id'] for record in scene[0]['annotations']] + [-1])
    return ids[matches.object_index]


def assert_equal_to_cocoeval(scene,
                             iou_thr,
                             max_dets=100,
                             zero_iou='reject',
                             coco_thr=None):
    matches = match_detections(*arrays_of(scene), iou_thr, max_dets, zero_iou)
    status, ids = cocoeval_flags(scene,
                                 iou_thr if coco_thr is None else coco_thr,
                                 max_dets)
    np.testing.assert_array_equal(matches.status, status)
    np.testing.assert_array_equal(matched_ids(scene, matches), ids)


@pytest.mark.parametrize('case', GOLDEN_CASES)
@pytest.mark.parametrize('name', ['det_small', 'det_ties'])
def test_golden_flags(name, case):
    expected = load_golden(name)['matches'][case]
    matches = match_detections(*load_scene(name), **GOLDEN_CASES[case])
    assert [NAMES[s] for s in matches.status] == expected['status']
    scene = load_golden(f'{name}_gt'), load_golden(f'{name}_dt')
    ids = [-1 if i is None else i for i in expected['gt_id']]
    assert matched_ids(scene, matches).tolist() == ids
    assert matches.iou.tolist() == expected['iou']  # to the last bit
    num_objects = {
        str(k): n
        for k, n in zip(
            ground_truth_from_coco(scene[0]).category_ids.tolist(),
            matches.num_objects.tolist())
    }
    assert num_objects == expected['n_gt']


# Each scene has 8 images and up to 3 classes: about 16 of the (image, class)
# pairs that are matched on their own, several thousand in all.
@settings(derandomize=True, deadline=None, max_examples=200)
@given(SEEDS, st.sampled_from([0.05, 0.1, 0.5, 0.75, 1 / 3]), st.booleans())
def test_flags_equal_pycocotools(seed, iou_thr, fractions):
    assert_equal_to_cocoeval(random_scene(seed, fractions=fractions), iou_thr)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(SEEDS)
def test_flags_at_zero_equal_pycocotools(seed):
    scene = random_scene(seed)
    assert_equal_to_cocoeval(scene, 0.0, zero_iou='accept')
    # No IoU of these scenes lies in (0, 1e-9): just above zero COCOeval
    # does not match disjoint boxes either.
    assert_equal_to_cocoeval(scene, 0.0, coco_thr=1e-9)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
def test_flags_of_crowded_images_equal_pycocotools(seed, iou_thr):
    scene = random_scene(seed, num_images=2, max_objects=40, max_results=250)
    assert_equal_to_cocoeval(scene, iou_thr, zero_iou='accept')


@settings(derandomize=True, deadline=None, max_examples=20)
@given(SEEDS, st.integers(1, 6))
def test_max_dets_is_per_image_and_class(seed, max_dets):
    assert_equal_to_cocoeval(random_scene(seed), 0.3, max_dets)


def test_more_than_100_results_of_an_image_and_class():
    scene = random_scene(1, num_images=1, max_objects=3, max_results=1)
    category_id = scene[0]['categories'][0]['id']
    image_id = scene[0]['images'][0]['id']
    results = [
        dict(
            image_id=image_id,
            category_id=category_id,
            bbox=[0, 0, 1, 1],
            score=0.5) for _ in range(130)
    ]
    matches = match_detections(*arrays_of((scene[0], results)), 0.5)
    assert matches.status.tolist().count(DROPPED) == 30
    assert (matches.status[100:] == DROPPED).all()  # file order among equals


@settings(derandomize=True, deadline=None, max_examples=30)
@given(SEEDS)
def test_iou_is_that_of_pycocotools_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(seed)
    for record in scene[0]['annotations'] + scene[1]:
        record['bbox'] = (rng.random(4) * [8, 8, 9, 9]).tolist()
    matches = match_detections(*arrays_of(scene), 0.1)
    for index in np.flatnonzero(matches.is_tp):
        annotation = scene[0]['annotations'][matches.object_index[index]]
        iou = mask.iou([scene[1][index]['bbox']], [annotation['bbox']], [0])
        assert matches.iou[index] == min(iou[0, 0], 1.0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
def test_order_of_classes_images_and_other_groups_has_no_influence(
        seed, iou_thr):
    annotations, results = random_scene(seed)
    expected = match_detections(*arrays_of((annotations, results)), iou_thr)
    rng = np.random.default_rng(seed)
    moved = dict(annotations)
    for key in ('images', 'categories'):
        moved[key] = [
            annotations[key][i]
            for i in rng.permutation(len(annotations[key]))
        ]
    # Order inside an image and class decides between ties: it is kept.
    groups = np.array([50 * r['category_id'] + r['image_id'] for r in results],
                      dtype=int)
    names = rng.permutation(np.unique(groups))
    order = [i for name in names for i in np.flatnonzero(groups == name)]
    matches = match_detections(
        *arrays_of((moved, [results[i] for i in order])), iou_thr)
    np.testing.assert_array_equal(matches.status, expected.status[order])
    np.testing.assert_array_equal(matches.iou, expected.iou[order])


def test_annotation_id_0_is_matched():
    # COCOeval stores a match as the annotation's id and reads 0 as none.
    annotations, results = load_golden('det_small_gt'), load_golden(
        'det_small_dt')
    expected = match_detections(*arrays_of((annotations, results)), 0.5)
    for record in annotations['annotations']:
        record['id'] -= 11
    assert cocoeval_flags((annotations, results), 0.5)[0][0] == FALSE_POSITIVE
    matches = match_detections(*arrays_of((annotations, results)), 0.5)
    np.testing.assert_array_equal(matches.status, expected.status)
    assert matches.status[0] == TRUE_POSITIVE


@settings(derandomize=True, deadline=None, max_examples=30)
@given(SEEDS, st.floats(0, 1))
@example(0, 0.5)
def test_cutting_after_matching_equals_matching_what_is_left(seed, score_thr):
    annotations, results = random_scene(seed)
    matches = match_detections(*arrays_of((annotations, results)),
                               0.3).above(score_thr)
    kept = [i for i, r in enumerate(results) if r['score'] >= score_thr]
    again = match_detections(
        *arrays_of((annotations, [results[i] for i in kept])), 0.3)
    np.testing.assert_array_equal(matches.status[kept], again.status)
    np.testing.assert_array_equal(matches.iou[kept], again.iou)
    left_out = np.setdiff1d(np.arange(len(results)), kept)
    assert (matches.status[left_out] == DROPPED).all()
    assert (matches.iou[left_out] == 0).all()


def test_thresholds_share_one_pass_and_agree_with_single_ones():
    pair = arrays_of(random_scene(5))
    for rule in ('reject', 'accept'):
        together = match_at_thresholds(*pair, (0.5, 0.0, 0.1), zero_iou=rule)
        for matches in together:
            alone = match_detections(*pair, matches.iou_thr, zero_iou=rule)
            np.testing.assert_array_equal(matches.status, alone.status)
            np.testing.assert_array_equal(matches.iou, alone.iou)


def test_blocks_of_pairs_do_not_change_the_result(monkeypatch):
    pair = arrays_of(random_scene(3))
    expected = match_detections(*pair, 0.1)
    for size in (1, 2, 7):
        monkeypatch.setattr(box_pairs, '_PAIRS_PER_BLOCK', size)
        matches = match_detections(*pair, 0.1)
        np.testing.assert_array_equal(matches.status, expected.status)
        np.testing.assert_array_equal(matches.object_index,
                                      expected.object_index)


def test_chain_of_second_choices():
    # Result k likes object k + 1 most and object k next; the first result
    # takes object 1, so that each later one is pushed on in turn.
    annotations, results = [], []
    for k in range(30):
        annotations.append(
            dict(
                id=k + 1,
                image_id=1,
                category_id=1,
                bbox=[10.0 * k, 0, 10, 10],
                iscrowd=0))
        results.append(
            dict(
                image_id=1,
                category_id=1,
                score=1 - k / 100,
                bbox=[10.0 * k + 5.5, 0, 10, 10]))
    results.insert(0, dict(results[0], bbox=[10.0, 0, 10, 10], score=1.0))
    for record in annotations:
        record['area'] = 100.0
    scene = dict(
        images=[dict(id=1)], categories=[dict(id=1)],
        annotations=annotations), results
    assert_equal_to_cocoeval(scene, 0.1)
    matches = match_detections(*arrays_of(scene), 0.1)
    assert matches.object_index[:4].tolist() == [1, 0, 2, 3]


def test_no_results_no_objects_no_images():
    annotations, results = load_golden('det_small_gt'), load_golden(
        'det_small_dt')
    matches = match_detections(*arrays_of((annotations, [])), 0.5)
    assert len(matches.status) == 0
    assert matches.num_objects.tolist() == [3, 1, 1]
    bare = dict(annotations, annotations=[])
    matches = match_detections(*arrays_of((bare, results)), 0.0)
    assert (matches.status == FALSE_POSITIVE).all()
    nothing = dict(images=[], categories=[], annotations=[])
    assert len(match_detections(*arrays_of((nothing, [])), 0.5).status) == 0


def test_boxes_without_area_match_nothing():
    annotations = load_golden('det_small_gt')
    record = copy.deepcopy(annotations['annotations'][0])
    box = [10.0, 10.0, 0.0, 0.0]
    record['bbox'] = box
    annotations['annotations'] = [record]
    results = [dict(image_id=1, category_id=1, bbox=box, score=0.5)]
    for rule, status in (('reject', FALSE_POSITIVE), ('accept',
                                                      TRUE_POSITIVE)):
        matches = match_detections(
            *arrays_of((annotations, results)), 0.0, zero_iou=rule)
        assert matches.status.tolist() == [status]


def one_object(box, result_box=None):
    """A scene of one object and one detection."""
    record = dict(image_id=1, category_id=1, bbox=list(box))
    return arrays_of((dict(
        images=[dict(id=1)], categories=[dict(id=1)], annotations=[record]),
                      [dict(record, bbox=list(result_box or box), score=1.0)]))


def test_rounding_leaves_no_iou_above_1():
    # 0.1 + 0.2 - 0.1 > 0.2: the overlap of the box with itself is larger
    # than the box.
    assert mask.iou([[.1, .1, .2, .2]], [[.1, .1, .2, .2]], [0])[0, 0] > 1
    matches = match_detections(*one_object([.1, .1, .2, .2]), 0.5)
    assert matches.iou.tolist() == [1.0]
    assert lrp(matches).mean_loc == 0


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.tuples(
        *[st.floats(-LARGEST_COORDINATE, LARGEST_COORDINATE)] * 2, *[
            st.one_of(
                st.floats(SMALLEST_SIDE, 1), st.floats(1, LARGEST_COORDINATE))
        ] * 2))
# Its right edge is rounded up: the overlap is twice the box, the union 0.
@example((float(np.nextafter(1e9, 0)), 0.0, 2.0**-24, 10.0))
@example((0.0, 0.0, SMALLEST_SIDE, SMALLEST_SIDE))
@example((0.0, 0.0, LARGEST_COORDINATE, LARGEST_COORDINATE))
def test_a_box_matches_itself_wherever_it_lies(box):
    x, y, width, height = box
    matches = match_detections(*one_object(box), 0.0)
    # Far from the origin float64 has no right edge beside the left one, and
    # COCOeval finds no overlap either.
    if x + width == x or y + height == y:
        assert matches.iou.tolist() == [0.0]
        return
    rounding = sum(
        float(np.spacing(abs(low) + side)) / side
        for low, side in ((x, width), (y, height)))
    assert 1 - 4 * rounding <= matches.iou[0] <= 1 and matches.iou[0] > 0


@settings(derandomize=True, deadline=None, max_examples=200)
@given(*[st.integers(1, 40)] * 4, st.integers(-300, 24))
def test_iou_does_not_depend_on_the_unit_of_length(x, width, other_x, other,
                                                   exponent):
    """A power of two is exact in float64, down and up to the limits."""
    overlap = min(x + width, other_x + other) - max(x, other_x)
    # Squares whose corners lie on the diagonal.
    iou = max(overlap, 0)**2 / (width**2 + other**2 - max(overlap, 0)**2)
    boxes = ([one * 2.0**exponent for one in (x, x, width, width)],
             [one * 2.0**exponent for one in (other_x, other_x, other, other)])
    matches = match_detections(*one_object(*boxes), 0.0)
    assert matches.iou[0] == pytest.approx(iou, rel=1e-15)


def test_options_are_checked():
    pair = load_scene('det_small')
    with pytest.raises(InvalidValueError, match=r'`iou_thr` .*\[0, 1\)'):
        match_detections(*pair, iou_thr=1.0)
    with pytest.raises(InvalidTypeError, match='`iou_thr`'):
        match_detections(*pair, iou_thr='0.5')
    with pytest.raises(InvalidValueError, match='`max_dets` must be >= 1'):
        match_detections(*pair, 0.5, max_dets=0)
    with pytest.raises(InvalidValueError, match="'reject' or 'accept'"):
        match_detections(*pair, 0.5, zero_iou='maybe')
