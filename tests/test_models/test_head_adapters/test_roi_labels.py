"""Labelled samples of a teacher: those that its own training would see."""
import copy
from unittest import mock

import pytest
import torch
from mmdet.models.dense_heads import GuidedAnchorHead
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.models.head_adapters import adapter_for
from tests.roi_cases import (NUM_CLASSES, build_detector, case_cfg, raw_batch,
                             stages_of, training_losses)

NAMES = ('faster', 'cascade', 'cascade_mask', 'htc', 'htc_without_semantic',
         'scnet', 'seesaw', 'seesaw_cascade', 'sabl_cascade', 'grid',
         'dynamic', 'eqlv2', 'v3det', 'trident', 'cascade_rpn',
         'guided_anchors', 'fcos_rpn')


def take_all_proposals(cfg):
    """Leave nothing to chance: more places than there are proposals."""
    stages = cfg.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 10000
        stage.sampler.pos_fraction = 0.5
        # A permutation of what would be assigned to several objects.
        stage.assigner.pop('perm_repeat_gt_cfg', None)


def data_of(detector, **batch):
    return detector.data_preprocessor(raw_batch(**batch), True)


@pytest.fixture(scope='module', params=NAMES)
def detector(request):
    cfg = case_cfg(request.param)
    take_all_proposals(cfg)
    detector = build_detector(cfg)
    if request.param == 'trident':
        # All branches, as in training.
        for module in detector.modules():
            if hasattr(module, 'test_branch_idx'):
                module.test_branch_idx = -1
    return detector


def test_labels_are_those_of_a_training_step(detector):
    with adapter_for(detector, 'teacher').observe() as observation:
        training_losses(detector, freeze_norms=True)
    detector.eval()
    state = copy.deepcopy(detector.state_dict())
    data = data_of(detector)
    with torch.no_grad():
        groups = adapter_for(detector,
                             'teacher').label(data['inputs'],
                                              data['data_samples'], 'train')
    assert len(groups) == len(observation.groups) == len(stages_of(detector))
    for mine, its in zip(groups, observation.groups):
        assert (its.labels < NUM_CLASSES).any()
        assert mine.stage == its.stage
        assert mine.group_weight == its.group_weight
        for field in ('labels', 'image_index', 'weight'):
            assert torch.equal(getattr(mine, field), getattr(its, field))
        for field in ('location', 'logits'):
            torch.testing.assert_close(
                getattr(mine, field),
                getattr(its, field),
                rtol=1e-4,
                atol=1e-4)
    # Neither a loss that counts samples nor a BatchNorm took note.
    for name, value in detector.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_labels_of_all_proposals(detector):
    """Protocol 'test' samples nothing, and adds no object."""
    if isinstance(detector.rpn_head, GuidedAnchorHead):
        pytest.skip('mmcv has no masked convolution for a CPU')
    detector.eval()
    data = data_of(detector)
    forbidden = mock.Mock(side_effect=AssertionError)
    samplers = detector.roi_head.bbox_sampler
    samplers = samplers if isinstance(samplers, list) else [samplers]
    for sampler in samplers:
        sampler.sample = forbidden
    try:
        with torch.no_grad():
            groups = adapter_for(detector,
                                 'teacher').label(data['inputs'],
                                                  data['data_samples'], 'test')
            features = detector.extract_feat(data['inputs'])
            proposals = detector.rpn_head.predict(
                features, data['data_samples'] * (len(features[0]) // 2))
    finally:
        for sampler in samplers:
            del sampler.sample
    assert len(groups) == len(stages_of(detector))
    boxes = torch.cat([found.bboxes for found in proposals])
    assert len(boxes) == len(groups[0].location)
    # The sampler puts those that fit an object first.
    mine, its = (
        torch.tensor(sorted(rows.tolist()))
        for rows in (groups[0].location[:, 1:], boxes))
    torch.testing.assert_close(mine, its)


@pytest.mark.parametrize('test_branch', [-1, 1])
def test_images_of_trident_branches(test_branch):
    detector = build_detector(case_cfg('trident')).eval()
    for module in detector.modules():
        if hasattr(module, 'test_branch_idx'):
            module.test_branch_idx = test_branch
    data = data_of(detector)
    with torch.no_grad():
        group, = adapter_for(detector,
                             'teacher').label(data['inputs'],
                                              data['data_samples'], 'train')
    branches = 3 if test_branch == -1 else 1
    assert set(group.location[:, 0].tolist()) == set(range(2 * branches))
    assert set(group.image_index.tolist()) == {0, 1}


def test_labelling_needs_an_rpn():
    cfg = case_cfg('faster')
    cfg.type = 'FastRCNN'
    del cfg.rpn_head
    detector = build_detector(cfg)
    reason = adapter_for(detector, 'teacher').reason_against_labelling()
    assert 'has no RPN' in reason


def test_frozen_norms_are_in_eval_during_these_tests():
    """What is compared above would differ otherwise."""
    detector = build_detector(case_cfg('faster'))
    training_losses(detector, freeze_norms=True)
    assert not any(module.training for module in detector.modules()
                   if isinstance(module, _BatchNorm))
