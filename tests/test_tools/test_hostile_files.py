"""No command runs code that is hidden in a file which it reads.

The files are whole but for a call in them, and the commands work on them or
refuse them in one line.
"""
import json
import os.path as osp
import pickle

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tests.payloads import payloads


@pytest.fixture
def mark(tmp_path):
    """The folder that a call makes; the test fails if it is there."""
    mark = tmp_path / 'mark'
    yield mark
    assert not mark.exists()


@pytest.fixture
def results(tmp_path, mark):
    """Annotations, and results with a call in them."""
    ground_truth = tmp_path / 'ground_truth.json'
    ground_truth.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, width=8, height=8)],
                categories=[dict(id=1, name='a')],
                annotations=[
                    dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4])
                ])))
    path = tmp_path / 'results.pkl'
    pred = dict(
        bboxes=torch.tensor([[0.0, 0, 4, 4]]),
        scores=torch.tensor([0.5]),
        labels=torch.tensor([0]))
    path.write_bytes(
        pickle.dumps([
            dict(
                img_id=1,
                pred_instances=pred,
                extra=payloads(mark)['function'])
        ]))
    return str(ground_truth), str(path)


@pytest.mark.parametrize('command', ['eval', 'fit', 'apply'])
def test_results(call_tool, results, tmp_path, command):
    out = str(tmp_path / 'out.json')
    name, arguments = dict(
        eval=('eval_calibration.py', results),
        fit=('recalibrate.py', ('fit', *results)),
        apply=('recalibrate.py', ('apply', results[1], out)))[command]
    if command == 'apply':
        plain = tmp_path / 'plain.json'
        plain.write_text(
            json.dumps([
                dict(image_id=1, category_id=1, bbox=[0, 0, 4, 4], score=0.5)
            ]))
        status, error = call_tool(f'analysis_tools/{name}', 'fit', results[0],
                                  str(plain), '--out', out)
        assert status == 0, error
    status, error = call_tool(f'analysis_tools/{name}', *arguments, '--out',
                              out)
    assert status == 2 and 'mkdir; only tensors' in error, error
    assert 'Traceback' not in error


@pytest.fixture
def checkpoint(run_configs, tmp_path, mark):
    """A whole checkpoint of the plain config, with a call in it."""
    torch.manual_seed(0)
    detector = MODELS.build(Config.fromfile(run_configs['plain']).model)
    path = str(tmp_path / 'hostile.pth')
    torch.save(
        dict(
            state_dict=detector.state_dict(),
            meta=dict(extra=payloads(mark)['function'])), path)
    return path


@pytest.mark.parametrize('command', [
    'publish', 'test', 'calibrate_teacher', 'rank_teachers', 'robustness',
    'compare_detections', 'train'
])
def test_checkpoint(call_tool, run_configs, checkpoint, tmp_path, command):
    plain, out = run_configs['plain'], str(tmp_path / 'out')
    name, *arguments = dict(
        publish=('model_converters/publish_student.py', checkpoint, out),
        test=('test.py', plain, checkpoint, '--work-dir', out),
        calibrate_teacher=('calibrate_teacher.py', plain, checkpoint, '--out',
                           out),
        rank_teachers=('analysis_tools/rank_teachers.py', '--teacher', 'a',
                       plain, checkpoint, '--teacher', 'b', plain, checkpoint,
                       '--num-resamples', '2', '--out', out),
        robustness=('analysis_tools/robustness.py', plain, checkpoint,
                    '--corruptions', 'none', '--attacks', 'none',
                    '--num-resamples', '0', '--out', out),
        compare_detections=('analysis_tools/compare_detections.py', '--model',
                            'a', plain, checkpoint, '--num-images', '1',
                            '--out', out + '.png'),
        train=('train.py', run_configs['distill'], '--work-dir', out,
               '--cfg-options', f'model.teacher.config={plain}',
               f'model.teacher.checkpoint={checkpoint}',
               'train_cfg.max_epochs=1', 'train_cfg.val_interval=2'))[command]
    status, error = call_tool(name, *arguments)
    assert status == 0, error


@pytest.mark.parametrize('place', ['meta', 'message_hub', 'config'])
def test_resumed_checkpoint(call_tool, run_configs, load_state, tmp_path, mark,
                            place):
    folder = str(tmp_path / 'run')
    arguments = ('train.py', run_configs['plain'], '--work-dir', folder,
                 '--cfg-options', 'train_cfg.val_interval=9')
    status, error = call_tool(*arguments, 'train_cfg.max_epochs=1')
    assert status == 0, error
    path = osp.join(folder, 'epoch_1.pth')
    content = load_state(path)
    if place == 'meta':
        content['meta']['extra'] = payloads(mark)['program']
    elif place == 'message_hub':
        content['message_hub']['runtime_info']['extra'] = payloads(
            mark)['method']
    else:
        content['meta']['config'] = f'import os\nos.mkdir({str(mark)!r})\n'
    torch.save(content, path)

    status, error = call_tool(*arguments, 'train_cfg.max_epochs=2', '--resume')
    assert status == 0, error
    resumed = load_state(osp.join(folder, 'epoch_2.pth'))
    history = resumed['message_hub']['log_scalars']['train/loss']
    # All 4 steps of both epochs: the log goes on.
    assert len(history.data[0]) == 8 and np.isfinite(history.data[0]).all()
