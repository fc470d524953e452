"""Two gloo processes take the step that one process takes on both halves."""
import copy
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel

from tcal_det.engine.training import leave_process_group
from tcal_det.registry import MODELS
from tests.processes import run_ranks

LEARNING_RATE = 0.01


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.train()


def halves_loss(model, raw):
    data = model.data_preprocessor(raw, True)
    return model.parse_losses(model(**data, mode='loss'))[0]


def train_one_half(rank, cfgs, halves, init_file, results):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    trained = []
    for cfg in cfgs:
        model = MMDistributedDataParallel(
            build(cfg), device_ids=None, broadcast_buffers=False)
        # No teacher tensor in the buckets.
        in_buckets = sum(p.numel() for p in model.parameters())
        data = model.module.data_preprocessor(
            copy.deepcopy(halves[rank]), True)
        model.parse_losses = model.module.parse_losses
        loss, _ = model.module.parse_losses(model(**data, mode='loss'))
        loss.backward()
        torch.optim.SGD(model.parameters(), LEARNING_RATE).step()
        trained.append((in_buckets, [p.detach() for p in model.parameters()]))
    torch.save(trained, f'{results}.{rank}')
    leave_process_group()


# Changes of the teacher, and the loss.
CASES = [
    ({}, dict(type='LogitKLDivLoss')),
    (dict(sampling=dict(type='SpeculativeSamples', top_k=8)),
     dict(type='LogitKLDivLoss')),
    ({}, dict(type='IGDMLoss')),
    ({}, dict(type='KDIGALoss')),
    ({}, dict(type='PretrainingStateLoss', in_features=32)),
]


@pytest.mark.slow
def test_two_ranks_equal_the_averaged_gradients(distiller_cfg, batch, tmp_path,
                                                monkeypatch):
    """All cases in two processes, whose start takes longer than a step."""
    # Both halves are of the first iteration, as on the ranks.
    monkeypatch.setattr(MessageHub.get_current_instance(), '_runtime_info',
                        OrderedDict(iter=0))
    cfgs = []
    for teacher, loss in CASES:
        cfg = distiller_cfg(losses=dict(loss_kd_cls=loss))
        cfg.teacher.update(teacher)
        # Every candidate is a sample: nothing random in the step.
        cfg.train_cfg.rpn.sampler.num = cfg.train_cfg.rcnn.sampler.num = 10**6
        cfgs.append(cfg)
    halves = [batch(num_images=1, seed=seed) for seed in (0, 1)]
    results = str(tmp_path / 'weights')
    run_ranks(train_one_half, cfgs, halves, str(tmp_path / 'init'), results)
    ranks = [torch.load(f'{results}.{rank}') for rank in (0, 1)]
    for case, cfg, (size, first), (_, second) in zip(CASES, cfgs, *ranks):
        for mine, its in zip(first, second):
            assert torch.equal(mine, its), case
        model = build(cfg)
        assert size == sum(p.numel() for p in model.parameters()), case
        # BatchNorm's running statistics do not enter a training step.
        sum(halves_loss(model, copy.deepcopy(half)) / 2
            for half in halves).backward()
        torch.optim.SGD(model.parameters(), LEARNING_RATE).step()
        moved = 0.0
        for mine, expected, start in zip(first, model.parameters(),
                                         build(cfg).parameters()):
            torch.testing.assert_close(
                mine,
                expected,
                rtol=1e-4,
                atol=1e-6,
                msg=lambda message, case=case: f'{case}: {message}')
            moved += (mine - start).abs().sum().item()
        assert moved > 0, case
