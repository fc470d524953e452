"""The metric under mmengine's own runner, hooks and log."""
import json
import os
from glob import glob

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

# One box that is right, with these scores in the epochs' validations; no
# detection where it is None. D-ECE is 1 - score.
SCORES = (None, 0.75, None, 0.25)


class Images(torch.utils.data.Dataset):
    metainfo = dict(classes=('a', ))

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index


class Detector(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps = 0

    def forward(self, ids, mode):
        if mode == 'loss':
            return dict(loss=self.weight**2)
        return [self.sample(image_id) for image_id in ids]

    def sample(self, image_id):
        score = SCORES[self.steps // len(Images()) - 1]
        boxes = [[0., 0., 8., 8.]] * (score is not None)
        return dict(
            img_id=image_id,
            ori_shape=(16, 16),
            instances=[
                dict(bbox=[0., 0., 8., 8.], bbox_label=0, ignore_flag=0)
            ],
            pred_instances=dict(
                bboxes=torch.tensor(boxes).reshape(-1, 4),
                scores=torch.tensor([score] * len(boxes)),
                labels=torch.zeros(len(boxes), dtype=torch.long)))

    def train_step(self, data, optim_wrapper):
        self.steps += 1
        loss = self(data, 'loss')['loss']
        optim_wrapper.update_params(loss)
        return dict(loss=loss)

    def val_step(self, data):
        return self(data, 'predict')


@pytest.fixture
def train(tmp_path):

    def run(**checkpoint):
        loader = dict(
            batch_size=1,
            num_workers=0,
            dataset=Images(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'))
        runner = Runner(
            model=Detector(),
            work_dir=str(tmp_path),
            train_dataloader=loader,
            val_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=len(SCORES)),
            val_cfg=dict(),
            val_evaluator=dict(type='tcal_det.DetectionCalibrationMetric'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', **checkpoint)),
            default_scope='mmdet',
            experiment_name=tmp_path.name)
        runner.train()
        path, = glob(str(tmp_path / '*' / 'vis_data' / 'scalars.json'))
        with open(path) as file:
            lines = [json.loads(line) for line in file]
        log, = glob(str(tmp_path / '*' / '*.log'))
        with open(log) as file:
            log = file.read().splitlines()
        return [one for one in lines if 'calib/d_ece' in one], log

    return run


def test_undefined_figures_stay_in_the_log(train):
    """Left out, mmengine would log those of the validation before again."""
    lines, log = train()
    figures = [one['calib/d_ece'] for one in lines]
    assert [value if value == value else None
            for value in figures] == [None, 0.25, None, 0.75]
    # One line says so, and why; mmengine logs the same warning once.
    line, = (line for line in log if 'as no detection is counted' in line)
    assert 'undefined (NaN)' in line and 'd_ece_over, ' in line


def test_save_best_waits_for_a_defined_figure(train, tmp_path):
    train(save_best='calib/d_ece', rule='less')
    assert [name for name in os.listdir(tmp_path)
            if name.startswith('best')] == ['best_calib_d_ece_epoch_2.pth']


def test_what_the_metric_needs_is_said_before_the_first_iteration(train):
    _, log = train()
    said, = (k for k, line in enumerate(log) if 'without `ann_file`' in line)
    first, *_ = (k for k, line in enumerate(log) if 'Epoch(train)' in line)
    assert said < first and '`meta_keys`' in log[said]
