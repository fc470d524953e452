"""A kill while saving leaves the last whole checkpoint to resume from."""
import os
import os.path as osp
import shutil

import pytest
import torch
import torch.nn as nn
from mmengine.model import BaseModel
from mmengine.runner import Runner

from tcal_det.engine.hooks import atomic_checkpoint_hook
from tcal_det.engine.training import find_whole_checkpoint


class Line(BaseModel):
    """The smallest thing a Runner trains."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, inputs, mode):
        return dict(loss=self.linear(torch.stack(inputs)).mean())


class Ones(torch.utils.data.Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.ones(1))


@pytest.fixture
def train(tmp_path):

    def run(epochs, **hook):
        runner = Runner(
            Line(),
            str(tmp_path),
            train_dataloader=dict(
                dataset=Ones(),
                batch_size=1,
                sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(
                checkpoint=dict(
                    type='tcal_det.AtomicCheckpointHook', interval=1, **hook)),
            default_scope='mmdet',
            experiment_name=f'{tmp_path.name}_{epochs}')
        runner.train()
        return sorted(
            name for name in os.listdir(str(tmp_path))
            if name.endswith('.pth'))

    return run


def test_keeps_as_many_as_asked(train):
    assert train(4, max_keep_ckpts=2) == ['epoch_3.pth', 'epoch_4.pth']


def test_keeps_all_by_default(train):
    assert len(train(3)) == 3


def test_takes_the_older_name_of_the_backend(train):
    assert train(1, file_client_args=dict(backend='disk')) == ['epoch_1.pth']


def test_full_disk_leaves_no_half_file(train, tmp_path, monkeypatch):

    def full(self, obj, filepath):
        with open(filepath, 'wb') as file:
            file.write(bytes(obj)[:10])
        raise OSError('no space left')

    monkeypatch.setattr(atomic_checkpoint_hook.LocalBackend, 'put', full)
    with pytest.raises(OSError, match='no space left'):
        train(1)
    assert not [name for name in os.listdir(tmp_path) if '.pth' in name]


def test_kill_while_writing_loses_nothing(train, tmp_path, monkeypatch):
    """With max_keep_ckpts=1 mmengine's hook would have removed the first."""
    writes = []
    put = atomic_checkpoint_hook.LocalBackend.put

    def killed_in_the_second(self, obj, filepath):
        writes.append(filepath)
        if len(writes) == 2:
            put(self, obj[:len(obj) // 2], filepath)
            raise KeyboardInterrupt
        put(self, obj, filepath)

    monkeypatch.setattr(atomic_checkpoint_hook.LocalBackend, 'put',
                        killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(3, max_keep_ckpts=1)
    assert not osp.exists(str(tmp_path / 'epoch_2.pth'))
    whole = find_whole_checkpoint(str(tmp_path))
    assert whole == str(tmp_path / 'epoch_1.pth')
    assert torch.load(whole, weights_only=False)['meta']['epoch'] == 1


class TestFindWholeCheckpoint:

    @pytest.fixture
    def work_dir(self, tmp_path):
        for epoch in (1, 2):
            path = str(tmp_path / f'epoch_{epoch}.pth')
            torch.save(dict(epoch=epoch, weight=torch.zeros(1000)), path)
            os.utime(path, (epoch, epoch))
        (tmp_path / 'last_checkpoint').write_text(
            str(tmp_path / 'epoch_2.pth'))
        return tmp_path

    def test_last(self, work_dir):
        assert find_whole_checkpoint(str(work_dir)).endswith('epoch_2.pth')

    def test_last_is_truncated(self, work_dir):
        os.truncate(str(work_dir / 'epoch_2.pth'), 2000)
        assert find_whole_checkpoint(str(work_dir)).endswith('epoch_1.pth')

    def test_pointer_is_empty_or_missing(self, work_dir):
        (work_dir / 'last_checkpoint').write_text('')
        assert find_whole_checkpoint(str(work_dir)).endswith('epoch_2.pth')
        os.remove(str(work_dir / 'last_checkpoint'))
        assert find_whole_checkpoint(str(work_dir)).endswith('epoch_2.pth')

    def test_moved_work_dir(self, work_dir, tmp_path):
        moved = str(tmp_path / 'moved')
        os.makedirs(moved)
        for name in ('epoch_2.pth', 'last_checkpoint'):
            shutil.move(str(work_dir / name), moved)
        assert find_whole_checkpoint(moved) == osp.join(moved, 'epoch_2.pth')

    def test_nothing_there(self, tmp_path):
        assert find_whole_checkpoint(str(tmp_path)) is None
        assert find_whole_checkpoint(str(tmp_path / 'gone')) is None
