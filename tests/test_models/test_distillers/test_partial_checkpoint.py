"""A checkpoint that fits in part is loaded only where someone means it."""
import logging

import pytest
import torch
import torch.nn as nn

from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers import detector_files
from tcal_det.models.distillers.detector_files import load_weights


def test_what_fits_is_loaded_and_the_rest_is_logged(tmp_path, monkeypatch):
    path = str(tmp_path / 'part.pth')
    weight = torch.tensor([[1., 2.]])
    torch.save(
        dict(
            state_dict={
                'module.0.weight': weight,
                'module.0.bias': torch.zeros(3),
                'other': torch.zeros(1)
            }), path)
    model = nn.Sequential(nn.Linear(2, 1))
    bias = model[0].bias.detach().clone()
    logged = []
    monkeypatch.setattr(detector_files, 'print_log',
                        lambda text, **options: logged.append((text, options)))
    with pytest.raises(InvalidValueError, match=r'0.bias \(3,\) instead of'):
        load_weights(model, path, 'detector')
    assert not logged and not torch.equal(model[0].weight, weight)

    content = load_weights(model, path, 'detector', True)
    assert set(content) == {'state_dict'}
    assert torch.equal(model[0].weight, weight)
    assert torch.equal(model[0].bias, bias)
    (text, options), = logged
    assert text.startswith(f'detector checkpoint {path!r} does not fit')
    assert '1 keys (0.bias) missing and 1 keys (other) unexpected' in text
    assert options == dict(logger='current', level=logging.WARNING)
