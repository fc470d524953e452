import json
import os.path as osp

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import TemperatureScaling, VectorScaling
from tcal_det.registry import MODELS

GOLDEN = osp.join(osp.dirname(__file__), '../../data/golden')


@pytest.fixture(params=['cls_sharpened', 'cls_overconfident'])
def samples(request):
    with open(osp.join(GOLDEN, f'{request.param}.json')) as file:
        inputs = json.load(file)['inputs']
    return np.array(inputs['logits']), np.array(inputs['labels'])


def nll(logits, labels):
    log_probs = log_softmax(logits, axis=1)
    return -log_probs[np.arange(len(labels)), labels].mean()


def test_scales_and_shifts_each_class():
    calibrator = VectorScaling(scale=[1.0, 2.0, 0.5], bias=[0.0, 1.0, -1.0])
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    assert torch.equal(calibrator(logits), torch.tensor([[1.0, 5.0, 1.0]]))
    assert calibrator(logits.half()).dtype == torch.float32
    assert calibrator.cls_channels == 3
    assert not list(calibrator.parameters())
    assert not calibrator.state_dict()


def test_nll_is_no_larger_than_one_temperatures(samples):
    logits, labels = samples
    tensor = torch.from_numpy(logits)
    by_vector = nll(VectorScaling().fit(*samples)(tensor).numpy(), labels)
    by_temperature = nll(TemperatureScaling().fit(*samples)(tensor).numpy(),
                         labels)
    assert by_vector < by_temperature


def test_optimality_conditions(samples):
    """Per class: mean of (p - y) z = 0 and mean of (p - y) = 0."""
    logits, labels = samples
    calibrator = VectorScaling().fit(logits, labels)
    calibrated = calibrator(torch.from_numpy(logits)).numpy()
    residual = softmax(calibrated, axis=1) - np.eye(11)[labels]
    assert np.abs(residual.mean(axis=0)).max() < 1e-7
    assert np.abs((residual * logits).mean(axis=0)).max() < 1e-6


def test_recovers_the_parameters_that_made_the_samples():
    rng = np.random.default_rng(0)
    scale, bias = np.array([0.5, 1.0, 0.25]), np.array([0.5, 0.0, -0.5])
    logits = rng.normal(0, 4, size=(100000, 3))
    labels = (logits * scale + bias +
              rng.gumbel(size=logits.shape)).argmax(axis=1)
    calibrator = VectorScaling().fit(logits, labels)
    assert calibrator.scale.numpy() == pytest.approx(scale, abs=0.02)
    assert calibrator.bias.numpy() == pytest.approx(bias, abs=0.02)


@pytest.mark.parametrize('factor', [1e-3, 1e3])
def test_scale_equivariant(samples, factor):
    logits, labels = samples
    fitted = VectorScaling().fit(logits, labels)
    scaled = VectorScaling().fit(logits * factor, labels)
    assert (scaled.scale * factor).numpy() == pytest.approx(
        fitted.scale.numpy(), rel=1e-6)
    assert scaled.bias.numpy() == pytest.approx(fitted.bias.numpy(), abs=1e-6)


def test_a_common_offset_of_all_logits_does_not_matter(samples):
    logits, labels = samples
    fitted = VectorScaling().fit(logits, labels)
    shifted = VectorScaling().fit(logits + 1000, labels)
    assert softmax(
        shifted(torch.from_numpy(logits + 1000)).numpy(),
        axis=1) == pytest.approx(
            softmax(fitted(torch.from_numpy(logits)).numpy(), axis=1),
            abs=1e-6)


def test_separable_samples_are_bounded():
    with pytest.warns(UserWarning, match='separable'):
        calibrator = VectorScaling().fit(
            np.tile(np.eye(3), (5, 1)), np.tile(np.arange(3), 5))
    assert (calibrator.scale > 0).all() and (calibrator.scale < 1000).all()
    assert (calibrator.bias.abs() < 200).all()


def test_one_class_is_bounded():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    with pytest.warns(UserWarning, match='2 of 3 classes have no sample'):
        calibrator = VectorScaling().fit(logits, np.full(50, 1))
    assert calibrator.scale.isfinite().all()
    assert (calibrator.bias.abs() < 200).all()


def test_equal_logits_give_the_class_frequencies():
    labels = np.array([0, 0, 0, 1])
    with pytest.warns(UserWarning, match='equal'):
        calibrator = VectorScaling().fit(np.zeros((4, 2)), labels)
    probs = calibrator(torch.zeros(1, 2)).softmax(dim=1)
    assert probs[0, 0].item() == pytest.approx(0.75, abs=1e-5)


def test_must_be_fitted_before_use():
    with pytest.raises(InvalidValueError, match='has none.*--calibrator Vec'):
        VectorScaling()(torch.zeros(1, 3))
    with pytest.raises(InvalidValueError, match='has none'):
        VectorScaling().check_cls_channels(3)
    assert str(VectorScaling()) == 'VectorScaling(not fitted)'


def test_another_number_of_classes():
    calibrator = VectorScaling(scale=[1.0, 1.0], bias=[0.0, 0.0])
    calibrator.check_cls_channels(2)
    with pytest.raises(InvalidValueError, match='2 columns.*81'):
        calibrator.check_cls_channels(81)
    with pytest.raises(InvalidValueError, match='2 columns.*3'):
        calibrator(torch.zeros(1, 3))


def test_the_registry_builds_its_json_form(samples):
    fitted = VectorScaling().fit(*samples)
    config = json.loads(json.dumps(fitted.to_json_dict()))
    again = MODELS.build(dict(config, _scope_='tcal_det'))
    logits = torch.randn(4, 11)
    assert torch.equal(again(logits), fitted(logits))
    assert again.to_json_dict() == fitted.to_json_dict()


@pytest.mark.parametrize(
    'arguments, error, message',
    [
        (dict(scale=[1.0, 1.0]), InvalidValueError, 'given together'),
        (dict(scale=[1.0, 1.0],
              bias=[0.0] * 3), InvalidValueError, 'got 2 and 3 entries'),
        (dict(scale=[1.0, 0.0], bias=[0.0, 0.0]), InvalidValueError,
         r'`scale\[1\]` must be in \(0, inf\), but got 0'),
        (dict(scale=[1.0, float('nan')], bias=[0.0, 0.0]), InvalidValueError,
         r'`scale\[1\]` must be in .*nan'),
        (dict(scale=[1.0, 1.0], bias=['a', 'b']), InvalidTypeError,
         r'`bias\[0\]` must be a finite number'),
        (dict(scale=[True, 2.0], bias=[0.0, 0.0]), InvalidTypeError,
         r'`scale\[0\]` must be a number .*bool'),
        (dict(scale=[[1.0, 2.0]], bias=[[0.0, 0.0]]), InvalidValueError,
         '`scale` must be a list of at least 2 numbers'),
        (dict(scale=[1.0, [2.0]], bias=[0.0, 0.0]), InvalidTypeError,
         r'`scale\[1\]` must be a number .*list'),
        # 0 and infinity, in the float32 of the logits.
        (dict(scale=[1.0, 1e-60], bias=[0.0, 0.0]), InvalidValueError,
         r'`scale\[1\]` must be .*float32'),
        (dict(scale=[1.0, 1.0], bias=[0.0, -1e60]), InvalidValueError,
         r'`bias\[1\]` must be .*float32'),
        (dict(scale=1.0,
              bias=0.0), InvalidTypeError, '`scale` must be a list'),
        (dict(scale='12',
              bias='12'), InvalidTypeError, '`scale` must be a list'),
        (dict(scale=[2.0], bias=[0.0]), InvalidValueError, 'at least 2'),
    ])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        VectorScaling(**arguments)


def test_numpys_numbers_are_numbers():
    expected = VectorScaling([0.5, 1.5], [1.0, -1.0]).to_json_dict()
    for scale, bias in (([np.float32(0.5),
                          np.float64(1.5)], (np.int64(1), -1)),
                        (np.array([0.5, 1.5]), torch.tensor([1., -1.]))):
        form = VectorScaling(scale, bias).to_json_dict()
        assert form == expected
        assert {type(one) for one in form['scale'] + form['bias']} == {float}
