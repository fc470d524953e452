"""Weights that are measured by gradients, and terms that are too large."""
import logging
import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from tcal_det.engine.training import leave_process_group
from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers import auto_weight
from tcal_det.models.distillers.auto_weight import (LARGE, STEPS, AutoWeight,
                                                    TermSizeCheck,
                                                    classification_losses,
                                                    gradient_norms,
                                                    parse_loss_weight)
from tcal_det.registry import MODELS
from tests.head_families import build, distiller_cfg, write_teacher
from tests.processes import run_ranks


@pytest.mark.parametrize('weight', [1.0, 0, None, '1'])
def test_a_number_is_the_losses_to_check(weight):
    if isinstance(weight, str):
        with pytest.raises(InvalidValueError, match='auto:r'):
            parse_loss_weight('distill_losses.loss_x', weight)
        return
    assert parse_loss_weight('distill_losses.loss_x',
                             weight) == (weight, False)


@pytest.mark.parametrize('weight', [
    'auto', 'auto:', 'auto:0', 'auto:-1', 'auto:nan', 'auto:inf', 'auto:x',
    'AUTO:1'
])
def test_other_texts_are_refused(weight):
    with pytest.raises(InvalidValueError, match='distill_losses.loss_x'):
        parse_loss_weight('distill_losses.loss_x', weight)


def test_norms_are_those_of_what_the_term_depends_on():
    first, second, other = (
        torch.tensor(one, requires_grad=True)
        for one in ([1., 2.], [3.], [5.]))
    frozen = torch.ones(2)
    term = (first * torch.tensor([3., 0.])).sum() + 4 * second.sum()
    task = 12 * first.sum() - 1 * second.sum() + 100 * other.sum()
    norms = gradient_norms(term, task, [first, other, frozen, second])
    assert [norm.item() for norm in norms] == [5, 17]
    # The graph is still there for the step's own backward.
    (term + task).backward()
    assert first.grad.tolist() == [15, 12]


def test_half_precision_loses_no_small_gradient():
    tensor = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    loss = (tensor.float() * 1e-8).sum()
    for norm in gradient_norms(loss, loss, [tensor]):
        assert norm.item() == pytest.approx(2e-8, rel=1e-2)


def test_classification_losses_are_those_of_all_stages():
    losses = {
        's0.loss_cls': torch.tensor(1.),
        's1.loss_cls': [torch.tensor(2.)],
        'loss_rpn_cls': torch.tensor(7.),
        'loss_bbox': torch.tensor(100.),
        'acc': torch.tensor(50.)
    }
    assert set(classification_losses(losses)) == {'s0.loss_cls', 's1.loss_cls'}
    del losses['s0.loss_cls'], losses['s1.loss_cls']
    assert classification_losses(losses) == losses


def test_factor_is_the_geometric_mean_of_the_ratios():
    weight = AutoWeight('loss_x', 0.5)
    expected = []
    for step in range(STEPS):
        tensor = torch.ones(1, requires_grad=True)
        task, term = tensor.sum() * (step + 1), tensor.sum() * 2**step
        weight.measure(term, task, [tensor], [])
        expected.append(0.5 * (step + 1) / 2**step)
        mean = math.exp(sum(map(math.log, expected)) / len(expected))
        assert weight.factor.item() == pytest.approx(mean, rel=1e-5)
        assert weight.is_measured == (step == STEPS - 1)


def test_a_step_without_gradient_is_left_out():
    weight = AutoWeight('loss_x', 1.0)
    tensor = torch.ones(1, requires_grad=True)
    weight.measure(tensor.sum() * 0, tensor.sum(), [tensor], [tensor])
    assert weight.steps == 0 and weight.factor == 1
    weight.measure(tensor.sum() * 4, tensor.sum(), [tensor], [])
    assert weight.factor.item() == pytest.approx(0.25)


def test_weight_that_cannot_be_measured_is_told(monkeypatch):
    logged = []
    monkeypatch.setattr(
        auto_weight, 'print_log', lambda text, logger, level: logged.append(
            (level, text)))
    weight = AutoWeight('loss_x', 1.0)
    tensor = torch.ones(1, requires_grad=True)
    for _ in range(2 * STEPS):
        weight.measure(tensor.sum() * 0, tensor.sum(), [tensor], [tensor])
    (level, text), = logged
    assert level == logging.WARNING and 'loss_weight is still 1' in text


def test_maps_stand_in_where_the_task_does_not_depend():
    weight = AutoWeight('loss_x', 1.0)
    maps = torch.ones(1, requires_grad=True)
    aside = maps * 10
    weight.measure(aside.sum(), maps.sum() * 5, [aside], [maps])
    assert weight.factor.item() == pytest.approx(0.5)


def measure_on(rank, init_file, results):
    dist.init_process_group(
        'gloo', init_method=f'file://{init_file}', rank=rank, world_size=2)
    weight = AutoWeight('loss_x', 1.0)
    tensor = torch.ones(1, requires_grad=True)
    # Ratios of 8 and 2; in the second step one process has no gradient.
    weight.measure(tensor.sum(), tensor.sum() * (8, 2)[rank], [tensor], [])
    weight.measure(tensor.sum() * rank, tensor.sum() * 2, [tensor], [tensor])
    torch.save(weight.mean_log, f'{results}.{rank}')
    leave_process_group()


@pytest.mark.slow
def test_processes_agree(tmp_path):
    results = str(tmp_path / 'factor')
    run_ranks(measure_on, str(tmp_path / 'init'), results)
    first, second = (torch.load(f'{results}.{rank}') for rank in (0, 1))
    # The first step gives 4, the second 2.
    assert first == second
    assert first.exp().item() == pytest.approx(math.sqrt(4 * 2))


def losses_of(family, tmp_path, training_step, losses, steps=1):
    cfg = distiller_cfg(family, write_teacher(tmp_path, family))
    cfg['distill_losses'] = losses
    model = build(cfg, MODELS)
    for step in range(steps):
        named, total = training_step(model, size=(128, 128), seed=step)
    return model, named, total


@pytest.mark.parametrize('family', ['faster', 'gfl'])
@pytest.mark.parametrize('kind', ['PKDLoss', 'own'])
def test_gradient_has_the_ratio_that_was_asked_for(family, kind, tmp_path,
                                                   training_step):
    """Measured by autograd on the model's own tensors, from outside."""
    logits = dict(faster='LogitKLDivLoss', gfl='LogitBinaryKLDivLoss')[family]
    cfg = distiller_cfg(family, write_teacher(tmp_path, family))
    cfg['distill_losses'] = dict(
        loss_kd=dict(
            type=logits if kind == 'own' else kind, loss_weight='auto:0.25'))
    model = build(cfg, MODELS)
    kept = {}
    model.neck.register_forward_hook(
        lambda _, args, output: kept.update(neck=output))
    if family == 'faster':
        head = model.roi_head.bbox_head
        head.register_forward_hook(
            lambda _, args, output: kept.update(own=[output[0]]))
    else:
        model.bbox_head.register_forward_hook(
            lambda _, args, output: kept.update(own=output[0]))
    losses, _ = training_step(model, size=(128, 128))
    own = losses['loss_cls']
    own = own if isinstance(own, torch.Tensor) else sum(own)
    acted_on = list(kept['own' if kind == 'own' else 'neck'])

    def norm(loss):
        gradients = torch.autograd.grad(
            loss, acted_on, retain_graph=True, allow_unused=True)
        return math.sqrt(
            sum(
                float(one.double().square().sum()) for one in gradients
                if one is not None))

    assert norm(losses['loss_kd']) == pytest.approx(0.25 * norm(own), rel=1e-3)


def test_factor_is_saved_with_the_loss_and_kept(tmp_path, training_step):
    losses = dict(loss_pkd=dict(type='PKDLoss', loss_weight='auto:1'))
    model, *_ = losses_of('faster', tmp_path, training_step, losses, STEPS + 1)
    weight = model.distill_losses['loss_pkd'].auto_weight
    assert weight.is_measured
    factor = weight.factor.item()
    state = model.state_dict()
    assert 'distill_losses.loss_pkd.auto_weight.mean_log' in state
    training_step(model, size=(128, 128), seed=77)
    assert weight.factor.item() == factor
    cfg = distiller_cfg('faster', write_teacher(tmp_path, 'faster'))
    cfg['distill_losses'] = losses
    resumed = build(cfg, MODELS)
    resumed.load_state_dict(state)
    training_step(resumed, size=(128, 128), seed=78)
    assert resumed.distill_losses['loss_pkd'].auto_weight.factor == factor


def test_large_terms_are_warned_of(monkeypatch):
    logged = []
    monkeypatch.setattr(
        auto_weight, 'print_log', lambda text, logger, level: logged.append(
            (level, text)))
    watch = TermSizeCheck()
    for _ in range(2 * STEPS):
        watch.observe(
            dict(
                loss_small=torch.tensor(LARGE - 0.01),
                loss_large=torch.tensor(LARGE + 1)),
            SimpleNamespace(total_loss=torch.tensor(1.)))
    (level, text), = logged
    assert level == logging.WARNING and 'loss_large is 21 times' in text
