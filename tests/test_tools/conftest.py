"""A minute's worth of digits and configs for the commands."""
import os.path as osp
import runpy
import sys

import pytest
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.visualization import Visualizer

from tests.processes import ScriptProcess
from tools.dataset_converters.digit_scenes import write_digit_scenes

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """The folder of a tiny data set."""
    folder = str(tmp_path_factory.mktemp('data') / 'digits')
    write_digit_scenes(
        folder,
        dict(train=8, val=4, test=4),
        size=64,
        digits_per_scene=(2, 3),
        show_progress=False)
    return folder


@pytest.fixture
def run_configs(tmp_path, digits, detector_cfg, teacher_files):
    """Paths of a plain config and two distill configs that train in seconds.

    The samplers take every candidate and nothing is augmented, so training
    draws no random number after the initialisation: two runs that do the
    same have the same weights, bit for bit.
    """
    base = Config.fromfile(osp.join(REPOSITORY, 'tests/data/digits.py'))
    student = detector_cfg(num_classes=10)
    student.train_cfg.rpn.sampler.num = 10**6
    student.train_cfg.rcnn.sampler.num = 10**6
    base.merge_from_dict(dict(model=student, work_dir='unset'))
    for split in ('train', 'val', 'test'):
        loader = base[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        loader.dataset.data_root = digits
    for split in ('val', 'test'):
        base[f'{split}_evaluator'] = dict(
            type='CocoMetric',
            ann_file=osp.join(digits, 'annotations', f'{split}.json'))
    base.train_cfg.update(max_epochs=3, val_interval=3)
    base.optim_wrapper.optimizer.lr = 1e-4
    base.default_hooks.checkpoint.update(interval=1)
    base.custom_hooks = [dict(type='EMAHook')]
    plain = str(tmp_path / 'plain.py')
    base.dump(plain)
    base.model.update(
        type='tcal_det.CalibratedTeacherDistiller',
        student_type='FasterRCNN',
        teacher=dict(
            **teacher_files(num_classes=10),
            calibrator=dict(type='TemperatureScaling', temperature=2.0)),
        distill_losses=dict(loss_kd_cls=dict(type='LogitKLDivLoss')))
    distill = str(tmp_path / 'distill.py')
    base.dump(distill)
    # State that only a method has: a learnable head, a schedule.
    base.model.distill_losses.loss_kd_explicit = dict(
        type='AEKTLoss', cls_channels=11)
    base.custom_hooks.append(
        dict(
            type='tcal_det.LossWeightScheduleHook',
            loss='loss_kd_cls',
            schedule=dict(type='cosine', end_factor=0.1)))
    methods = str(tmp_path / 'methods.py')
    base.dump(methods)
    return dict(plain=plain, distill=distill, methods=methods)


@pytest.fixture
def start_tool(tmp_path):
    """Start a command of tools/ in a process of its own."""
    started = []

    def start(name, *args):
        process = ScriptProcess(REPOSITORY,
                                str(tmp_path / f'output{len(started)}.txt'),
                                osp.join(REPOSITORY, 'tools', name), *args)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """Run a command in this process; its exit status and error output."""

    def call(name, *args):
        path = osp.join(REPOSITORY, 'tools', name)
        # A command finds no logger or scope of an earlier one; theirs write
        # to streams that pytest has closed.
        for manager in (MMLogger, MessageHub, DefaultScope, Visualizer,
                        DetLocalVisualizer):
            manager._instance_dict.clear()
        # Nor the checkpoint loaders that an earlier one has registered.
        monkeypatch.setattr(CheckpointLoader, '_schemes',
                            CheckpointLoader._schemes)
        monkeypatch.setattr(sys, 'argv', [path, *args])
        status = 0
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        call.output = captured.out
        return status, captured.err

    return call


@pytest.fixture
def load_state():
    """Weights and the rest of a checkpoint."""

    def load(path):
        return torch.load(path, map_location='cpu', weights_only=False)

    return load
