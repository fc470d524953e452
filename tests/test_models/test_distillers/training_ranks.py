"""Training steps of distillers, in one process and in one of two ranks."""
import copy

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.engine.training import leave_process_group
from tcal_det.registry import MODELS
from tests.head_families import build


def build_for_training(cfg):
    model = build(cfg, MODELS).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def training_loss(model, raw):
    inner = getattr(model, 'module', model)
    data = inner.data_preprocessor(copy.deepcopy(raw), True)
    losses = model(**data, mode='loss')
    assert losses['loss_kd_cls'] > 0
    return inner.parse_losses(losses)[0]


def train_one_half(rank, cfgs, halves, folder):
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    results = []
    for cfg in cfgs:
        model = MMDistributedDataParallel(
            build_for_training(cfg), device_ids=None, broadcast_buffers=False)
        training_loss(model, halves[rank]).backward()
        results.append([weight.grad for weight in model.parameters()])
    torch.save(results, f'{folder}/{rank}.pt')
    leave_process_group()
