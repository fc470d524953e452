"""A published student opens in mmdet, where tcal_det is not installed."""
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tcal_det.config_file import parse_config_text
from tcal_det.engine.plain_config import plain_detector_config
from tcal_det.engine.student_checkpoint import publish_student
from tcal_det.errors import InvalidValueError

# Runs in a Python that cannot import tcal_det.
INFER = """
import sys
sys.modules['tcal_det'] = None
import numpy as np
from mmdet.apis import DetInferencer
inferencer = DetInferencer(weights=sys.argv[1], device='cpu')
image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
prediction = inferencer(image, return_datasamples=True, no_save_vis=True)
scores = prediction['predictions'][0].pred_instances.scores
print('detections:', len(scores), 'classes:', inferencer.visualizer
      .dataset_meta['classes'])
"""


@pytest.fixture
def trained(tmp_path, distiller_cfg):
    """A training checkpoint as mmengine writes it, with private things."""
    model = distiller_cfg(
        losses=dict(
            loss_kd_cls=dict(type='LogitKLDivLoss'),
            loss_kd_explicit=dict(type='AEKTLoss', cls_channels=4)))
    model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='private/backbone.pth')
    model.test_cfg.rcnn.score_thr = 0.0
    torch.manual_seed(0)
    detector = MODELS.build(model)
    model.test_cfg.recalibrator = dict(load_from='private/scores.json')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(
            type='PackDetInputs',
            meta_keys=('img_shape', 'ori_shape', 'scale_factor'))
    ]
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=model,
            test_dataloader=dict(
                dataset=dict(type='CocoDataset', pipeline=pipeline)),
            visualizer=dict(type='DetLocalVisualizer'),
            default_hooks=dict(
                checkpoint=dict(
                    type='tcal_det.AtomicCheckpointHook', interval=2)),
            custom_hooks=[
                dict(type='EMAHook'),
                dict(type='tcal_det.LossWeightScheduleHook', loss='x')
            ],
            val_evaluator=[
                dict(type='CocoMetric'),
                dict(type='tcal_det.DetectionCalibrationMetric')
            ],
            test_evaluator=dict(type='tcal_det.DetectionCalibrationMetric'),
            optim_wrapper=dict(type='tcal_det.CPUAmpOptimWrapper', lr=0.1),
            custom_imports=dict(
                imports=['tcal_det', 'tcal_det.engine', 'json']),
            mixed=[None, 1],
            load_from='private/start.pth',
            work_dir='private/runs'))
    path = str(tmp_path / 'epoch_3.pth')
    torch.save(
        dict(
            state_dict=detector.state_dict(),
            ema_state_dict=detector.state_dict(),
            optimizer=dict(state={}),
            message_hub={},
            meta=dict(
                epoch=3,
                cfg=cfg.pretty_text,
                hook_msgs=dict(last_ckpt='private/runs/epoch_3.pth'),
                dataset_meta=dict(
                    classes=('red', 'white', 'blue'),
                    palette=[(0, 0, 0), (1, 1, 1), (2, 2, 2)]))), path)
    return path


def test_opens_without_tcal_det(trained, tmp_path):
    path = publish_student(trained, str(tmp_path / 'student.pth'))
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', INFER, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert result.returncode == 0, result.stdout
    assert "classes: ('red', 'white', 'blue')" in result.stdout
    assert 'detections: 0 ' not in result.stdout


def test_holds_no_more_than_a_release(trained, tmp_path):
    path = publish_student(trained, str(tmp_path / 'student.pth'))
    # torch's own guard: tensors and plain containers.
    content = torch.load(path, weights_only=True)
    assert set(content) == {'meta', 'state_dict'}
    assert content['meta']['epoch'] == 3
    expected = torch.load(trained, weights_only=False)['state_dict']
    for key, value in content['state_dict'].items():
        assert torch.equal(value, expected.pop(key))
    assert expected and all(
        key.startswith('distill_losses.') for key in expected)
    text = json.dumps(content['meta'])
    for private in ('tcal_det', 'private/', 'teacher', 'distill', 'Schedule'):
        assert private not in text
    cfg = parse_config_text(content['meta']['cfg'])
    assert cfg['model']['type'] == 'FasterRCNN'
    assert cfg['default_hooks']['checkpoint'] == dict(
        type='CheckpointHook', interval=2)
    assert cfg['custom_hooks'] == [dict(type='EMAHook')]
    assert cfg['val_evaluator'] == [dict(type='CocoMetric')]
    assert cfg['optim_wrapper'] == dict(type='OptimWrapper', lr=0.1)
    assert cfg['custom_imports'] == dict(imports=['json'])
    assert cfg['test_evaluator'] == [] and cfg['mixed'] == [None, 1]


def test_name_tells_the_content(trained, tmp_path):
    path = publish_student(trained, str(tmp_path / 'student.pth'))
    with open(path, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert path == str(tmp_path / f'student-{digest[:8]}.pth')


def test_safetensors(trained, tmp_path):
    path = publish_student(trained, str(tmp_path / 'student'), 'safetensors')
    assert path.endswith('.safetensors')
    plain = torch.load(
        publish_student(trained, str(tmp_path / 'student')), weights_only=True)
    with safetensors.safe_open(path, framework='pt') as file:
        assert set(file.keys()) == set(plain['state_dict'])
        for key, value in plain['state_dict'].items():
            assert torch.equal(file.get_tensor(key), value)
        meta = json.loads(file.metadata()['meta'])
    assert meta == json.loads(json.dumps(plain['meta']))


def test_numpy_values_in_safetensors(trained, tmp_path):
    content = torch.load(trained, weights_only=False)
    content['meta']['dataset_meta'] = dict(
        palette=np.arange(6).reshape(2, 3), mean=np.float32(0.5))
    torch.save(content, trained)
    path = publish_student(trained, str(tmp_path / 'student'), 'safetensors')
    with safetensors.safe_open(path, framework='pt') as file:
        assert json.loads(file.metadata()['meta'])['dataset_meta'] == dict(
            palette=[[0, 1, 2], [3, 4, 5]], mean=0.5)


def test_name_of_the_other_format(trained, tmp_path):
    with pytest.raises(
            InvalidValueError,
            match=r'must end with .pth, or `--format` be safetensors, but'):
        publish_student(trained, str(tmp_path / 'student.safetensors'))


@pytest.mark.parametrize('text', [
    'import os', 'model = open("x")', 'model = [a for a in ()]', 'model = (',
    'a.b = 1', 'a = b = 1', 'model = dict(**{})', 'model = dict(1)',
    'data_root = 1', '', None
])
def test_config_that_is_not_plain(trained, tmp_path, text):
    """The weights are there; mmdet then needs a config beside them."""
    content = torch.load(trained, weights_only=False)
    content['meta']['cfg'] = text
    torch.save(content, trained)
    path = publish_student(trained, str(tmp_path / 'student'))
    published = torch.load(path, weights_only=True)
    assert 'cfg' not in published['meta'] and published['state_dict']


@pytest.mark.parametrize('content', [
    dict(meta={}),
    dict(state_dict={}, meta={}),
    dict(state_dict=dict(weight='x')),
])
def test_no_weights(tmp_path, content):
    path = str(tmp_path / 'checkpoint.pth')
    torch.save(content, path)
    with pytest.raises(InvalidValueError, match='`state_dict` with weights'):
        publish_student(path, str(tmp_path / 'student'))


def test_config_text_of_mmengine_is_read_as_mmengine_reads_it():
    cfg = Config(
        dict(
            a=dict(b=[1, -2.5, None, True], c=(), d='\'"\n'),
            e={
                'x-y': 1,
                3: (1e-8, )
            },
            f=[dict(type='mmdet.models.X', g=dict())]))
    expected = Config.fromstring(cfg.pretty_text, '.py').to_dict()
    assert parse_config_text(cfg.pretty_text) == expected == cfg.to_dict()


def test_config_is_not_changed():
    cfg = dict(
        model=dict(
            type='tcal_det.RecalibratedDetector',
            detector_type='RetinaNet',
            test_cfg=dict(recalibrator=dict(load_from='x'), nms=1)))
    plain = plain_detector_config(cfg)
    assert plain == dict(model=dict(type='RetinaNet', test_cfg=dict(nms=1)))
    assert cfg['model']['test_cfg']['recalibrator'] == dict(load_from='x')
