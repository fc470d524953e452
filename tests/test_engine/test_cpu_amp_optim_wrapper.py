"""bfloat16 on a CPU, for student and teacher."""
from contextlib import contextmanager

import torch

from tcal_det.registry import MODELS, OPTIM_WRAPPERS


def test_amp_step_is_close_to_float32(distiller_cfg, batch):
    model = MODELS.build(distiller_cfg())
    model.init_weights()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='tcal_det.CPUAmpOptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0)))
    dtypes = []
    model.roi_head.bbox_head.register_forward_hook(
        lambda _, args, output: dtypes.append(output[0].dtype))
    torch.manual_seed(0)
    data = model.train().data_preprocessor(batch(), True)
    torch.manual_seed(0)
    exact = model(**data, mode='loss')['loss_kd_cls']
    torch.manual_seed(0)
    with wrapper.optim_context(model):
        losses = model(**data, mode='loss')
    assert dtypes == [torch.float32, torch.bfloat16]
    assert losses['loss_kd_cls'].dtype == torch.float32
    assert abs(losses['loss_kd_cls'] - exact) < 0.05 * exact
    model.parse_losses(losses)[0].backward()
    assert torch.isfinite(model.backbone.conv1.weight.grad).all()
    assert not torch.nn.modules.module._global_forward_hooks


class Replica(torch.nn.Linear):
    """Of a model in several processes: its steps with and without exchange."""

    def __init__(self):
        super().__init__(2, 1)
        self.exchanges = True
        self.steps = []

    @contextmanager
    def no_sync(self):
        self.exchanges = False
        yield
        self.exchanges = True

    def forward(self, inputs):
        output = super().forward(inputs)
        self.steps.append((self.exchanges, output.dtype))
        return output


def test_processes_exchange_gradients_when_weights_change():
    """Between that, accumulation of gradients is each one's own affair."""
    model = Replica()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='tcal_det.CPUAmpOptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
            accumulative_counts=2))
    wrapper.initialize_count_status(model, 0, 4)
    changed = []
    for _ in range(4):
        before = model.weight.detach().clone()
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 2)).sum()
        wrapper.update_params(loss)
        changed.append(not torch.equal(model.weight, before))
    assert changed == [False, True, False, True]
    assert model.steps == [(exchanges, torch.bfloat16)
                           for exchanges in changed]
