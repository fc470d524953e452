"""The weight of a loss follows the step and nothing else."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from tcal_det.engine.hooks.loss_weight_schedule_hook import (
    LossWeightScheduleHook, Schedule)
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import LogitKLDivLoss
from tcal_det.registry import HOOKS


class Student(BaseModel):
    """Two logits per number, and one distillation loss of weight 2."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 2)
        self.distill_losses = nn.ModuleDict(
            dict(loss_kd_cls=LogitKLDivLoss(loss_weight=2.)))

    def forward(self, inputs, mode='loss'):
        loss = self.distill_losses['loss_kd_cls'](self.fc(inputs),
                                                  torch.zeros(len(inputs), 2))
        return dict(loss_kd_cls=loss)


def weights_of(schedule, total=5, by_epoch=True):
    """The weight at each step of a training, and what was logged."""
    hook = HOOKS.build(
        dict(
            type='tcal_det.LossWeightScheduleHook',
            loss='loss_kd_cls',
            schedule=schedule,
            by_epoch=by_epoch))
    hub = MessageHub.get_instance('loss_weight_schedule')
    hub.log_scalars.clear()
    runner = SimpleNamespace(
        model=Student(),
        train_loop=None,
        message_hub=hub,
        # The count that the schedule must not look at stands still.
        epoch=0,
        iter=0,
        max_epochs=total if by_epoch else 99,
        max_iters=99 if by_epoch else total)
    loss = runner.model.distill_losses['loss_kd_cls']
    hook.before_train(runner)
    weights = []
    for step in range(total):
        setattr(runner, 'epoch' if by_epoch else 'iter', step)
        hook.before_train_iter(runner, batch_idx=0)
        weights.append(loss.loss_weight)
    logged, _ = hub.get_scalar('train/kd_cls_weight').data
    assert logged.tolist() == weights
    hook.after_train(runner)
    assert loss.loss_weight == 2.
    return weights


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('schedule, expected', [
    (dict(type='constant'), [2, 2, 2, 2, 2]),
    (dict(type='linear'), [2, 1.5, 1, .5, 0]),
    (dict(type='linear', start_factor=0., end_factor=1.,
          duration=3), [0, 1, 2, 2, 2]),
    (dict(type='linear', start_factor=0., end_factor=1.,
          duration=1), [0, 2, 2, 2, 2]),
    (dict(type='cosine', end_factor=.5),
     [1.5 + .5 * math.cos(math.pi * step / 4) for step in range(5)]),
    (dict(type='step', milestones=[1, 3]), [2, .2, .2, .02, .02]),
    (dict(type='early_decay', gamma=.7), [2 * .7**step for step in range(5)]),
    (dict(type='early_decay', gamma=.5, hold=2), [2, 2, 2, 1, .5]),
])
def test_schedules(schedule, expected, by_epoch):
    assert weights_of(schedule, by_epoch=by_epoch) == pytest.approx(expected)


@pytest.mark.parametrize('kind', ['linear', 'cosine'])
def test_training_of_one_step_keeps_the_start(kind):
    assert weights_of(dict(type=kind), total=1) == [2]


@pytest.mark.parametrize('schedule, message', [
    (dict(type='cos'), "`schedule.type`.*'cos'"),
    (dict(end_factor=1.), '`schedule.type`.*None'),
    (dict(type='linear', end=0), r"takes \['start_factor'.*'end'"),
    (dict(type='step'), 'milestones'),
    (dict(type='linear', end_factor=-1), '`schedule.end_factor`'),
    (dict(type='cosine', duration=0), '`schedule.duration`'),
    (dict(type='early_decay', gamma=1.5), '`schedule.gamma`.*1.5'),
    (dict(type='early_decay', gamma=.5, hold=-1), '`schedule.hold`'),
])
def test_bad_schedules_are_named(schedule, message):
    with pytest.raises(InvalidValueError, match=message):
        LossWeightScheduleHook('loss_kd_cls', schedule)


@pytest.mark.parametrize('schedule, message', [
    ('cosine', '`schedule`'),
    (dict(type='step', milestones=3), '`schedule.milestones`'),
    (dict(type='linear', end_factor='0'), '`schedule.end_factor`'),
    (dict(type='linear', end_factor=True), '`schedule.end_factor`.*bool'),
    (dict(type='cosine', duration=1.5), '`schedule.duration`.*whole'),
    (dict(type='step', milestones=[1.5]), '`schedule.milestones`.*whole'),
    (dict(type='step', milestones=['1']), '`schedule.milestones`.*whole'),
    (dict(type='early_decay', gamma=.5, hold=True), '`schedule.hold`.*bool'),
])
def test_bad_types_are_named(schedule, message):
    with pytest.raises(InvalidTypeError, match=message):
        LossWeightScheduleHook('loss_kd_cls', schedule)


@pytest.mark.parametrize('kind', [['linear'], {}, 3])
def test_type_that_is_no_text(kind):
    with pytest.raises(InvalidValueError, match='`schedule.type` must be'):
        LossWeightScheduleHook('loss_kd_cls', dict(type=kind))


@pytest.mark.parametrize('arguments, message', [
    (dict(loss=['loss_kd_cls']), '`loss`.*key'),
    (dict(by_epoch='False'), "`by_epoch`.*'False'"),
    (dict(by_epoch=1), '`by_epoch`.*1'),
])
def test_bad_types_of_the_hook_are_named(arguments, message):
    arguments = dict(
        dict(loss='loss_kd_cls', schedule=dict(type='linear')), **arguments)
    with pytest.raises(InvalidTypeError, match=message):
        LossWeightScheduleHook(**arguments)


def test_a_schedule_has_a_factor():

    class WithoutFactor(Schedule):
        pass

    with pytest.raises(TypeError, match='abstract.*factor'):
        WithoutFactor()


def test_numpys_numbers_are_numbers():
    schedule = dict(
        type='linear',
        start_factor=np.float32(0),
        end_factor=np.int64(1),
        duration=np.int64(3))
    weights = weights_of(schedule)
    assert weights == [0, 1, 2, 2, 2]
    assert {type(weight) for weight in weights} == {float}
    schedule = dict(
        type='step', milestones=[np.int64(1)], gamma=np.float32(.5))
    assert weights_of(schedule) == [2, 1, 1, 1, 1]
    schedule = dict(type='early_decay', gamma=np.float32(.5), hold=np.int64(1))
    assert weights_of(schedule) == [2, 2, 1, .5, .25]


def test_weights_that_would_overflow():
    with pytest.raises(InvalidValueError, match='`schedule.gamma`.*1e.200'):
        LossWeightScheduleHook(
            'loss_kd_cls', dict(type='step', milestones=[1, 2], gamma=1e200))


@pytest.mark.parametrize('model', [Student(), nn.Linear(1, 1)])
def test_unknown_loss_is_named(model):
    hook = LossWeightScheduleHook('loss_kd', dict(type='linear'))
    with pytest.raises(InvalidValueError, match="`loss`.*'loss_kd'"):
        hook.before_train(SimpleNamespace(model=model, train_loop=None))


def test_epochs_need_a_loop_that_counts_them():
    hook = LossWeightScheduleHook('loss_kd_cls', dict(type='linear'))
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    with pytest.raises(InvalidValueError, match='`by_epoch`'):
        hook.before_train(SimpleNamespace(model=Student(), train_loop=loop))


def test_looks_inside_ddp():
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = Student()
    hook = LossWeightScheduleHook('loss_kd_cls', dict(type='linear'))
    runner = SimpleNamespace(
        model=wrapper,
        train_loop=None,
        epoch=4,
        max_epochs=5,
        message_hub=MessageHub.get_instance('loss_weight_schedule_ddp'))
    hook.before_train(runner)
    hook.before_train_iter(runner, batch_idx=0)
    assert wrapper.module.distill_losses['loss_kd_cls'].loss_weight == 0


class Recorder(Hook):
    """The weight that each iteration was trained with."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, *args, **kwargs):
        loss = runner.model.distill_losses['loss_kd_cls']
        self.weights.append((runner.iter, loss.loss_weight))


def train(work_dir, name, recorder, **kwargs):
    runner = Runner(
        model=Student(),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(
            [dict(inputs=torch.ones(1))] * 8, batch_size=2),
        train_cfg=dict(by_epoch=False, max_iters=6),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False,
                            interval=3)),
        custom_hooks=[
            LossWeightScheduleHook(
                'loss_kd_cls', dict(type='cosine'), by_epoch=False), recorder
        ],
        experiment_name=name,
        log_level='ERROR',
        **kwargs)
    runner.train()
    return runner


def test_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path):
    whole = Recorder()
    train(tmp_path, 'whole', whole)
    assert [weight for _, weight in whole.weights] == pytest.approx(
        [1 + math.cos(math.pi * step / 5) for step in range(6)])
    rest = Recorder()
    runner = train(
        tmp_path,
        'rest',
        rest,
        load_from=str(tmp_path / 'iter_3.pth'),
        resume=True)
    assert rest.weights == whole.weights[3:]
    # Logged as it is, not as a mean over the last iterations.
    logged, _ = runner.log_processor.get_log_after_iter(runner, 5, 'train')
    assert logged['kd_cls_weight'] == rest.weights[-1][1]
