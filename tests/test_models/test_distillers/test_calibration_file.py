"""`calibrator.load_from` is opened when training starts, and not before."""
import json

import pytest
import torch

from tcal_det.errors import UserError
from tcal_det.registry import MODELS


@pytest.fixture
def make_model(distiller_cfg, tmp_path):
    """A distiller whose calibrator is in a file of the given content."""

    def make(content, **calibrator):
        path = tmp_path / 'teacher_calibration.json'
        if content is not None:
            path.write_text(
                content if isinstance(content, str) else json.dumps(content))
        cfg = distiller_cfg()
        cfg.teacher.calibrator = dict(
            type='TemperatureScaling', load_from=str(path), **calibrator)
        return MODELS.build(cfg)

    return make


def stored(**change):
    return dict(
        dict(type='TemperatureScaling', temperature=2.0, cls_channels=4),
        **change)


def test_used_in_training(make_model, training_step):
    model = make_model(dict(calibrator=stored(), sweep={}), softening=1.5)
    training_step(model)
    assert model.teacher.calibrator.effective_temperature == 3.0


@pytest.mark.parametrize('content, message', [
    (None, 'teacher_calibration.json.* does not exist'),
    ('{"calibrator": {"type"', 'cannot be read as JSON'),
    (stored(cls_channels=81), "was fitted for 81 columns.*head has 4"),
    (stored(temperature=-1), '`temperature` must be in'),
    (stored(type='VectorScaling'), 'holds a VectorScaling'),
])
def test_bad_file_ends_training_but_not_testing(make_model, batch, content,
                                                message):
    model = make_model(content).eval()
    data = model.data_preprocessor(batch(), False)
    with torch.no_grad():
        assert len(model(**data, mode='predict')) == 2
    with pytest.raises(UserError, match=message):
        model.init_weights()
