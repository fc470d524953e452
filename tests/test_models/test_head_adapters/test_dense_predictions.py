"""Priors of a dense head that are chosen, and its predictions."""
import copy

import pytest
import torch
from mmengine.logging import MessageHub

from tcal_det.models.head_adapters import (ClassificationSamples, adapter_for,
                                           dense_head_adapter)
from tests.dense_cases import HEADS, NUM_CLASSES, batch, build, tiny_model

IMAGES = 2


@pytest.fixture(scope='module')
def adapters():
    built = {}

    def make(name):
        if name not in built:
            built[name] = adapter_for(build(tiny_model(name)), 'student')
        return built[name]

    return make


def groups_of(counts, columns=NUM_CLASSES, labelled=True, seed=0):
    """Levels of so many priors an image, with two objects in each."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for level, count in enumerate(counts):
        labels = torch.full((IMAGES * count, ), NUM_CLASSES)
        labels[[1, count + level]] = level
        groups.append(
            ClassificationSamples(
                logits=torch.randn(
                    IMAGES * count, columns,
                    generator=generator).requires_grad_(),
                image_index=torch.arange(IMAGES).repeat_interleave(count),
                location=(1, count),
                stage=level,
                labels=labels if labelled else None))
    return groups


def chosen_by_hand(groups, is_softmax=False, most=512):
    chosen = [[] for _ in groups]
    for image in range(IMAGES):
        ranked = []
        for level, group in enumerate(groups):
            for place in (group.image_index == image).nonzero()[:, 0].tolist():
                row = group.logits[place].detach()
                probs = (
                    row.softmax(0)[:NUM_CLASSES]
                    if is_softmax else row[:NUM_CLASSES].sigmoid())
                is_object = (
                    group.labels is not None
                    and group.labels[place].item() < NUM_CLASSES)
                ranked.append((is_object, probs.max().item(), -len(ranked),
                               level, place))
        for *_, level, place in sorted(ranked, reverse=True)[:most]:
            chosen[level].append(place)
    return [sorted(places) for places in chosen]


@pytest.mark.parametrize('name, columns, labelled', [
    ('RetinaHead', NUM_CLASSES, True),
    ('FreeAnchorRetinaHead', NUM_CLASSES, False),
    ('SSDHead', NUM_CLASSES + 1, False),
])
def test_objects_then_the_highest_scores(adapters, name, columns, labelled):
    adapter = adapters(name)
    assert adapter.reason_against_boxes() is None
    groups = groups_of([700, 60, 5], columns, labelled)
    expected = chosen_by_hand(groups, is_softmax=name == 'SSDHead')
    chosen = adapter.choose(groups)
    assert [places.tolist() for places in chosen] == expected
    assert sum(map(len, expected)) == IMAGES * 512
    assert all(not places.requires_grad for places in chosen)
    if labelled:
        for group, places in zip(groups, chosen):
            objects = (group.labels < NUM_CLASSES).nonzero()[:, 0]
            assert set(objects.tolist()) <= set(places.tolist())


def test_few_priors_are_all_chosen(adapters):
    groups = groups_of([40, 12])
    chosen = adapters('RetinaHead').choose(groups)
    assert [places.tolist()
            for places in chosen] == [list(range(80)),
                                      list(range(24))]


def test_equal_scores_keep_the_order_of_the_priors(adapters):
    groups = groups_of([600])
    groups[0].logits = torch.zeros(1200, NUM_CLASSES)
    chosen, = adapters('RetinaHead').choose(groups)
    assert chosen.tolist() == [*range(512), *range(600, 600 + 512)]


def test_more_objects_than_places(adapters):
    groups = groups_of([600])
    groups[0].labels[:] = 0
    chosen, = adapters('RetinaHead').choose(groups)
    assert [chosen.tolist()] == chosen_by_hand(groups)


@pytest.mark.parametrize('name', HEADS)
@torch.no_grad()
def test_observed_boxes_are_those_of_the_rows(adapters, name):
    """Rows of a training step and boxes, against a run in testing."""
    # TOOD reads the epoch from there.
    MessageHub.get_current_instance().update_info('epoch', 0)
    detector = adapters(name).detector
    images, data_samples = batch(name)
    with adapters(name).observe(data_samples) as observation:
        detector.loss(images, copy.deepcopy(data_samples))
    boxes = observation.boxes()
    height, width = data_samples[1].img_shape
    for group, places in zip(observation.groups, boxes):
        assert places.shape == (len(group.logits), 4)
        assert places.dtype == torch.float32
        second = places[group.image_index == 1]
        assert second[:, 0::2].max() <= width
        assert second[:, 1::2].max() <= height
        assert places.min() >= 0
    head = detector.bbox_head
    state = copy.deepcopy(detector.state_dict())
    head.eval()
    found, = adapters(name).predict(images, data_samples)
    detector.load_state_dict(state)
    detector.train()
    assert not found.are_unique
    # Both in the same places: the nearest prediction of each image.
    for image, (theirs, rows) in enumerate(zip(found.boxes, found.logits)):
        mine = torch.cat([
            places[group.image_index == image]
            for group, places in zip(observation.groups, boxes)
        ])
        logits = torch.cat([
            group.logits[group.image_index == image]
            for group in observation.groups
        ])
        assert rows.shape == (len(theirs), adapters(name).cls_channels)
        assert len(theirs) == sum(
            min((group.image_index == image).sum().item(), 1000)
            for group in observation.groups)
        if name in SAME_IN_TESTING:
            distances = torch.cdist(
                torch.cat([theirs, rows], 1)[:200],
                torch.cat([mine, logits], 1),
                compute_mode='donot_use_mm_for_euclid_dist')
            assert distances.min(dim=1).values.max() < 1e-2


# Of the others norms and dropouts differ between training and testing.
SAME_IN_TESTING = ('RetinaHead', 'FreeAnchorRetinaHead', 'FSAFHead',
                   'SABLRetinaHead', 'RepPointsHead', 'ATSSHead', 'GFLHead',
                   'VFNetHead', 'FCOSHead', 'FoveaHead', 'TOODHead',
                   'CenterNetUpdateHead')


@torch.no_grad()
def test_best_priors_of_each_level_by_hand(adapters, monkeypatch):
    monkeypatch.setattr(dense_head_adapter, 'MOST_PREDICTED', 3)
    adapter = adapters('GFLHead')
    adapter.detector.eval()
    images, data_samples = batch('GFLHead')
    found, = adapter.predict(images, data_samples)
    maps, _ = adapter.detector.bbox_head(adapter.detector.extract_feat(images))
    for image in range(IMAGES):
        expected = []
        for level in maps:
            rows = level[image].permute(1, 2, 0).reshape(-1, NUM_CLASSES)
            order = rows.max(dim=1).values.sort(descending=True).indices
            expected.append(rows[order[:3]])
        expected = torch.cat(expected)
        assert len(maps) == 5 and len(expected) == 14
        assert torch.equal(found.logits[image], expected)
