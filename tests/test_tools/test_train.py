"""tools/train.py and tools/test.py end to end, on tiny digit scenes."""
import os
import os.path as osp
import shutil
import socket
import subprocess
import sys
import time

import mmdet
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config

from tcal_det.registry import MODELS
from tests.state_comparison import assert_same_state

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))

pytestmark = pytest.mark.slow


@pytest.fixture
def call(call_tool):
    """Run a command in this process; its output."""

    def run(*args):
        status, error = call_tool(*args)
        assert status == 0, error
        return call_tool.output

    return run


def test_killed_run_resumes_to_the_same_weights(run_configs, start_tool, call,
                                                tmp_path, load_state):
    whole, killed = str(tmp_path / 'whole'), str(tmp_path / 'killed')
    result = start_tool('train.py', run_configs['methods'], '--work-dir',
                        whole).wait()
    assert result.returncode == 0, result.stdout
    assert 'calibrator: TemperatureScaling(temperature=2.0)' in result.stdout

    process = start_tool('train.py', run_configs['methods'], '--work-dir',
                         killed)
    deadline = time.monotonic() + 120
    while not osp.isfile(osp.join(killed, 'last_checkpoint')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    # As if the kill had struck while mmengine's own hook wrote the second.
    first = load_state(osp.join(killed, 'epoch_1.pth'))
    for name in ('epoch_2.pth', 'epoch_3.pth'):
        if osp.exists(osp.join(killed, name)):
            os.remove(osp.join(killed, name))
    half = osp.join(killed, 'epoch_2.pth')
    shutil.copy(osp.join(killed, 'epoch_1.pth'), half)
    os.truncate(half, osp.getsize(half) // 2)
    with open(osp.join(killed, 'last_checkpoint'), 'w') as file:
        file.write(half)

    result = start_tool('train.py', run_configs['methods'], '--work-dir',
                        killed, '--resume').wait()
    assert result.returncode == 0, result.stdout
    assert 'resumed epoch: 1, iter: 4' in result.stdout
    assert 'calibrator: TemperatureScaling(temperature=2.0)' in result.stdout
    assert first['meta']['iter'] == 4
    expected = load_state(osp.join(whole, 'epoch_3.pth'))
    resumed = load_state(osp.join(killed, 'epoch_3.pth'))
    for key in ('state_dict', 'ema_state_dict', 'optimizer',
                'param_schedulers'):
        assert_same_state(resumed[key], expected[key])
    assert resumed['meta']['iter'] == expected['meta']['iter'] == 12

    output = call('model_converters/publish_student.py',
                  osp.join(killed, 'epoch_3.pth'),
                  str(tmp_path / 'student.pth'))
    published = output.split('written: ')[1].strip()
    plain = init_detector(run_configs['plain'], device='cpu')
    student = load_state(published)
    plain.load_state_dict(student['state_dict'], strict=True)
    assert set(student) == {'meta', 'state_dict'}
    assert osp.getsize(published) < osp.getsize(
        osp.join(killed, 'epoch_3.pth')) / 3


def test_amp_accumulation_ema_and_frozen_stages(run_configs, call, tmp_path,
                                                load_state):
    work_dir = str(tmp_path / 'run')
    output = call('train.py', run_configs['distill'], '--work-dir', work_dir,
                  '--amp', '--cfg-options',
                  'optim_wrapper.accumulative_counts=2',
                  'model.backbone.frozen_stages=1', 'train_cfg.max_epochs=1',
                  'train_cfg.val_interval=1')
    assert 'loss_kd_cls' in output and 'nan' not in output
    checkpoint = load_state(osp.join(work_dir, 'epoch_1.pth'))
    model = Config.fromfile(run_configs['distill']).model
    model.backbone.frozen_stages = 1
    trained = [
        parameter for parameter in MODELS.build(model).parameters()
        if parameter.requires_grad
    ]
    # Frozen stages have none, the teacher has none.
    assert len(checkpoint['optimizer']['state']) == len(trained)
    assert any(
        key.startswith('module.backbone')
        for key in checkpoint['ema_state_dict'])


def test_checkpoint_opens_in_plain_mmdet(run_configs, call, digits, tmp_path,
                                         load_state):
    """Strict load, equal predictions, the student's size, no teacher file."""
    work_dir = str(tmp_path / 'run')
    options = ('--cfg-options', 'train_cfg.max_epochs=1', 'custom_hooks=[]',
               'train_cfg.val_interval=2')
    for name in ('plain', 'distill'):
        call('train.py', run_configs[name], '--work-dir',
             osp.join(work_dir, name), *options)
    plain, distilled = (
        osp.join(work_dir, name, 'epoch_1.pth')
        for name in ('plain', 'distill'))
    states = load_state(plain), load_state(distilled)
    assert list(states[0]['state_dict']) == list(states[1]['state_dict'])
    for state in states:
        # The config text in `meta` is longer by the three keys.
        state['meta'].pop('cfg')
    assert abs(osp.getsize(plain) - osp.getsize(distilled)) < 10_000
    assert len(states[0]['optimizer']['state']) == len(
        states[1]['optimizer']['state'])

    for name in ('teacher.py', 'teacher.pth'):
        os.remove(str(tmp_path / name))
    image = osp.join(digits, 'test', '00001.jpg')
    results = [
        inference_detector(
            init_detector(run_configs[name], distilled, device='cpu'),
            image).pred_instances for name in ('plain', 'distill')
    ]
    assert len(results[0]) > 0
    for field in ('bboxes', 'scores', 'labels'):
        assert torch.equal(results[0][field], results[1][field])

    call('test.py', run_configs['distill'], distilled, '--work-dir', work_dir,
         '--out', osp.join(work_dir, 'predictions.pkl'))
    assert osp.isfile(osp.join(work_dir, 'predictions.pkl'))


def test_mmdet_tools_run_our_configs(run_configs, tmp_path):
    tools = osp.join(osp.dirname(mmdet.__file__), '.mim', 'tools')
    work_dir = str(tmp_path / 'run')
    for command in ([
            'train.py', run_configs['distill'], '--cfg-options',
            'train_cfg.max_epochs=1'
    ], ['test.py', run_configs['distill'],
            osp.join(work_dir, 'epoch_1.pth')]):
        result = subprocess.run([
            sys.executable,
            osp.join(tools, command[0]), *command[1:], '--work-dir', work_dir
        ],
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT,
                                env=dict(os.environ, OMP_NUM_THREADS='1'),
                                universal_newlines=True)
        assert result.returncode == 0, result.stdout


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def test_two_processes_through_the_launcher(run_configs, call, tmp_path,
                                            load_state):
    """Resumed from a run of one process, past what a killed writer leaves."""
    work_dir = str(tmp_path / 'run')
    config, short = run_configs['methods'], 'train_cfg.val_interval=1'
    call('train.py', config, '--work-dir', work_dir, '--cfg-options', short,
         'train_cfg.max_epochs=1')
    # 8 scenes in batches of 2.
    whole = osp.join(work_dir, 'epoch_1.pth')
    assert load_state(whole)['meta']['iter'] == 4
    half = osp.join(work_dir, 'epoch_2.pth')
    leftover = f'{half}.tmp-4711'
    for path in (half, leftover):
        shutil.copy(whole, path)
    os.truncate(half, 5000)

    def launch(epochs):
        return subprocess.run([
            'bash', 'tools/dist_train.sh', config, '2', '--work-dir', work_dir,
            '--resume', '--cfg-options', short,
            f'train_cfg.max_epochs={epochs}'
        ],
                              cwd=REPOSITORY,
                              env=dict(
                                  os.environ,
                                  OMP_NUM_THREADS='1',
                                  PORT=str(free_port()),
                                  PATH=osp.dirname(sys.executable) +
                                  os.pathsep + os.environ['PATH']),
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              universal_newlines=True)

    result = launch(epochs=2)
    assert result.returncode == 0, result.stdout
    assert 'resumed epoch: 1, iter: 4' in result.stdout
    assert 'Removed files that a killed run left' in result.stdout
    checkpoint = load_state(half)
    # Each of the two processes has half of the scenes.
    assert checkpoint['meta']['iter'] == 6
    assert not any('teacher' in key for key in checkpoint['state_dict'])
    assert not osp.exists(leftover)

    for name in os.listdir(work_dir):
        if name.endswith('.pth'):
            os.truncate(osp.join(work_dir, name), 5000)
    result = launch(epochs=3)
    assert result.returncode != 0
    # Both processes say why they end.
    assert result.stdout.count('error: `--resume` finds no complete') == 2


def test_help_imports_nothing_slow():
    code = ('import runpy, sys; sys.argv = ["train.py", "--help"]\n'
            'try:\n'
            '    runpy.run_path("tools/train.py", run_name="__main__")\n'
            'finally:\n'
            '    print("SLOW", {"torch", "mmengine", "mmdet", "numpy"} & set('
            'sys.modules))')
    result = subprocess.run([sys.executable, '-c', code],
                            cwd=REPOSITORY,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            universal_newlines=True)
    assert result.returncode == 0, result.stdout
    assert '--resume [RESUME]' in result.stdout
    assert result.stdout.endswith('SLOW set()\n')
