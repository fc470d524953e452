import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (Detections, GroundTruth,
                                            detections_from_coco,
                                            ground_truth_from_coco,
                                            match_detections)
from tcal_det.evaluation.functional.conformal_threshold import (
    precision_thresholds, recall_thresholds)
from tcal_det.evaluation.functional.learn_then_test import \
    hoeffding_bentkus_p_value
from tests.test_evaluation.test_functional.detection_scenes import random_scene

TIGHT = dict(rel=0, abs=1e-12, nan_ok=True)


class Pool:
    """Boxes of many images: right ones on an object, wrong ones nowhere.

    Args:
        image (ndarray): Image of each box, shape (B,).
        score (ndarray): NaN for an object that nothing finds, shape (B,).
        is_right (ndarray): Whether there is an object, shape (B,).
        label (ndarray): Class, shape (B,).
    """

    def __init__(self, image, score, is_right, label=None):
        self.image, self.score, self.is_right = image, score, is_right
        self.label = np.zeros(len(image), int) if label is None else label

    def take(self, images):
        """Ground truth, detections and matches of some images."""
        number = np.full(self.image.max() + 1, -1)
        number[images] = np.arange(len(images))
        rows = np.flatnonzero(number[self.image] >= 0)
        image, label = number[self.image[rows]], self.label[rows]
        boxes = np.tile([0., 0, 10, 10], (len(rows), 1))
        boxes[:, 0] = 20 * np.arange(len(rows))
        num_classes = self.label.max() + 1
        real, found = self.is_right[rows], ~np.isnan(self.score[rows])
        ground_truth = GroundTruth(
            np.arange(len(images)), np.full((len(images), 2), np.nan),
            np.arange(num_classes), ('', ) * num_classes, image[real],
            label[real], boxes[real], np.zeros(real.sum(), bool))
        detections = Detections(image[found], label[found], boxes[found],
                                self.score[rows][found])
        return ground_truth, detections, match_detections(
            ground_truth, detections, .5)

    def missed_share(self, images, threshold, label=None):
        """Mean over images with objects of the share that is missed."""
        wanted = self.is_right & np.isin(self.image, images)
        if label is not None:
            wanted &= self.label == label
        is_missed = ~(self.score[wanted] >= threshold)
        total = np.bincount(self.image[wanted])
        missed = np.bincount(self.image[wanted], is_missed)
        return (missed[total > 0] / total[total > 0]).mean()


def with_standard_error(values):
    return np.mean(values), np.std(values) / math.sqrt(len(values))


def single_objects(rng, num_images):
    """One object in each image, found at a uniform score: loss(t) = t."""
    return Pool(
        np.arange(num_images), rng.random(num_images),
        np.ones(num_images, bool))


def naive_threshold(scores, alpha):
    """The largest with at most a share alpha of these objects missed."""
    return np.sort(scores)[int(alpha * len(scores) + 1e-9)]


def test_recall_guarantee_is_exact_for_single_objects():
    """Of 20 images and a new one, any two of 21 may be the lowest.

    So with the second lowest score as threshold the new one is missed with
    probability 2 / 21, the most below .1. Without the correction for a
    finite sample it is 3 / 21.
    """
    rng = np.random.default_rng(0)
    losses, naive = [], []
    for _ in range(400):
        pool = single_objects(rng, 20)
        ground_truth, _, matches = pool.take(np.arange(20))
        threshold = recall_thresholds(ground_truth, matches).overall.threshold
        assert threshold == np.sort(pool.score)[1]
        losses.append(threshold)
        naive.append(naive_threshold(pool.score, .1))
    mean, error = with_standard_error(losses)
    assert mean == pytest.approx(2 / 21, abs=4 * error)
    mean, error = with_standard_error(naive)
    assert mean == pytest.approx(3 / 21, abs=4 * error)
    assert mean > .1 + 4 * error  # so this test can see a broken guarantee


def crowded_images(rng, num_images, num_classes=2):
    """Several objects in each image, whose scores depend on each other."""
    count = rng.integers(0, 7, num_images)
    image = np.repeat(np.arange(num_images), count)
    ease = np.repeat(rng.beta(2, 1, num_images), count)
    label = rng.integers(0, num_classes, len(image))
    score = np.clip(ease + rng.normal(0, .1, len(image)) - .1 * label, 0, 1)
    score[rng.random(len(image)) < .02] = np.nan
    return Pool(image, score, np.ones(len(image), bool), label)


def test_recall_guarantee_over_many_splits():
    rng = np.random.default_rng(1)
    pool = crowded_images(rng, 500)
    losses, shifted = [[], [], []], []
    darker = Pool(pool.image, .8 * pool.score, pool.is_right, pool.label)
    for _ in range(200):
        images = rng.permutation(500)
        calibration, test = images[:60], images[60:]
        ground_truth, _, matches = pool.take(calibration)
        thresholds = recall_thresholds(ground_truth, matches, alpha=.2)
        for k, one in enumerate((*thresholds.per_class, thresholds.overall)):
            losses[k].append(
                pool.missed_share(test, one.threshold, k if k < 2 else None))
        shifted.append(darker.missed_share(test, thresholds.overall.threshold))
    for one in losses:
        mean, error = with_standard_error(one)
        assert .2 - 2 / 40 < mean < .2 + 2 * error
    mean, error = with_standard_error(shifted)
    assert mean > .2 + 4 * error  # images of another kind: no guarantee


def scene_arrays(seed, iou_thr=.5):
    annotations, results = random_scene(seed)
    if seed % 2:  # scores between the hundredths as well
        rng = np.random.default_rng(seed)
        for result in results:
            result['score'] *= rng.uniform(.8, 1)
    ground_truth = ground_truth_from_coco(annotations)
    detections = detections_from_coco(results, ground_truth)
    return ground_truth, detections, match_detections(ground_truth, detections,
                                                      iou_thr)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([.15, .3, .5, .8]))
def test_recall_threshold_is_the_largest_allowed(seed, alpha):
    """By cutting the matches at every score there is."""
    ground_truth, _, matches = scene_arrays(seed, .1)
    result = recall_thresholds(ground_truth, matches, alpha)
    for k, one in enumerate((*result.per_class, result.overall)):
        objects = ~ground_truth.iscrowd
        if k < ground_truth.num_classes:
            objects &= ground_truth.class_index == k
        images = np.unique(ground_truth.image_index[objects])
        assert one.num_images == len(images)
        allowed = {}
        for threshold in np.unique(matches.scores):
            cut = matches.above(threshold)
            found = np.zeros(len(objects), bool)
            found[cut.object_index[cut.is_tp]] = True
            loss = sum(
                np.mean(~found[objects & (ground_truth.image_index == i)])
                for i in images)
            if (loss + 1) / (len(images) + 1) <= alpha + 1e-12:
                allowed[threshold] = loss
        if allowed:
            assert one.threshold == max(allowed) and one.reason is None
            assert one.empirical == pytest.approx(
                allowed[max(allowed)] / len(images), **TIGHT)
        else:
            assert math.isnan(one.threshold) and math.isnan(one.empirical)
            assert one.reason


def test_why_there_is_no_recall_threshold():
    pool = Pool(
        np.arange(12), np.array([.9] * 9 + [np.nan] * 3), np.ones(12, bool),
        np.array([0] * 9 + [2] * 3))
    ground_truth, _, matches = pool.take(np.arange(12))
    result = recall_thresholds(ground_truth, matches, .1)
    assert [one.num_images for one in result.per_class] == [9, 0, 3]
    assert result.per_class[0].threshold == .9  # 9 images are just enough
    assert result.per_class[1].reason == ('no calibration image has objects')
    assert '3 calibration image(s)' in result.per_class[2].reason
    assert result.per_class[2].reason.endswith('needs 9')
    assert 'that no detection matches is 0.25' in result.overall.reason
    np.testing.assert_array_equal(result.thresholds, [.9, np.nan, np.nan])
    few = recall_thresholds(ground_truth, matches, .099).per_class[0]
    assert few.reason.endswith('needs 10')


def test_crowds_need_not_be_found():
    pool = single_objects(np.random.default_rng(2), 30)
    ground_truth, _, matches = pool.take(np.arange(30))
    iscrowd = np.arange(30) < 3
    crowds = replace(ground_truth, iscrowd=iscrowd)
    status = np.where(iscrowd, 2, matches.status)
    result = recall_thresholds(
        crowds,
        replace(matches, status=status, num_objects=crowds.num_objects))
    assert result.overall.num_images == 27


def single_detections(rng, num_images):
    """One detection in each image, right with the probability of its score.

    The share of false ones at score >= t is (1 - t) / 2.
    """
    score = rng.random(num_images)
    return Pool(np.arange(num_images), score, rng.random(num_images) < score)


def lowest_that_looks_right(scores, is_right, alpha):
    order = np.argsort(-scores)
    share = np.cumsum(~is_right[order]) / np.arange(1, len(scores) + 1)
    return scores[order][np.flatnonzero(share <= alpha)[-1]]


def test_precision_guarantee():
    """At alpha .25 the true threshold is .5; one below it is an error."""
    rng = np.random.default_rng(3)
    num_trials, delta = 200, .2
    chosen, naive = [], []
    for _ in range(num_trials):
        pool = single_detections(rng, 800)
        _, detections, matches = pool.take(np.arange(800))
        result = precision_thresholds(detections, matches, .25, delta)
        chosen.append(result.overall.threshold)
        naive.append(lowest_that_looks_right(pool.score, pool.is_right, .25))
    chosen = np.array(chosen)
    tolerance = 3 * math.sqrt(delta * (1 - delta) / num_trials)
    assert np.mean(chosen < .5) <= delta + tolerance
    # Not by refusing, or by asking for too much.
    assert np.mean(np.isnan(chosen)) < .02 and np.nanmean(chosen) < .7
    assert np.mean(np.array(naive) < .5) > delta + tolerance


def test_images_are_the_unit_of_precision():
    """All 30 detections of an image are right or wrong together."""
    rng = np.random.default_rng(4)
    num_trials, delta, alpha = 200, .1, .1
    broken, kept = 0, 0
    for _ in range(num_trials):
        image = np.repeat(np.arange(20), 30)
        pool = Pool(image, rng.uniform(.9, 1, 600),
                    (rng.random(20) > .13)[image])  # above alpha
        _, detections, matches = pool.take(np.arange(20))
        result = precision_thresholds(detections, matches, alpha, delta)
        kept += result.overall.reason is None
        as_images = replace(detections, image_index=np.arange(600))
        result = precision_thresholds(as_images, matches, alpha, delta)
        broken += result.overall.reason is None
    tolerance = 3 * math.sqrt(delta * (1 - delta) / num_trials)
    assert kept / num_trials <= delta
    assert broken / num_trials > delta + tolerance


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([.4, .6, .9]),
    st.sampled_from([(.9, .7, .5, .3, .1), (1, ), (.3, 0, .3)]))
def test_precision_threshold_by_brute_force(seed, alpha, starts):
    ground_truth, detections, matches = scene_arrays(seed, .1)
    delta = .9
    result = precision_thresholds(detections, matches, alpha, delta, starts)
    assert len(result.per_class) == ground_truth.num_classes
    for k, one in enumerate((*result.per_class, result.overall)):
        counted = matches.is_counted & ((matches.class_index == k) |
                                        (k == ground_truth.num_classes))
        passed = {}
        for start in set(starts):
            for step in range(round(100 * start), -1, -1):
                kept = counted & (matches.scores >= step / 100)
                losses = [
                    1 - matches.is_tp[kept
                                      & (detections.image_index == i)].mean()
                    for i in np.unique(detections.image_index[kept])
                ]
                if hoeffding_bentkus_p_value(sum(losses), len(losses),
                                             alpha) > delta / len(set(starts)):
                    break
                passed[step / 100] = losses
        if passed:
            losses = passed[min(passed)]
            assert one.threshold == min(passed) and one.reason is None
            assert one.num_images == len(losses)
            assert one.empirical == pytest.approx(np.mean(losses), **TIGHT)
        else:
            assert math.isnan(one.threshold) and one.reason
            assert one.num_images == len(
                np.unique(detections.image_index[counted]))


def test_precision_need_not_be_monotone():
    """Wrong at the top, right in the middle, wrong below."""
    score = np.repeat([.95, .6, .2], [10, 300, 100])
    pool = Pool(np.arange(410), score, score == .6)
    _, detections, matches = pool.take(np.arange(410))
    overall = precision_thresholds(detections, matches).overall
    assert overall.threshold == .21
    assert overall.num_images == 310
    assert overall.empirical == pytest.approx(10 / 310, **TIGHT)
    from_top = precision_thresholds(detections, matches, starts=[.9])
    assert math.isnan(from_top.overall.threshold)
    assert 'too few images or too many false' in from_top.overall.reason


def test_no_detections():
    pool = Pool(np.arange(3), np.full(3, np.nan), np.ones(3, bool))
    _, detections, matches = pool.take(np.arange(3))
    result = precision_thresholds(detections, matches)
    for one in (*result.per_class, result.overall):
        assert one.reason == 'no calibration image has a detection'
        assert math.isnan(one.threshold) and one.num_images == 0


@pytest.mark.parametrize('of_precision', [False, True])
def test_to_dict_is_json(of_precision):
    pool = crowded_images(np.random.default_rng(5), 100)
    ground_truth, detections, matches = pool.take(np.arange(100))
    result = (
        precision_thresholds(detections, matches, .2)
        if of_precision else recall_thresholds(ground_truth, matches, .2))
    document = json.loads(json.dumps(result.to_dict()))
    assert document['alpha'] == .2 and document['iou_thr'] == .5
    assert document['delta'] == (.1 if of_precision else None)
    assert document['loss'] == ('false_detections'
                                if of_precision else 'missed_objects')
    one = result.overall
    assert document['overall'] == dict(
        threshold=one.threshold,
        empirical=one.empirical,
        num_images=one.num_images,
        reason=None)
    assert [row['threshold']
            for row in document['per_class']] == result.thresholds.tolist()


@pytest.mark.parametrize('options, error, words', [
    (dict(alpha=0), InvalidValueError, r'`alpha` must be in \(0, 1\).*got 0'),
    (dict(alpha=1), InvalidValueError, r'`alpha` must be in \(0, 1\).*got 1'),
    (dict(alpha=10), InvalidValueError, 'alpha'),
    (dict(alpha=math.nan), InvalidValueError, 'alpha'),
    (dict(alpha='0.1'), InvalidTypeError, 'alpha'),
    (dict(alpha=True), InvalidTypeError, 'alpha'),
    (dict(delta=0), InvalidValueError, 'delta'),
    (dict(delta=1.), InvalidValueError, 'delta'),
    (dict(starts=[]), InvalidValueError, 'starts'),
    (dict(starts=[.905]), InvalidValueError, 'starts.*hundredths.*0.905'),
    (dict(starts=[90]), InvalidValueError, 'starts'),
])
def test_bad_options(options, error, words):
    ground_truth, detections, matches = scene_arrays(0)
    with pytest.raises(error, match=words):
        precision_thresholds(detections, matches, **options)
    if 'alpha' in options:
        with pytest.raises(error, match=words):
            recall_thresholds(ground_truth, matches, **options)


def test_matches_of_other_records_are_refused():
    ground_truth, detections, matches = scene_arrays(0)
    fewer = replace(ground_truth, iscrowd=np.ones_like(ground_truth.iscrowd))
    with pytest.raises(InvalidValueError, match='numbers of objects differ'):
        recall_thresholds(fewer, matches)
    _, others, _ = scene_arrays(1)
    with pytest.raises(InvalidValueError, match='same length'):
        precision_thresholds(others, matches)
