"""What tools/train.py says where a training cannot go on, or not begin."""
import os
from urllib.error import URLError

import pytest
import torch
from mmengine.config import Config

from tcal_det.engine.training import missing_weights_named
from tcal_det.errors import MissingFileError


@pytest.fixture
def train(call_tool, run_configs, tmp_path):
    """Train the distill config in this process; status and error line."""

    def run(*args, config='distill', epochs=1, options=()):
        status, stderr = call_tool('train.py', run_configs[config],
                                   '--work-dir', str(tmp_path / 'run'), *args,
                                   '--cfg-options',
                                   f'train_cfg.max_epochs={epochs}',
                                   'train_cfg.val_interval=10', *options)
        assert 'Traceback' not in stderr
        lines = [
            line for line in stderr.splitlines() if line.startswith('error: ')
        ]
        assert len(lines) == (status != 0)
        return status, ''.join(lines)

    return run


@pytest.fixture
def run(train, tmp_path):
    """Folder of a run of two epochs."""
    assert train(epochs=2) == (0, '')
    return tmp_path / 'run'


@pytest.mark.slow
def test_resume(train, run, call_tool, load_state):
    path = run / 'epoch_2.pth'
    whole = path.read_bytes()
    (run / 'last_checkpoint').write_bytes(b'\xff\xfe')
    (run / 'epoch_3.pth').write_bytes(whole[:len(whole) // 2])
    status, _ = train(
        '--resume',
        epochs=3,
        options=('model.teacher.calibrator.temperature=3.0', ))
    assert status == 0
    assert 'resumed epoch: 2, iter: 8' in call_tool.output
    for line in ("last_checkpoint' cannot be read ",
                 "epoch_3.pth' cannot be read, it is damaged ",
                 f'`--resume` changes the distillation of {str(path)!r}: '
                 'model.teacher.calibrator.temperature: 2.0 -> 3.0'):
        assert sum(line in row for row in call_tool.output.splitlines()) == 1
    assert load_state(str(run / 'epoch_3.pth'))['meta']['epoch'] == 3
    assert (run / 'last_checkpoint').read_text() == str(run / 'epoch_3.pth')

    published = load_state(str(run / 'epoch_3.pth'))
    torch.save(
        dict(meta=dict(cfg=''), state_dict=published['state_dict']),
        str(run / 'published.pth'))
    status, line = train('--resume', str(run / 'published.pth'))
    assert status == 2
    assert "published.pth' does not hold the state of a training" in line

    for name in ('epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'):
        if (run / name).exists():
            os.truncate(run / name, 5000)
    damaged = sorted(run.glob('epoch_*.pth'))
    status, line = train('--resume')
    assert status == 2
    assert 'finds no complete checkpoint' in line
    assert all(path.name in line for path in damaged)
    # Nothing was begun that could overwrite them.
    assert all(path.stat().st_size == 5000 for path in damaged)
    status, line = train('--resume', str(damaged[0]))
    assert status == 2 and f'{damaged[0].name}' in line


def test_first_launch_with_resume_begins(train, tmp_path, call_tool):
    assert train('--resume')[0] == 0
    assert 'training starts from the beginning' in call_tool.output


def test_full_disk(train, tmp_path, monkeypatch):

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    status, line = train()
    assert status == 2
    assert "epoch_1.pth' cannot be written: [Errno 28] No space" in line
    assert not [
        name for name in os.listdir(tmp_path / 'run') if '.pth' in name
    ]


def test_read_only_work_dir(train, monkeypatch):
    access = os.access
    monkeypatch.setattr(
        os, 'access', lambda path, mode, **options: mode != os.W_OK and access(
            path, mode, **options))
    status, line = train()
    assert status == 2
    assert '`work_dir` must be a folder that you may write to' in line


def test_work_dir_is_a_file(train, tmp_path):
    (tmp_path / 'run').write_text('')
    status, line = train()
    assert status == 2 and '`work_dir` must be a folder' in line


class TestMissingWeights:
    """The key that names them, and what to do about it."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch):

        def refuse(*args, **kwargs):
            raise URLError('Name or service not known')

        monkeypatch.setattr('mmengine.runner.checkpoint.load_url', refuse)
        monkeypatch.setattr('torch.hub.download_url_to_file', refuse)

    @pytest.mark.parametrize('source', [
        'torchvision://resnet18', 'https://localhost/gone-01234567.pth',
        'gone.pth'
    ])
    def test_backbone(self, train, source):
        init_cfg = 'model.backbone.init_cfg'
        status, line = train(
            options=(f'{init_cfg}._delete_=True',
                     f'{init_cfg}.type=Pretrained',
                     f'{init_cfg}.checkpoint={source}'))
        assert status == 2
        assert f'`model.backbone.init_cfg.checkpoint` names {source!r}' in line
        assert ('--cfg-options model.backbone.init_cfg.checkpoint=PATH, or '
                'begin with random weights: --cfg-options '
                'model.backbone.init_cfg=None') in line

    @pytest.mark.parametrize(
        'source', ['https://localhost/gone-01234567.pth', 'gone.pth'])
    def test_whole_detector(self, train, source):
        status, line = train(options=(f'load_from={source}', ))
        assert status == 2
        assert f'`load_from` names {source!r}' in line
        assert line.endswith('--cfg-options load_from=PATH')

    def test_teacher(self, train):
        """Has a message of its own."""
        status, line = train(
            options=('model.teacher.checkpoint=gone.pth',
                     'load_from=https://localhost/a.pth'))
        assert status == 2 and "teacher checkpoint 'gone.pth'" in line
        assert 'load_from' not in line

    @pytest.mark.parametrize('model, key', [
        (dict(init_cfg=dict(checkpoint='http://a')), 'init_cfg.checkpoint'),
        (dict(neck=[dict(a=1), dict(pretrained='http://a')]),
         'neck.1.pretrained'),
        (dict(teacher=dict(checkpoint='http://b'),
              checkpoint='http://a'), 'checkpoint'),
    ])
    def test_keys(self, model, key):
        with pytest.raises(
                MissingFileError, match=f"`model.{key}` names 'http://a'"), (
                    missing_weights_named(Config(dict(model=model)))):
            raise URLError('offline')

    @pytest.mark.parametrize('error', [
        URLError('offline'),
        FileNotFoundError('annotations.json'),
        ValueError("'http://a'")
    ])
    def test_other_errors_are_left_alone(self, error):
        model = dict(teacher=dict(checkpoint='http://a'), checkpoint='a.pth')
        with pytest.raises(type(error)) as raised, missing_weights_named(
                Config(dict(model=model))):
            raise error
        assert raised.value is error
