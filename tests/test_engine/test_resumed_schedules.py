"""A resumed schedule goes on where it was, whatever mmengine keeps in it."""
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from tcal_det.checkpoint_file import load_from_restricted
from tcal_det.engine.training_state import read_training_state
from tcal_det.errors import InvalidValueError

STEPS, RESUMED_AT = 8, 3
HUB = dict(log_scalars={}, runtime_info={}, resumed_keys={})
SCHEDULES = dict(
    coco_1x=[
        dict(type='LinearLR', start_factor=0.001, begin=0, end=2),
        dict(type='MultiStepLR', begin=0, end=STEPS, milestones=[4, 6])
    ],
    cosine=[dict(type='CosineAnnealingLR', T_max=STEPS)],
    one_cycle=[dict(type='OneCycleLR', eta_max=1.0, total_steps=STEPS)],
    others=[
        dict(type='PolyLR', end=STEPS),
        dict(type='StepLR', step_size=2),
        dict(type='ExponentialLR', gamma=0.9),
        dict(type='ConstantLR', factor=0.5, end=4)
    ])


def build(name):
    weight = torch.nn.Parameter(torch.ones(1))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.1, momentum=0.9))
    return wrapper, [
        PARAM_SCHEDULERS.build(dict(cfg, optimizer=wrapper, by_epoch=True))
        for cfg in SCHEDULES[name]
    ]


def run(wrapper, schedules, steps):
    rates = []
    for _ in range(steps):
        rates.append(wrapper.param_groups[0]['lr'])
        wrapper.optimizer.step()
        for schedule in schedules:
            schedule.step()
    return rates


@pytest.mark.parametrize('is_present_format', [True, False])
@pytest.mark.parametrize('name', list(SCHEDULES))
def test_rates_are_those_of_a_run_without_a_stop(name, is_present_format,
                                                 tmp_path):
    expected = run(*build(name), STEPS)
    wrapper, schedules = build(name)
    run(wrapper, schedules, RESUMED_AT)
    path = str(tmp_path / 'epoch_3.pth')
    torch.save(
        dict(
            state_dict=dict(),
            optimizer=wrapper.state_dict(),
            param_schedulers=[one.state_dict() for one in schedules],
            message_hub=HUB,
            meta=dict(epoch=3, iter=3)),
        path,
        _use_new_zipfile_serialization=is_present_format)
    assert read_training_state(path).path == path
    content = load_from_restricted(path)
    wrapper, schedules = build(name)
    wrapper.load_state_dict(content['optimizer'])
    for schedule, state in zip(schedules, content['param_schedulers']):
        schedule.load_state_dict(state)
    assert run(wrapper, schedules, STEPS - RESUMED_AT) == expected[RESUMED_AT:]


class Unknown:
    """Stands for data of a class that is not read."""


@pytest.mark.parametrize('place', ['optimizer', 'param_schedulers'])
def test_state_that_is_not_read_stops_a_resume(place, tmp_path):
    path = str(tmp_path / 'epoch_3.pth')
    content = dict(
        state_dict=dict(),
        optimizer=dict(state=dict()),
        param_schedulers=[dict(last_step=3)],
        message_hub=HUB,
        meta=dict(epoch=3, iter=3, other=Unknown()))
    torch.save(content, path)
    assert read_training_state(path).path == path
    part = content[place]
    (part[0] if isinstance(part, list) else part)['average'] = Unknown()
    torch.save(content, path)
    with pytest.raises(
            InvalidValueError,
            match=rf'is not read, as it could run code: {place}.*average '
            rf'\({__name__}.Unknown\)'):
        read_training_state(path)
