"""Which checkpoints commands take: of this model, in which formats."""
import os.path as osp

import mmengine
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tcal_det import checkpoint_file
from tcal_det.engine.student_checkpoint import publish_student
from tcal_det.evaluation.run_table import read_run


@pytest.fixture
def detector(run_configs):
    """The detector of the plain config."""
    torch.manual_seed(0)
    return MODELS.build(Config.fromfile(run_configs['plain']).model)


def measured(folder):
    """The metrics that tools/test.py has written."""
    return read_run(folder).metrics


@pytest.mark.parametrize('change', ['missing', 'unexpected', 'misshapen'])
def test_checkpoint_of_another_model(call_tool, run_configs, detector,
                                     tmp_path, change):
    state = detector.state_dict()
    key = 'roi_head.bbox_head.fc_cls.weight'
    if change == 'missing':
        del state[key]
    elif change == 'unexpected':
        key = 'neck.extra.weight'
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:-1]
    path, folder = str(tmp_path / 'other.pth'), str(tmp_path / 'run')
    torch.save(dict(state_dict=state, meta={}), path)
    command = ('test.py', run_configs['plain'], path, '--work-dir', folder)
    status, error = call_tool(*command)
    line, = error.splitlines()
    assert status == 2 and line.startswith('error: detector checkpoint')
    assert f'1 keys ({key}' in line and line.endswith('or --allow-partial')

    status, error = call_tool(*command, '--allow-partial')
    assert status == 0, error
    assert 'coco/bbox_mAP' in measured(folder)


def test_safetensors(call_tool, run_configs, detector, tmp_path):
    """Student and teacher; the same figures as from a .pth file."""
    plain = str(tmp_path / 'plain.pth')
    # As after a training: scores that differ.
    torch.nn.init.normal_(detector.roi_head.bbox_head.fc_cls.weight, 0, 0.5)
    torch.save(dict(state_dict=detector.state_dict(), meta={}), plain)
    converted = publish_student(plain, str(tmp_path / 'student'),
                                'safetensors')
    figures = []
    for name, path in dict(pth=plain, safetensors=converted).items():
        folder = str(tmp_path / name)
        status, error = call_tool('test.py', run_configs['plain'], path,
                                  '--work-dir', folder)
        assert status == 0, error
        figures.append(measured(folder))
    for metrics in figures:
        # Times differ.
        for key in [key for key in metrics if not key.startswith('coco/')]:
            del metrics[key]
    assert figures[0] == figures[1] != {}

    folder = str(tmp_path / 'distilled')
    status, error = call_tool('train.py', run_configs['distill'], '--work-dir',
                              folder, '--cfg-options',
                              f'model.teacher.config={run_configs["plain"]}',
                              f'model.teacher.checkpoint={converted}',
                              'train_cfg.max_epochs=1',
                              'train_cfg.val_interval=2')
    assert status == 0, error
    assert osp.isfile(osp.join(folder, 'epoch_1.pth'))


def test_published_checkpoint_is_one_for_test(call_tool, run_configs, detector,
                                              tmp_path):
    plain = str(tmp_path / 'plain.pth')
    meta = dict(cfg=Config.fromfile(run_configs['distill']).pretty_text)
    torch.save(dict(state_dict=detector.state_dict(), meta=meta), plain)
    status, error = call_tool('model_converters/publish_student.py', plain,
                              str(tmp_path / 'student.pth'))
    assert status == 0, error
    path = call_tool.output.split('written: ')[1].strip()
    for config in ('plain', 'distill'):
        folder = str(tmp_path / config)
        status, error = call_tool('test.py', run_configs[config], path,
                                  '--work-dir', folder)
        assert status == 0, error
        assert 'coco/bbox_mAP' in measured(folder)


@pytest.mark.parametrize('split', ['test', 'val'])
def test_split(call_tool, run_configs, detector, tmp_path, split):
    """Its images, and its annotations in the evaluator."""
    path, out = str(tmp_path / 'plain.pth'), str(tmp_path / 'out.pkl')
    torch.save(dict(state_dict=detector.state_dict(), meta={}), path)
    status, error = call_tool(
        'test.py', run_configs['plain'], path, '--work-dir',
        str(tmp_path / 'run'), '--split', split, '--out', out, '--cfg-options',
        f'{dict(test="val", val="test")[split]}_evaluator.ann_file=gone.json')
    assert status == 0, error
    folders = {
        osp.basename(osp.dirname(sample['img_path']))
        for sample in mmengine.load(out)
    }
    assert folders == {split}
    # A test of val must not be taken for one of test.
    where = osp.join('run', 'val') if split == 'val' else 'run'
    assert 'coco/bbox_mAP' in measured(str(tmp_path / where))


def test_validation_split_of_a_config_without_a_test(call_tool, run_configs,
                                                     detector, tmp_path):
    cfg = Config.fromfile(run_configs['plain'])
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg.pop(f'test_{part}')
    config, path = str(tmp_path / 'no_test.py'), str(tmp_path / 'plain.pth')
    cfg.dump(config)
    torch.save(dict(state_dict=detector.state_dict(), meta={}), path)
    status, error = call_tool('test.py', config, path, '--work-dir',
                              str(tmp_path / 'run'), '--split', 'val')
    assert status == 0, error


def test_test_time_augmentation(call_tool, run_configs, detector, tmp_path):
    """The detector inside of the one that merges its predictions."""
    cfg = Config.fromfile(run_configs['plain'])
    cfg.tta_model = dict(
        type='DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
            'flip', 'flip_direction')
    transforms = [[dict(type='Resize', scale=(64, 64))],
                  [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)],
                  [dict(type='PackDetInputs', meta_keys=keys)]]
    cfg.tta_pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='TestTimeAug', transforms=transforms)
    ]
    config, path = str(tmp_path / 'tta.py'), str(tmp_path / 'plain.pth')
    cfg.dump(config)
    torch.save(dict(state_dict=detector.state_dict(), meta={}), path)
    folder = str(tmp_path / 'run')
    command = ('test.py', config, path, '--work-dir', folder, '--tta')
    status, error = call_tool(*command)
    assert status == 0, error
    assert 'coco/bbox_mAP' in measured(folder)
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta={}), path)
    status, error = call_tool(*command)
    assert status == 2 and 'does not fit its config' in error


def test_checkpoint_is_read_once(call_tool, run_configs, detector, tmp_path,
                                 monkeypatch):
    read = []
    monkeypatch.setattr(
        checkpoint_file,
        'read_with_left_out',
        lambda *args, once=checkpoint_file.read_with_left_out: read.append(
            args) or once(*args))
    path = str(tmp_path / 'plain.pth')
    torch.save(dict(state_dict=detector.state_dict(), meta={}), path)
    status, error = call_tool('test.py', run_configs['plain'], path,
                              '--work-dir', str(tmp_path / 'run'))
    assert status == 0, error
    assert [args[0] for args in read] == [path]
