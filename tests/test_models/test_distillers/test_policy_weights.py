"""'auto:r' of losses whose samples or runs are not the student's own."""
import pytest
import torch

from tcal_det.models.distillers.auto_weight import gradient_norms
from tcal_det.registry import MODELS


def maps_of(model):
    """What the neck returned; of the first run, the student's own."""
    maps = []
    model.neck.register_forward_hook(
        lambda _, args, output: maps.append(output))
    return lambda: maps[0]


def head_weights_of(model):
    return model.roi_head.bbox_head.parameters


def inputs_of(part):
    """What a part of the head was given first."""

    def watched(model):
        inputs = []
        model.get_submodule(part).register_forward_pre_hook(
            lambda _, args: inputs.append(args[0]))
        return lambda: inputs[:1]

    return watched


@pytest.mark.parametrize(
    'loss, sampling, acted_on', [
        (dict(type='LogitKLDivLoss'), dict(type='SpeculativeSamples',
                                           top_k=0), maps_of),
        (dict(type='IGDMLoss'), None, head_weights_of),
        (dict(type='KDIGALoss'), None, inputs_of('roi_head.bbox_head')),
        (dict(type='PretrainingStateLoss',
              in_features=32), None, inputs_of('roi_head.bbox_head.fc_cls')),
    ],
    ids=['speculative', 'igdm', 'kdiga', 'state'])
def test_term_has_the_gradient_that_it_is_meant_to_have(
        distiller_cfg, training_step, loss, sampling, acted_on):
    cfg = distiller_cfg(
        losses=dict(loss_term=dict(loss, loss_weight='auto:0.5')))
    if sampling is not None:
        cfg.teacher.sampling = sampling
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    shared = acted_on(model)
    losses, _ = training_step(model)
    weight = model.distill_losses['loss_term'].auto_weight
    assert weight.steps == 1
    term, task = gradient_norms(losses['loss_term'], losses['loss_cls'],
                                list(shared()))
    torch.testing.assert_close(term, task / 2, rtol=1e-4, atol=0)
