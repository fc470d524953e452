"""The kept pairs are those of the groups, chosen by score."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.models.head_adapters import ClassificationSamples
from tcal_det.teachers.pairs import (PairCollector, pair_targets,
                                     score_threshold)

K = 3


def make_adapter(**test_cfg):
    return SimpleNamespace(
        detector=SimpleNamespace(test_cfg=test_cfg),
        sample_name='priors',
        cls_channels=K,
        scores_iou=False)


def make_group(count=40, seed=0, columns=K, num_images=2):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K + 1, (count, ), generator=generator)
    quality = torch.rand(count, generator=generator)
    return ClassificationSamples(
        logits=4 * torch.randn(count, columns, generator=generator) - 3,
        image_index=torch.arange(count) % num_images,
        location=None,
        labels=labels,
        quality=torch.where(labels < K, quality, torch.tensor(0.)),
        weight=(torch.rand(count, generator=generator) < .7).float())


def rows_of(groups, threshold):
    """(logit, target, image) of all pairs that are not ignored, by loops."""
    rows = []
    for first_image, group in groups:
        for i in range(len(group.logits)):
            if group.weight is not None and group.weight[i] == 0:
                continue
            for c in range(group.logits.shape[1]):
                target = 0.
                if group.labels[i] == c:
                    target = (1. if group.quality is None else
                              group.quality[i].item())
                logit = group.logits[i, c].item()
                if 1 / (1 + np.exp(-logit)) > threshold:
                    rows.append((logit, target,
                                 first_image + group.image_index[i].item()))
    return np.array(rows)


def variances_of(groups, threshold):
    """Of each place with a score above the threshold, by numpy, and image."""
    variances, image_ids = [], []
    for first_image, group in groups:
        for i in range(len(group.logits)):
            scores = 1 / (1 + np.exp(-group.logits[i].double().numpy()))
            if group.weight is not None and group.weight[i] == 0:
                continue
            others = [
                score for c, score in enumerate(scores) if c != group.labels[i]
            ]
            if scores.max() > threshold and others:
                variances.append(np.var(others))
                image_ids.append(first_image + group.image_index[i].item())
    return variances, image_ids


def collect(groups, max_samples=10**4, **test_cfg):
    collector = PairCollector(make_adapter(**test_cfg), max_samples, seed=0)
    for first_image, group in groups:
        collector.add(group, first_image)
    return collector.result(10)


@pytest.mark.parametrize('test_cfg, threshold', [
    (dict(), .05),
    (dict(score_thr=.001), .05),
    (dict(score_thr=.3), .3),
    (dict(rpn=dict(), rcnn=dict(score_thr=.2)), .2),
])
def test_selections_and_sums_equal_those_of_loops(test_cfg, threshold):
    plain = make_group(seed=2)
    plain.quality = plain.weight = None
    groups = [(0, make_group()), (2, make_group(seed=1)), (4, plain)]
    pairs = collect(groups, **test_cfg)
    assert pairs.score_threshold == threshold
    for name, lowest in (('scored', threshold), ('all', 0)):
        selection = getattr(pairs, name)
        expected = rows_of(groups, lowest)
        found = np.stack(
            [selection.logits, selection.targets, selection.image_ids], axis=1)
        assert found == pytest.approx(expected, abs=1e-6)
        assert selection.num_seen == len(expected)
    every = rows_of(groups, 0)
    assert pairs.base_rate == pytest.approx(every[:, 1].mean())
    assert pairs.sum_scores == pytest.approx(
        (1 / (1 + np.exp(-every[:, 0]))).sum())
    assert 0 < len(pairs.scored.logits) < len(pairs.all.logits)
    found = pairs.scored_places
    variances, image_ids = variances_of(groups, threshold)
    assert found.non_target_variance == pytest.approx(variances, rel=1e-6)
    assert found.image_ids.tolist() == image_ids
    assert found.num_seen == len(variances) < 120


def test_sums_are_over_all_pairs_where_few_are_kept():
    groups = [(0, make_group(400)), (2, make_group(400, seed=1))]
    whole, few = collect(groups), collect(groups, max_samples=50)
    assert few.base_rate == whole.base_rate
    assert few.sum_scores == whole.sum_scores
    for name in ('scored', 'all'):
        one, other = getattr(few, name), getattr(whole, name)
        assert len(one.logits) == 50 < one.num_seen == other.num_seen
        known = set(zip(other.logits, other.targets, other.image_ids))
        assert set(zip(one.logits, one.targets, one.image_ids)) <= known
    described = few.describe()
    assert described['num_used'] == described['num_scored_used'] == 50
    assert described['num_seen'] == whole.all.num_seen


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, K), st.floats(0, 1, width=32)), max_size=20),
    st.sampled_from([K, K + 1]))
def test_targets_are_one_column_of_the_label(rows, columns):
    labels = torch.tensor([label for label, _ in rows], dtype=torch.long)
    quality = torch.tensor([one for _, one in rows])
    group = ClassificationSamples(
        torch.zeros(len(rows), columns), labels, None, labels=labels)
    targets = pair_targets(group)
    # A RoI head has a column of background, a dense head has none.
    has_column = (labels < columns).float()
    assert torch.equal(targets.sum(dim=1), has_column)
    group.quality = quality
    assert torch.equal(pair_targets(group), targets * quality[:, None])


def test_no_test_cfg():
    assert score_threshold(SimpleNamespace(test_cfg=None)) == .05


def test_no_object():
    group = make_group()
    group.labels[:] = K
    with pytest.raises(
            InvalidValueError, match='annotated objects.*priors in 10 images'):
        collect([(0, group)])


def test_no_scored_pair():
    group = make_group()
    group.logits[:] = -9
    with pytest.raises(
            InvalidValueError, match='a score above 0.05.*a trained detector'):
        collect([(0, group)])


def test_logits_that_are_not_finite():
    group = make_group()
    group.weight[:] = 1
    group.logits[3, 1] = float('nan')
    with pytest.raises(InvalidValueError, match='logits must be finite'):
        collect([(0, group)])


def test_an_only_class_that_is_the_target_leaves_no_other():
    group = make_group(columns=1)
    group.labels = group.labels.clamp(max=1)
    group.quality = None
    found = collect([(0, group)]).scored_places
    # Of background its own column is the other one: a variance of 0.
    variances, image_ids = variances_of([(0, group)], .05)
    assert 0 < len(variances) == found.num_seen
    assert (found.non_target_variance == 0).all()
    assert found.image_ids.tolist() == image_ids
    group.labels[:] = 0
    none = collect([(0, group)]).scored_places
    assert none.num_seen == len(none.non_target_variance) == 0
    assert len(none.image_ids) == 0


def test_places_that_are_drawn_are_those_of_the_stream():
    groups = [(0, make_group(400)), (2, make_group(400, seed=1))]
    variances, image_ids = variances_of(groups, .05)
    found = collect(groups, max_samples=50).scored_places
    assert found.num_seen == len(variances)
    assert len(found.non_target_variance) == 50
    # Known again by their variance, which is no two places' own.
    nearest = np.abs(found.non_target_variance[:, None] - variances)
    assert nearest.min(axis=1).max() < 1e-7
    drawn = nearest.argmin(axis=1)
    assert len(set(drawn)) == 50
    assert found.image_ids.tolist() == np.array(image_ids)[drawn].tolist()
