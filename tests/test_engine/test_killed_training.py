"""Training that is killed eighteen times, and resumed."""
import os
import os.path as osp
import random
import signal
import time

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from tcal_det.commands import run_command
from tcal_det.engine.resuming import resume
from tcal_det.engine.training_state import find_training_state
from tests.processes import CONTEXT

# 16 MB, as the checkpoint of a small detector has.
SIZE = 4_000_000
COMPLETED = 'completed.txt'


class Counter(BaseModel):
    """All it holds is the number of steps it was trained for."""

    def __init__(self):
        super().__init__()
        self.count = nn.Parameter(torch.zeros(1))
        self.register_buffer('counts', torch.zeros(SIZE))

    def forward(self, inputs, mode):
        self.counts += 1
        return dict(loss=-self.count.sum())


class OneImage(torch.utils.data.Dataset):

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return dict(inputs=torch.ones(1))


class Witness(Hook):
    """Tell what the checkpoint hook has done; its turn is after it."""
    priority = 'LOWEST'

    def __init__(self, connection):
        self.connection = connection

    def before_train(self, runner):
        self.connection.send(sorted(os.listdir(runner.work_dir)))

    def after_train_epoch(self, runner):
        with open(osp.join(runner.work_dir, COMPLETED), 'a') as file:
            file.write(f'{runner.epoch + 1}\n')
        self.connection.send(runner.epoch + 1)


def train(work_dir, max_keep_ckpts, connection):
    """Resume, and train for ever."""
    torch.set_num_threads(1)
    cfg = Config(dict(work_dir=work_dir))
    resume(cfg, 'auto')
    Runner(
        Counter(),
        work_dir,
        train_dataloader=dict(
            dataset=OneImage(),
            batch_size=1,
            sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=10**6),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)),
        default_hooks=dict(
            checkpoint=dict(
                type='tcal_det.AtomicCheckpointHook',
                interval=1,
                max_keep_ckpts=max_keep_ckpts)),
        custom_hooks=[Witness(connection)],
        load_from=cfg.get('load_from'),
        resume=cfg.get('resume', False),
        # Else mmengine says that it changes it.
        env_cfg=dict(mp_cfg=dict(mp_start_method='forkserver')),
        default_scope='mmdet').train()


def run_training(*args):
    run_command(lambda: train(*args))


def last_completed(work_dir):
    with open(osp.join(work_dir, COMPLETED)) as file:
        return int(file.read().split()[-1])


def temporary(names):
    return [name for name in names if '.tmp' in name]


class KilledRun:
    """A run whose processes are killed at random moments.

    Attributes:
        num_killed_while_writing (int): How often SIGKILL left a temporary
            file.
        completed (int): The last epoch that was complete before a kill.
    """

    def __init__(self, work_dir, max_keep_ckpts):
        self.work_dir = str(work_dir)
        self.max_keep_ckpts = max_keep_ckpts
        self.moments = random.Random(max_keep_ckpts)
        self.num_killed_while_writing = 0

    def start_and_kill(self, signum, while_writing=False):
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=run_training,
            args=(self.work_dir, self.max_keep_ckpts, there))
        process.start()
        try:
            assert here.poll(60)
            self.check_start(here.recv())
            # An epoch, so that machines of all speeds come further.
            begin = time.monotonic()
            assert here.poll(60)
            time.sleep(self.moments.uniform(0, 2 * (time.monotonic() - begin)))
            while while_writing and not temporary(os.listdir(self.work_dir)):
                time.sleep(0.001)
            os.kill(process.pid, signum)
            process.join(60)
        finally:
            process.kill()
        self.check_end(process.exitcode, signum)

    def check_start(self, names):
        assert not temporary(names)
        assert sum(name.endswith('.pth')
                   for name in names) <= self.max_keep_ckpts

    def check_end(self, status, signum):
        left = temporary(os.listdir(self.work_dir))
        if signum == signal.SIGTERM:
            assert status == 128 + signum
            assert not left
        else:
            assert status == -signum
            self.num_killed_while_writing += bool(left)
        state, problems = find_training_state(self.work_dir)
        assert problems == []
        checkpoint = torch.load(state.path, weights_only=False)
        epoch = checkpoint['meta']['epoch']
        self.completed = last_completed(self.work_dir)
        assert epoch >= self.completed
        for counts in checkpoint['state_dict'].values():
            assert (counts == epoch).all()


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_left(tmp_path):
    runs = [KilledRun(tmp_path / str(limit), limit) for limit in (1, 2)]
    for run in runs:
        for _ in range(3):
            run.start_and_kill(signal.SIGTERM)
            run.start_and_kill(signal.SIGKILL)
            run.start_and_kill(signal.SIGKILL, while_writing=True)
        # Each process has completed one at least.
        assert run.completed >= 9
    # Else the moments were no test of what they are to test.
    assert sum(run.num_killed_while_writing for run in runs) > 0
