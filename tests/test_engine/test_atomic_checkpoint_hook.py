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
from tcal_det.engine.training_state import find_training_state
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import atomic_output_path


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

    def run(epochs, resume=None, interval=1, **hook):
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
                    type='tcal_det.AtomicCheckpointHook',
                    interval=interval,
                    **hook)),
            load_from=resume,
            resume=resume is not None,
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
    with pytest.raises(
            InvalidValueError,
            match="checkpoint '.*epoch_1.pth' cannot be written: no space"):
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
    whole = find_training_state(str(tmp_path))[0].path
    assert whole == str(tmp_path / 'epoch_1.pth')
    assert torch.load(whole, weights_only=False)['meta']['epoch'] == 1


class TestWhatAKilledRunLeft:
    """Removed at the next start; nothing else is."""

    @pytest.fixture
    def resumed(self, train, tmp_path):
        """Three epochs, of which two are kept, then resumed to a fourth."""
        train(3, max_keep_ckpts=2)

        def resume(**hook):
            return train(
                4,
                resume=str(tmp_path / 'epoch_3.pth'),
                **dict(dict(max_keep_ckpts=2), **hook))

        return resume

    def test_temporary_files(self, train, tmp_path):
        for name in ('epoch_2.pth.tmp-4711', 'best_x.pth.tmp-0123abcd',
                     'notes.tmp-old', 'epoch_9.pth.tmp'):
            (tmp_path / name).write_text('')
        with atomic_output_path(str(tmp_path / 'epoch_8.pth')) as living:
            train(1)
            assert osp.isfile(living)
            os.remove(living)
            (tmp_path / living).write_text('whole')
        assert {name
                for name in os.listdir(tmp_path)
                if '.tmp' in name} == {'notes.tmp-old', 'epoch_9.pth.tmp'}

    def test_outdated_checkpoints(self, resumed, tmp_path):
        shutil.copy(tmp_path / 'epoch_3.pth', tmp_path / 'epoch_1.pth')
        for name in ('best_epoch_1.pth', 'epoch_7.pth', 'epoch_1.pth.bak'):
            (tmp_path / name).write_text('')
        assert resumed() == [
            'best_epoch_1.pth', 'epoch_3.pth', 'epoch_4.pth', 'epoch_7.pth'
        ]
        assert (tmp_path / 'epoch_1.pth.bak').exists()

    def test_the_limit_was_raised(self, resumed, tmp_path):
        shutil.copy(tmp_path / 'epoch_3.pth', tmp_path / 'epoch_1.pth')
        assert resumed(max_keep_ckpts=3) == [
            'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'
        ]

    def test_steps_at_which_this_run_does_not_save(self, train, tmp_path):
        (tmp_path / 'epoch_1.pth').write_text('of an earlier training')
        (tmp_path / 'epoch_2.pth').write_text('of an earlier training')
        train(4, max_keep_ckpts=1, interval=2)
        assert train(
            6,
            max_keep_ckpts=1,
            interval=2,
            resume=str(tmp_path / 'epoch_4.pth'),
        ) == ['epoch_1.pth', 'epoch_6.pth']

    def test_a_kept_checkpoint_is_damaged(self, resumed, tmp_path):
        shutil.copy(tmp_path / 'epoch_3.pth', tmp_path / 'epoch_1.pth')
        os.truncate(tmp_path / 'epoch_2.pth', 1000)
        # mmengine's own count removes epoch 2 in passing.
        assert resumed() == ['epoch_1.pth', 'epoch_3.pth', 'epoch_4.pth']

    def test_training_without_a_limit_has_kept_all(self, train, tmp_path):
        train(3)
        assert train(
            4, max_keep_ckpts=1, resume=str(tmp_path / 'epoch_3.pth')) == [
                'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'
            ]

    def test_checkpoints_of_another_folder(self, train, tmp_path):
        train(3, max_keep_ckpts=2)
        os.makedirs(tmp_path / 'elsewhere')
        for epoch in (2, 3):
            shutil.move(
                str(tmp_path / f'epoch_{epoch}.pth'),
                str(tmp_path / 'elsewhere'))
        (tmp_path / 'epoch_1.pth').write_text('of another training')
        assert train(
            4,
            max_keep_ckpts=2,
            resume=str(tmp_path / 'elsewhere' /
                       'epoch_3.pth')) == ['epoch_1.pth', 'epoch_4.pth']


def test_a_checkpoint_lists_itself_and_those_beside_it(train, tmp_path):
    """Resuming removes by this list."""
    train(3, max_keep_ckpts=2)
    for epoch in (2, 3):
        checkpoint = torch.load(
            str(tmp_path / f'epoch_{epoch}.pth'), weights_only=False)
        assert checkpoint['message_hub']['runtime_info']['keep_ckpt_ids'] == [
            epoch - 1, epoch
        ]
