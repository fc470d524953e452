"""Students with queries on two ranks."""
import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope

from tcal_det.engine.training import leave_process_group
from tests.processes import run_ranks
from tests.query_cases import batch, distiller, kd_loss, tiny_model

NAME = 'TwoStageDeformableDETR'
TRANSPORTS = ('matched_predictions', 'shared_queries')


def make_student(folder, transport):
    cfg = tiny_model(NAME)
    # The divisor is that of all ranks, as of one large batch.
    assert cfg.bbox_head.sync_cls_avg_factor
    return distiller(
        folder, cfg, kd_loss(NAME), teacher_seed=1, transport=transport)


def gradients_of(model, inputs):
    images, data_samples = copy.deepcopy(inputs)
    losses = model(images, data_samples, mode='loss')
    assert losses['loss_kd_cls'] > 0
    getattr(model, 'module', model).parse_losses(losses)[0].backward()
    return [weight.grad for weight in model.parameters()]


def train_one_half(rank, folder):
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    images, data_samples = batch(NAME)
    half = images[rank:rank + 1], data_samples[rank:rank + 1]
    results = []
    own = folder / str(rank)
    own.mkdir()
    for transport in TRANSPORTS:
        model = MMDistributedDataParallel(
            make_student(own, transport),
            device_ids=None,
            broadcast_buffers=False)
        results.append(gradients_of(model, half))
    torch.save(results, f'{folder}/{rank}.pt')
    leave_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_batch(tmp_path):
    """The student's decoder runs once more inside of DDP's forward."""
    run_ranks(train_one_half, tmp_path)
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1))
    for transport, mine, its in zip(TRANSPORTS, first, second):
        expected = gradients_of(make_student(tmp_path, transport), batch(NAME))
        assert len(mine) == len(its) == len(expected)
        for one, other, whole in zip(mine, its, expected):
            assert (one is None) == (whole is None)
            if one is not None:
                assert torch.equal(one, other)
                torch.testing.assert_close(one, whole, rtol=1e-3, atol=1e-5)
