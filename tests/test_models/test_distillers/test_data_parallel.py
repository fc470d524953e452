"""Two gloo processes take the step that one process takes on both halves."""
import copy
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel

from tcal_det.engine.training import leave_process_group
from tcal_det.registry import MODELS

LEARNING_RATE = 0.01


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.train()


def halves_loss(model, raw):
    data = model.data_preprocessor(raw, True)
    return model.parse_losses(model(**data, mode='loss'))[0]


def train_one_half(rank, cfg, halves, init_file, results):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    model = MMDistributedDataParallel(
        build(cfg), device_ids=None, broadcast_buffers=False)
    # No teacher tensor in the buckets.
    in_buckets = sum(p.numel() for p in model.parameters())
    data = model.module.data_preprocessor(halves[rank], True)
    model.parse_losses = model.module.parse_losses
    loss, _ = model.module.parse_losses(model(**data, mode='loss'))
    loss.backward()
    torch.optim.SGD(model.parameters(), LEARNING_RATE).step()
    torch.save((in_buckets, [p.detach() for p in model.parameters()]),
               f'{results}.{rank}')
    leave_process_group()


SPECULATIVE = dict(sampling=dict(type='SpeculativeSamples', top_k=8))


@pytest.mark.slow
@pytest.mark.parametrize('teacher, loss', [
    ({}, dict(type='LogitKLDivLoss')),
    (SPECULATIVE, dict(type='LogitKLDivLoss')),
    ({}, dict(type='IGDMLoss')),
    ({}, dict(type='KDIGALoss')),
    ({}, dict(type='PretrainingStateLoss', in_features=32)),
])
def test_two_ranks_equal_the_averaged_gradients(distiller_cfg, batch, tmp_path,
                                                teacher, loss, monkeypatch):
    # Both halves are of the first iteration, as on the ranks.
    monkeypatch.setattr(MessageHub.get_current_instance(), '_runtime_info',
                        OrderedDict(iter=0))
    cfg = distiller_cfg(losses=dict(loss_kd_cls=loss))
    cfg.teacher.update(teacher)
    # Every candidate is a sample: nothing random in the step.
    cfg.train_cfg.rpn.sampler.num = cfg.train_cfg.rcnn.sampler.num = 10**6
    halves = [batch(num_images=1, seed=seed) for seed in (0, 1)]
    results = str(tmp_path / 'weights')
    mp.spawn(
        train_one_half,
        (cfg, copy.deepcopy(halves), str(tmp_path / 'init'), results),
        nprocs=2)
    (size, first), (_, second) = (
        torch.load(f'{results}.{rank}') for rank in (0, 1))
    for mine, its in zip(first, second):
        assert torch.equal(mine, its)

    model = build(cfg)
    assert size == sum(p.numel() for p in model.parameters())
    # BatchNorm's running statistics do not enter a training step.
    sum(halves_loss(model, half) / 2 for half in halves).backward()
    torch.optim.SGD(model.parameters(), LEARNING_RATE).step()
    before = build(cfg)
    moved = 0.0
    for mine, expected, start in zip(first, model.parameters(),
                                     before.parameters()):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
        moved += (mine - start).abs().sum().item()
    assert moved > 0
