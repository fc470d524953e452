"""Every config loads, builds and takes a step, without network or data."""
import copy
import json
import os.path as osp
from functools import lru_cache
from glob import glob
from unittest import mock

import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import HOOKS, METRICS, init_default_scope

from tcal_det.models.distillers import frozen_teacher
from tcal_det.registry import MODELS

REPOSITORY = osp.dirname(osp.dirname(osp.abspath(__file__)))
CONFIGS = sorted(
    osp.relpath(path, REPOSITORY) for path in glob(
        osp.join(REPOSITORY, 'configs', '**', '*.py'), recursive=True)
    if '_base_' not in path)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def without_pretrained(cfg):
    """Drop every `init_cfg` that would download weights."""
    if isinstance(cfg, dict):
        init_cfg = cfg.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg['type'] == 'Pretrained':
            cfg['init_cfg'] = None
        for value in cfg.values():
            without_pretrained(value)
    return cfg


STEPPED = set()


@lru_cache(maxsize=None)
def read_config(path):
    return Config.fromfile(path)


def load_config(path):
    """Read once: mmengine parses mmdet's whole zoo for an 'mmdet::' base."""
    return copy.deepcopy(read_config(path))


@pytest.mark.parametrize('path', CONFIGS)
def test_config_builds_and_takes_a_step(path, batch):
    cfg = load_config(path)
    init_default_scope(cfg.default_scope)
    model_text = json.dumps(cfg.model.to_dict(), sort_keys=True)
    if model_text in STEPPED:
        # The same model under another schedule.
        return
    # As written, but with RoIs for a CPU.
    cfg.model.train_cfg.rpn_proposal.max_per_img = 16
    cfg.model.train_cfg.rcnn.sampler.num = 16
    model = MODELS.build(without_pretrained(cfg.model))
    losses_asked = cfg.model.get('distill_losses', {})
    # Not init_weights(): which numbers the weights are does not matter here,
    # and drawing them takes longer than the step.
    if losses_asked:
        with mock.patch.object(frozen_teacher, 'load_whole_checkpoint'):
            model.teacher.build(model)
    raw = batch(num_images=1, num_classes=3)
    if model.with_mask:
        for sample in raw['data_samples']:
            sample.gt_instances.masks = BitmapMasks.random(
                3, height=sample.img_shape[0], width=sample.img_shape[1])
    data = model.train().data_preprocessor(raw, True)
    losses, logged = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    assert torch.isfinite(losses)
    assert set(losses_asked) <= set(logged)
    STEPPED.add(model_text)


@pytest.mark.parametrize('path', CONFIGS)
def test_config_names_what_exists(path):
    cfg = load_config(path)
    hooks = [*cfg.default_hooks.values(), *cfg.get('custom_hooks', ())]
    evaluators = cfg.val_evaluator
    if not isinstance(evaluators, list):
        evaluators = [evaluators]
    for registry, named in ((HOOKS, hooks), (METRICS, evaluators)):
        with registry.switch_scope_and_registry(cfg.default_scope) as scoped:
            for part in named:
                assert scoped.get(part.type) is not None, part.type


@pytest.mark.parametrize(
    'path',
    [path for path in CONFIGS if '-r18-half_' in path and '_kd' not in path])
def test_teacher_of_a_small_config_is_a_config_here(path):
    assert osp.isfile(load_config(path).model.teacher.config)


def test_every_coco_config_is_in_the_model_index():
    index = Config.fromfile('model-index.yml')
    listed = set()
    for metafile in index['Import']:
        for model in Config.fromfile(metafile)['Models']:
            listed.add(model['Config'])
    assert listed == {path for path in CONFIGS if path.endswith('coco.py')}


def test_method_differs_from_its_baseline_in_the_three_keys_only():
    method = load_config(
        'configs/tcal/faster-rcnn_r50_fpn_tcal-r101_1x_coco.py').to_dict()
    baseline = load_config(
        'configs/baseline/faster-rcnn_r50_fpn_1x_coco.py').to_dict()
    assert method['model'].pop('student_type') == 'FasterRCNN'
    assert {'teacher',
            'distill_losses'} == set(method['model']) - set(baseline['model'])
    for key in ('teacher', 'distill_losses', 'type'):
        method['model'].pop(key)
    baseline['model'].pop('type')
    assert method == baseline
