"""Every config loads, builds and takes a step, without network or data."""
import json
import os.path as osp
import re
from collections import defaultdict
from functools import lru_cache
from glob import glob
from unittest import mock

import pytest
import torch
from mmdet.registry import DATASETS, TASK_UTILS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, METRICS, init_default_scope

from tcal_det.dataset_files import innermost_datasets
from tcal_det.errors import MissingFileError
from tcal_det.models.configured_part import build_configured_part
from tcal_det.models.distillers import frozen_teacher
from tcal_det.models.distillers.detector_files import build_detector
from tcal_det.models.losses import FeatureLoss
from tcal_det.registry import MODELS
from tests.config_files import read_config

REPOSITORY = osp.dirname(osp.dirname(osp.abspath(__file__)))
CONFIGS = sorted(
    osp.relpath(path, REPOSITORY) for path in glob(
        osp.join(REPOSITORY, 'configs', '**', '*.py'), recursive=True)
    if '_base_' not in path)
# Configs whose names differ in the schedule only: they have the same model.
SCHEDULE = re.compile(r'_(1x|ms-180k|[0-9]+e)(?=_)')
SCHEDULES_OF = defaultdict(list)
for path in CONFIGS:
    SCHEDULES_OF[SCHEDULE.sub('', path)].append(path)
PUBLIC_DATA = ('_coco.py', '_lvis-v1.py', '_voc0712.py')


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def repeated_weights(monkeypatch):
    """Initialise layers with a few random numbers, again and again.

    To draw a hundred million of them takes longer than a step, in which any
    will do.
    """
    numbers = torch.rand(4099) * 2 - 1

    def fill(weight, *_, **__):
        flat = weight.data.view(-1)
        whole = len(flat) // len(numbers) * len(numbers)
        flat[:whole].view(-1, len(numbers)).copy_(numbers)
        flat[whole:] = numbers[:len(flat) - whole]
        flat *= weight[0].numel()**-0.5

    monkeypatch.setattr(torch.nn.init, 'kaiming_uniform_', fill)


# Many configs in turn have one teacher, which a step does not change.
_teachers = {}


def built_once(cfg):
    """The last detector, if it has this config, or a new one."""
    text = repr(cfg.model.to_dict())
    if text not in _teachers:
        _teachers.clear()
        _teachers[text] = build_detector(cfg)
    return _teachers[text]


def without_pretrained(cfg):
    """Drop every `init_cfg` that would download weights."""
    if isinstance(cfg, dict):
        init_cfg = cfg.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg['type'] == 'Pretrained':
            cfg['init_cfg'] = None
        for value in cfg.values():
            without_pretrained(value)
    return cfg


def with_few_rois(model):
    """Give the RoI head, if there is one, no more RoIs than a CPU likes."""
    train_cfg = model.get('train_cfg') or {}
    if 'rcnn' in train_cfg:
        train_cfg.rpn_proposal.max_per_img = 16
        stages = train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 16
    return model


def with_fitted_calibrator(model, folder):
    """Let a calibrator's file be there, as after calibrate_teacher.py."""
    calibrator = (model.get('teacher') or {}).get('calibrator') or {}
    if 'load_from' in calibrator:
        calibrator.load_from = str(folder / 'teacher_calibration.json')
        with open(calibrator.load_from, 'w', encoding='utf-8') as file:
            json.dump(dict(type='PlattScaling', scale=2.0, bias=0.5), file)
    return model


def class_names(cfg):
    """Metainfo of a config's train dataset."""
    dataset, *_ = innermost_datasets(cfg.train_dataloader.dataset)
    return dataset.get('metainfo') or DATASETS.get(dataset.type).METAINFO


@pytest.mark.parametrize('name', SCHEDULES_OF)
def test_model_builds_and_takes_a_step(name, batch, tmp_path,
                                       repeated_weights):
    path, *others = SCHEDULES_OF[name]
    cfg = read_config(path)
    for other in others:
        assert read_config(other).model == cfg.model, other
    init_default_scope(cfg.default_scope)
    model = with_fitted_calibrator(with_few_rois(cfg.model), tmp_path)
    model = MODELS.build(without_pretrained(model))
    hub = MessageHub.get_current_instance()
    # YOLOX reads it in its preprocessor.
    hub.update_info('iter', 0)
    hub.update_info('dataset_meta', class_names(cfg))
    losses_asked = cfg.model.get('distill_losses', {})
    # Not init_weights(): which numbers the weights are does not matter here,
    # and drawing them takes longer than the step. So would folding.
    if losses_asked:
        teacher = model.teacher.config
        names = class_names((zoo_config if teacher.startswith('mmdet::') else
                             read_config)(teacher))
        with mock.patch.multiple(
                frozen_teacher,
                build_detector=built_once,
                load_weights=lambda *_: dict(meta=dict(dataset_meta=names)),
                fold_batch_norms=lambda detector: detector):
            model.teacher.build(model)
    detectors = [model]
    if losses_asked:
        detectors.append(model.teacher.detector)
    size = (64, 96)
    for detector in detectors:
        if hasattr(detector, 'level_embed'):
            # Only `init_weights` gives it values; and among so many places a
            # detector in two stages looks for its 900 queries.
            torch.nn.init.normal_(detector.level_embed)
            size = (256, 256)
    raw = batch(num_images=1, num_classes=3, size=size)
    if model.with_mask:
        for sample in raw['data_samples']:
            sample.gt_instances.masks = BitmapMasks.random(
                3, height=sample.img_shape[0], width=sample.img_shape[1])
    data = model.train().data_preprocessor(raw, True)
    losses, logged = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    assert torch.isfinite(losses)
    assert set(losses_asked) <= set(logged)
    if any(not isinstance(loss, FeatureLoss)
           for loss in getattr(model, 'distill_losses', {}).values()):
        shared = model.teacher.classes.num_classes
        assert shared == (8 if 'other-classes' in path else len(
            class_names(cfg)['classes']))


@pytest.mark.parametrize('path', CONFIGS)
def test_config_names_what_exists(path):
    cfg = read_config(path)
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
    [path for path in CONFIGS if '-quarter' in path and '-half_' in path])
def test_teacher_of_a_small_config_is_a_config_here(path):
    assert osp.isfile(read_config(path).model.teacher.config)


SMALL_PAIRS = [
    (f'configs/demo/{student}_digits.py', f'configs/demo/{teacher}_digits.py')
    for student, teacher in (('retinanet_r18-quarter_fpn_24e',
                              'retinanet_r18-half_fpn_12e'),
                             ('gfl_r18-quarter_fpn_24e',
                              'gfl_r18-half_fpn_24e'), ('rtmdet_s-quarter_24e',
                                                        'rtmdet_s-half_24e'),
                             ('cascade-rcnn_r18-quarter_fpn_24e',
                              'cascade-rcnn_r18-half_fpn_12e'))
]


def dense_head_of(model):
    return model.get('rpn_head') or model.bbox_head


def classifiers_of(model):
    """Heads that classify: one of a dense detector, one a stage of RoIs."""
    heads = (model.get('roi_head') or model).bbox_head
    return heads if isinstance(heads, list) else [heads]


@pytest.mark.parametrize(('student', 'teacher'), SMALL_PAIRS)
def test_small_pair_has_the_same_priors_and_classes(student, teacher):
    """A sample of a dense head is a prior: both models need the same ones."""
    priors, outputs = [], []
    for path in (student, teacher):
        model = read_config(path).model
        generator = TASK_UTILS.build(dense_head_of(model).anchor_generator)
        map_sizes = [(160 // height, 160 // width)
                     for width, height in generator.strides]
        priors.append([
            level.tolist()
            for level in generator.grid_priors(map_sizes, device='cpu')
        ])
        outputs.append([(head.num_classes, head.loss_cls, head.get('reg_max'))
                        for head in classifiers_of(model)])
    assert priors[0] == priors[1]
    assert outputs[0] == outputs[1]
    assert {head[0] for head in outputs[0]} == {10}


def learning_rules(model):
    """Head classes, losses, box coders and assigners of a model config."""
    train_cfg = model.train_cfg
    stages = train_cfg.get('rcnn', train_cfg)
    kept = ('type', 'bbox_coder', 'loss_cls', 'loss_bbox', 'loss_dfl')
    heads = [*classifiers_of(model), dense_head_of(model)]
    return dict(
        detector=model.type,
        heads=[{
            key: head.get(key)
            for key in kept
        } for head in heads],
        assigners=[
            stage.assigner
            for stage in (stages if isinstance(stages, list) else [stages])
        ])


@pytest.mark.parametrize(('small', 'zoo'), [
    ('retinanet_r18-half_fpn64', 'retinanet/retinanet_r50_fpn_1x_coco'),
    ('gfl_r18-half_fpn64', 'gfl/gfl_r50_fpn_1x_coco'),
    ('rtmdet_s-half', 'rtmdet/rtmdet_s_8xb32-300e_coco'),
    ('cascade-rcnn_r18-half_fpn64',
     'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco'),
])
def test_small_detector_learns_as_its_family_in_the_zoo(small, zoo):
    """Sizes and anchors differ, and nothing else about the training."""
    ours = read_config(f'configs/_base_/models/{small}.py').model
    assert learning_rules(ours) == learning_rules(
        get_config(f'mmdet::{zoo}.py').model)


def test_every_config_of_public_data_is_in_the_model_index():
    index = Config.fromfile('model-index.yml')
    listed = set()
    for metafile in index['Import']:
        for model in Config.fromfile(metafile)['Models']:
            listed.add(model['Config'])
    assert listed == {path for path in CONFIGS if path.endswith(PUBLIC_DATA)}


def baseline_of(path):
    name = re.sub('_(qfl-)?(kd|tcal)-[a-z0-9-]+', '', osp.basename(path))
    return osp.join('configs', 'baseline', name)


@pytest.mark.parametrize('path', [
    path for path in CONFIGS if path.startswith(('configs/tcal', 'configs/kd'))
    and osp.isfile(osp.join(REPOSITORY, baseline_of(path)))
])
def test_method_differs_from_its_baseline_in_the_three_keys_only(path):
    method = read_config(path).to_dict()
    baseline = read_config(baseline_of(path)).to_dict()
    model = method['model']
    assert {'student_type', 'teacher',
            'distill_losses'} == set(model) - set(baseline['model'])
    model['type'] = model.pop('student_type')
    for key in ('teacher', 'distill_losses'):
        model.pop(key)
    assert method == baseline


def without_scopes(node):
    """Drop the `_scope_` that mmengine writes into what comes from mmdet."""
    if isinstance(node, dict):
        return {
            key: without_scopes(value)
            for key, value in node.items() if key != '_scope_'
        }
    if isinstance(node, (list, tuple)):
        return type(node)(without_scopes(value) for value in node)
    return node


@pytest.mark.parametrize('name', [
    'retinanet/retinanet_r50_fpn_1x_coco',
    'retinanet/retinanet_r18_fpn_1x_coco',
    'gfl/gfl_r50_fpn_1x_coco',
    'atss/atss_r50_fpn_1x_coco',
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'yolox/yolox_s_8xb8-300e_coco',
    'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco',
    'seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1',
])
def test_baseline_trains_as_in_mmdet(name):
    """Only what is measured and how checkpoints are written differ."""
    ours = without_scopes(
        read_config(f'configs/baseline/{osp.basename(name)}.py').to_dict())
    zoo = get_config(f'mmdet::{name}.py').to_dict()
    zoo['default_hooks']['checkpoint'][
        'type'] = 'tcal_det.AtomicCheckpointHook'
    if 'lvis' not in name:
        evaluator = zoo['val_evaluator']
        zoo['val_evaluator'] = zoo['test_evaluator'] = [
            evaluator,
            dict(
                type='tcal_det.DetectionCalibrationMetric',
                ann_file=evaluator['ann_file'])
        ]
    assert ours == zoo


@lru_cache(maxsize=None)
def zoo_config(name):
    return get_config(name, pretrained=True)


WITH_ZOO_TEACHER = [
    path for path in CONFIGS if path.endswith(PUBLIC_DATA)
    and 'baseline' not in path and '_ms-180k_' not in path
]


@pytest.mark.parametrize('path', WITH_ZOO_TEACHER)
def test_zoo_has_weights_of_the_teacher(path):
    teacher = read_config(path).model.teacher
    assert teacher.checkpoint == 'auto'
    assert zoo_config(teacher.config).model_path.endswith('.pth')


@pytest.mark.parametrize('path', WITH_ZOO_TEACHER)
def test_calibrator_is_that_of_the_teachers_loss(path):
    """Focal loss has a formula, a score of class and IoU needs a fit."""
    model = read_config(path).model
    calibrator = model.teacher.get('calibrator')
    if calibrator is None:
        return
    (head, *_) = classifiers_of(zoo_config(model.teacher.config).model)
    if head.loss_cls.type == 'FocalLoss':
        assert calibrator == dict(
            type='FocalPosterior',
            alpha=head.loss_cls.alpha,
            gamma=head.loss_cls.gamma)
    elif head.type in ('GFLHead', 'RTMDetSepBNHead', 'YOLOXHead'):
        assert calibrator.type == 'PlattScaling'
        # The comment's command writes the file that the config reads.
        with open(path, encoding='utf-8') as file:
            command = re.sub(r'\\?\n#', '', file.read())
        folder = osp.dirname(calibrator.load_from)
        assert re.search(
            f'calibrate_teacher.py +{model.teacher.config} +auto '
            f'+--calibrator PlattScaling +--out {folder}\n', command)
    elif calibrator.type == 'MaxLogitScaling':
        # No figure of the paper is known, so none is claimed.
        with open(path, encoding='utf-8') as file:
            assert file.read().startswith('# Not tuned')
    else:
        assert calibrator == dict(type='TemperatureScaling', temperature=1.5)


def test_calibrator_that_was_not_fitted_yet_says_so():
    model = read_config('configs/tcal/gfl_r50_fpn_tcal-r101_1x_coco.py').model
    with pytest.raises(
            MissingFileError,
            match='teacher_calibration.json. does not exist: '
            'fit it with tools/calibrate_teacher.py'):
        build_configured_part('teacher.calibrator', model.teacher.calibrator)
