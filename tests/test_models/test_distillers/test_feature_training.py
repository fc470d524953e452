"""Feature losses in training: precision, copies, processes."""
import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.registry import init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.engine.training import leave_process_group
from tcal_det.registry import MODELS
from tests.head_families import build, detector_cfg, write_teacher
from tests.processes import run_ranks
from tests.test_models.test_distillers.feature_term_cases import (
    feature_losses, student_cfg, wide)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision(tmp_path, batch, dtype):
    """Maps in half precision, losses in float32 that are nearly the same."""
    if dtype == torch.float16:
        # Before, autocast on a CPU knows bfloat16 only.
        pytest.importorskip('torch', '2.3')
    losses = feature_losses([16] * 3, [24] * 3)
    model = build(
        student_cfg('retinanet',
                    write_teacher(tmp_path, 'retinanet', edit=wide), losses),
        MODELS).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    data = model.data_preprocessor(batch(), True)
    again = copy.deepcopy(model)
    expected = model(**copy.deepcopy(data), mode='loss')
    with torch.autocast('cpu', dtype=dtype):
        found = again(**data, mode='loss')
    for name in losses:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(
            found[name], expected[name], rtol=0.1, atol=1e-3)
    again.parse_losses(found)[0].backward()


@pytest.mark.parametrize(
    'duplicate', [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: ExponentialMovingAverage(model).module,
    ],
    ids=['deepcopy', 'pickle', 'ema'])
def test_copy_learns_from_the_same_maps(tmp_path, training_step, duplicate):
    losses = feature_losses([16] * 5)
    model = build(
        student_cfg('faster', write_teacher(tmp_path, 'faster'), losses),
        MODELS)
    training_step(model)
    copied = duplicate(model).requires_grad_(True)
    assert not copied.teacher.is_built
    results = []
    for detector in (model, copied):
        detector.zero_grad()
        values, total = training_step(detector)
        total.backward()
        results.append((values, dict(detector.named_parameters())))
    (values, weights), (others, its_weights) = results
    for name in losses:
        assert torch.equal(values[name], others[name]), name
    for name, weight in weights.items():
        assert torch.equal(weight.grad, its_weights[name].grad), name


def test_what_learns_is_trained_and_is_no_part_of_the_student(
        tmp_path, training_step):
    losses = feature_losses([16] * 5, [24] * 5)
    model = build(
        student_cfg('faster', write_teacher(tmp_path, 'faster', edit=wide),
                    losses), MODELS)
    plain = set(detector_state(detector_cfg('faster')))
    extra = set(model.state_dict()) - plain
    assert plain <= set(model.state_dict())
    assert all(key.startswith('distill_losses.') for key in extra)
    for part in ('loss_PKDLoss.projections.0.weight',
                 'loss_MGDLoss.generators.4.2.bias',
                 'loss_FGDLoss.teacher_contexts.0.conv_mask.weight',
                 'loss_DPKLoss.decoders.0.2.weight', 'loss_DPKLoss.similarity',
                 'loss_MGDLoss.random_stream.draws'):
        assert f'distill_losses.{part}' in extra
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    # Not the shifts: to some of the losses they do not matter.
    learning = {
        name: weight
        for name, weight in model.distill_losses.named_parameters()
        if name.endswith('weight')
    }
    before = {name: weight.clone() for name, weight in learning.items()}
    for _ in range(6):
        # A context block's first layers wait for its last one, which starts
        # with zeros; the only patch of a level is not the student's in each
        # step.
        optimizer.zero_grad()
        training_step(model)[1].backward()
        optimizer.step()
    for name, weight in learning.items():
        assert not torch.equal(weight, before[name]), name


def detector_state(cfg):
    from mmdet.registry import MODELS as MMDET_MODELS
    return build(cfg, MMDET_MODELS).state_dict()


def for_training(cfg):
    model = build(cfg, MODELS).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def step_loss(model, raw):
    inner = getattr(model, 'module', model)
    data = inner.data_preprocessor(copy.deepcopy(raw), True)
    return inner.parse_losses(model(**data, mode='loss'))[0]


def train_one_half(rank, cfgs, halves, folder):
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    results = []
    for cfg in cfgs:
        model = MMDistributedDataParallel(
            for_training(cfg), device_ids=None, broadcast_buffers=False)
        step_loss(model, halves[rank]).backward()
        results.append([{
            name: weight.grad
            for name, weight in model.module.named_parameters()
        },
                        dict(model.module.named_buffers())])
    torch.save(results, f'{folder}/{rank}.pt')
    leave_process_group()


@pytest.mark.slow
def test_two_ranks_average_their_gradients(tmp_path, batch):
    """As one process on each half; every rank draws the same."""
    teacher = write_teacher(tmp_path, 'faster', edit=wide)
    losses = feature_losses([16] * 5, [24] * 5)
    moving = student_cfg('faster', teacher,
                         feature_losses([16] * 5, [24] * 5, kinds=['DPKLoss']))
    # The mean over ranks is not that of one process.
    losses['loss_DPKLoss']['momentum'] = 1.0
    cfg = student_cfg('faster', teacher, losses)
    halves = [batch(num_images=1, seed=seed) for seed in (0, 1)]
    run_ranks(train_one_half, [cfg, moving], halves, str(tmp_path))
    ranks = [torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1)]

    expected = {}
    for half in halves:
        model = for_training(cfg)
        (step_loss(model, half) / 2).backward()
        for name, weight in model.named_parameters():
            expected[name] = expected.get(name, 0) + weight.grad
    for name, whole in expected.items():
        one, other = (rank[0][0][name] for rank in ranks)
        assert torch.equal(one, other), name
        torch.testing.assert_close(one, whole, rtol=1e-3, atol=1e-5)

    similarities = []
    for half in halves:
        model = for_training(moving)
        step_loss(model, half)
        similarities.append(model.distill_losses['loss_DPKLoss'].similarity)
    for rank in ranks:
        torch.testing.assert_close(
            rank[1][1]['distill_losses.loss_DPKLoss.similarity'],
            sum(similarities) / 2)
    assert not torch.equal(*similarities)
