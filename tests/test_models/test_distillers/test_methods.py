"""Every loss inside the distiller: it trains the student it is fed by."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import init_default_scope

from tcal_det.errors import InvalidValueError
from tcal_det.models.calibrators import MaxLogitScaling
from tcal_det.models.distillers.teacher_compatibility import check_calibrator
from tcal_det.models.losses import logit_kl_div
from tcal_det.registry import MODELS

METHODS = {
    'LogitKLDivLoss': dict(),
    'WTTMLoss': dict(),
    'DKDLoss': dict(),
    'MLLDLoss': dict(class_weight=1e-3),
    'DISTLoss': dict(),
    'CMKDLoss': dict(),
    'AEKTLoss': dict(cls_channels=4),
    'ATKDLoss': dict(),
    'CKDLoss': dict(),
    'LogitStandardizationLoss': dict(),
    'ATSLoss': dict(),
    'ISATSLoss': dict(),
}


def build(cfg):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


@pytest.mark.parametrize('method', METHODS)
def test_distillation_loss_falls(distiller_cfg, training_step, method):
    losses = dict(loss_kd_cls=dict(type=method, **METHODS[method]))
    model = build(distiller_cfg(losses=losses))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    values = []
    for _ in range(12):
        loss = training_step(model)[0]['loss_kd_cls']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert all(torch.isfinite(torch.tensor(values)))
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize('method', METHODS)
def test_plain_keys_but_for_learnable_parts(distiller_cfg, detector_cfg,
                                            method):
    losses = dict(loss_kd_cls=dict(type=method, **METHODS[method]))
    model = build(distiller_cfg(losses=losses))
    plain = MODELS.build(detector_cfg())
    extra = set(model.state_dict()) - set(plain.state_dict())
    assert all(key.startswith('distill_losses.') for key in extra)
    assert bool(extra) == (method == 'AEKTLoss')


def test_every_parameter_gets_a_gradient_without_rois(distiller_cfg,
                                                      training_step):
    """DDP without find_unused_parameters."""
    losses = dict(loss_kd_cls=dict(type='AEKTLoss', cls_channels=4))
    model = build(distiller_cfg(losses=losses))
    training_step(model, num_boxes=0)[1].backward()
    head = model.distill_losses['loss_kd_cls']
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_sigmoid_loss_on_a_softmax_head(distiller_cfg):
    losses = dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss'))
    with pytest.raises(
            InvalidValueError, match='made for sigmoid heads.*softmax'):
        build(distiller_cfg(losses=losses))


def test_largest_logit_of_a_sigmoid_head():
    """Its columns do not share a probability: there is no such entropy."""
    teacher = SimpleNamespace(
        activation='sigmoid', name='GFL', cls_channels=80)
    with pytest.raises(
            InvalidValueError,
            match='made for sigmoid heads.*GFL.*MaxLogitScaling is for soft'):
        check_calibrator(MaxLogitScaling(ratio=4.0), teacher)


@pytest.mark.parametrize('mode, expected', [
    ('foreground', lambda is_foreground: is_foreground),
    ('balanced', lambda is_foreground: torch.where(
        is_foreground > 0,
        len(is_foreground) / (2 * is_foreground.sum()),
        len(is_foreground) / (2 * (1 - is_foreground).sum()))),
])
def test_samples_of_a_loss(distiller_cfg, training_step, mode, expected):
    cfg = distiller_cfg()
    cfg.distill_losses.loss_kd_cls.samples = mode
    model = build(cfg)
    seen = {}

    def record(_, args, kwargs, output):
        seen.update(kwargs, logits=args, loss=output)

    model.distill_losses['loss_kd_cls'].register_forward_hook(
        record, with_kwargs=True)
    training_step(model)
    is_foreground = (seen['labels'] < 3).float()
    assert 0 < is_foreground.sum() < len(is_foreground)
    per_sample = logit_kl_div(*seen['logits'])
    torch.testing.assert_close(seen['loss'],
                               (per_sample * expected(is_foreground)).sum() /
                               seen['avg_factor'])
