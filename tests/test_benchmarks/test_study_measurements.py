"""What the study measures itself, by other means."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn.modules.module import register_module_forward_hook

from benchmarks.study import plan
from benchmarks.study.measurements import measure_gradients
from benchmarks.study.run_folder import PlannedRun
from tcal_det.models.losses import LogitKLDivLoss
from tcal_det.registry import MODELS


@pytest.mark.parametrize('weight', [1.0, 16.0])
@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_gradients_are_those_of_the_formula(tmp_path, monkeypatch,
                                            distiller_cfg, batch, weight,
                                            temperature):
    run = PlannedRun(
        'grid/kd/seed0',
        'grid',
        'kd',
        plan.STUDENT,
        0,
        loss_weight=weight,
        temperature=None)
    loss = dict(
        type='LogitKLDivLoss', temperature=temperature, loss_weight=weight)
    model = distiller_cfg(losses=dict(loss_kd_cls=loss))
    cfg = Config(dict(model=model, train_dataloader=dict(sampler=dict())))
    (tmp_path / run.name).mkdir(parents=True)
    cfg.dump(str(tmp_path / run.name / 'config.py'))
    # Its logits at the start are nearly 0.
    student = MODELS.build(cfg.model)
    student.roi_head.bbox_head.fc_cls.weight.data.normal_(0, 0.2)
    checkpoint = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=student.state_dict()), checkpoint)
    monkeypatch.setattr(Runner, 'build_dataloader',
                        lambda _: [batch(), batch()])
    compared = []

    def record(module, args, _):
        if isinstance(module, LogitKLDivLoss):
            compared.append([logits.detach() for logits in args[:2]])

    handle = register_module_forward_hook(record)
    try:
        row, = measure_gradients([run], checkpoint, str(tmp_path))
    finally:
        handle.remove()
    assert len(compared) == 2
    # d KL / d z_s = softmax(z_s / T) - softmax(z_t / T), once 1 / T of the
    # chain rule and T^2 of the loss are T; whatever the weight.
    differences = [
        temperature * (torch.softmax(ours / temperature, 1) -
                       torch.softmax(theirs / temperature, 1)).numpy()
        for ours, theirs in compared
    ]
    expected = np.sqrt(np.mean(np.concatenate(differences)**2))
    assert expected > 0.01
    assert row['rms_gradient'] == pytest.approx(expected, rel=1e-4)
    assert (row['method'], row['fitted']) == ('kd', False)
