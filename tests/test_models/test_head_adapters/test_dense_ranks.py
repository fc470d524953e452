"""Two processes divide by what one process divides by."""
import os

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

from tcal_det.engine.training import leave_process_group
from tcal_det.registry import MODELS
from tests.dense_cases import batch, build, tiny_model
from tests.processes import run_ranks

# One of each divisor: the head's own, reduced; qualities; positives;
# objects. Sums of qualities below 1 would count as 1 on each rank.
HEADS = ('GFLHead', 'TOODHead', 'YOLOXHead', 'FreeAnchorRetinaHead')


def distillation_terms(rank=None):
    """Of image ``rank``, or of both; the second has no objects."""
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    MessageHub.get_current_instance().update_info('epoch', 9)
    terms = {}
    for name in HEADS:
        cfg, teacher = tiny_model(name), tiny_model(name)
        kind = cfg.pop('type')
        student = build(
            dict(
                cfg,
                type='tcal_det.CalibratedTeacherDistiller',
                student_type=kind,
                teacher=dict(
                    config=dict(model=teacher), checkpoint=f'{name}.pth'),
                distill_losses=dict(
                    loss_kd_cls=dict(type='QualityFocalKDLoss'))), MODELS)
        student.eval()
        student.bbox_head.training = True
        images, data_samples = batch(name, num_objects=(24, 0))
        if rank is not None:
            images, data_samples = images[rank:rank + 1], [data_samples[rank]]
        with torch.no_grad():
            losses = student.loss(images, data_samples)
        terms[name] = losses['loss_kd_cls'].item()
    return terms


def run_rank(rank, folder):
    os.chdir(folder)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    torch.save(distillation_terms(rank), f'{rank}.pt')
    leave_process_group()


@pytest.mark.slow
def test_two_ranks_divide_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in HEADS:
        teacher = build(tiny_model(name), seed=1)
        torch.save(dict(state_dict=teacher.state_dict()), f'{name}.pth')
    run_ranks(run_rank, str(tmp_path))
    first, second = (torch.load(f'{rank}.pt') for rank in (0, 1))
    expected = distillation_terms()
    for name in HEADS:
        assert expected[name] > 1e-6
        # As DistributedDataParallel averages gradients.
        mean = (first[name] + second[name]) / 2
        assert mean == pytest.approx(expected[name], rel=1e-4), name
