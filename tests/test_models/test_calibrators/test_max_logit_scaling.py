"""A temperature for each sample: the same largest logit for all."""
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import entropy

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import MaxLogitScaling, TemperatureScaling
from tcal_det.registry import MODELS

INF = math.inf


def random_logits(samples=50, classes=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    # Of very different sharpness.
    scale = 10**torch.linspace(-1, 1, samples).double()[:, None]
    return scale * torch.randn(
        samples, classes, generator=generator, dtype=torch.float64)


def test_by_hand():
    # Centred (4, -1, -3) and (0.5, 0.5, -1).
    logits = torch.tensor([[6., 1., -1.], [10.5, 10.5, 9.]])
    calibrated = MaxLogitScaling(ratio=8.)(logits)
    torch.testing.assert_close(calibrated,
                               torch.tensor([[8., -2., -6.], [8., 8., -16.]]))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(.1, 20))
def test_largest_logit_is_the_ratio_and_the_order_stays(seed, ratio):
    logits = random_logits(seed=seed)
    calibrated = MaxLogitScaling(ratio=ratio)(logits)
    assert calibrated.amax(dim=1).tolist() == pytest.approx([ratio] * 50)
    assert calibrated.mean(dim=1).abs().max() < 1e-9 * ratio
    assert torch.equal(calibrated.argsort(dim=1), logits.argsort(dim=1))


@settings(deadline=None)
@given(st.floats(-20, 20).map(lambda power: 2.**power), st.floats(-100, 100))
def test_undoes_every_temperature_and_offset(temperature, offset):
    logits = random_logits()
    expected = MaxLogitScaling(ratio=3.)(logits)
    torch.testing.assert_close(
        MaxLogitScaling(ratio=3.)(TemperatureScaling(temperature)(logits)),
        expected)
    torch.testing.assert_close(
        MaxLogitScaling(ratio=3.)(logits + offset),
        expected,
        rtol=1e-6,
        atol=1e-6)


def test_entropies_are_alike():
    """What the method is for: softened by one temperature they are not."""
    logits = random_logits(400, 20)
    spreads = [
        np.std(entropy(one(logits).softmax(dim=1).numpy(), axis=1))
        for one in (TemperatureScaling(2.), MaxLogitScaling(4.))
    ]
    assert spreads[1] < spreads[0] / 4


def test_fit_is_the_smallest_nll():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (4000, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    deviations = logits - logits.mean(axis=1, keepdims=True)
    unit = deviations / deviations.max(axis=1, keepdims=True)

    def nll(ratio):
        log_probs = log_softmax(ratio * unit, axis=1)
        return -log_probs[np.arange(4000), labels].mean()

    fitted = MaxLogitScaling().fit(logits, labels)
    expected = minimize_scalar(nll, bounds=(.01, 20), method='bounded')
    assert fitted.ratio == pytest.approx(expected.x, rel=1e-4)
    assert nll(fitted.ratio) <= expected.fun + 1e-12
    assert fitted.cls_channels == 4
    # One temperature keeps what the teacher says of how sure it is.
    temperature = TemperatureScaling().fit(logits, labels).temperature
    kept = log_softmax(logits / temperature, axis=1)
    assert -kept[np.arange(4000), labels].mean() < nll(fitted.ratio)


@pytest.mark.parametrize('classes, level', [(5, 0.), (5, .1), (11, .1),
                                            (81, 1e6 / 3)])
def test_logits_that_do_not_vary(classes, level):
    """Rounding is not blown up to a preference."""
    logits = torch.full((2, classes), level)
    assert (MaxLogitScaling(ratio=5.)(logits) == 0).all()
    masked = logits.clone()
    masked[:, 2] = -INF
    calibrated = MaxLogitScaling(ratio=5.)(masked)
    assert torch.equal(calibrated == -INF, masked == -INF)
    assert (calibrated[:, [0, 1, 3]] == 0).all()


def test_small_differences_are_kept():
    logits = torch.tensor([[20., 20.001, 20., 20.]])
    torch.testing.assert_close(
        MaxLogitScaling(ratio=3.)(logits),
        torch.tensor([[-1., 3., -1., -1.]]),
        rtol=1e-2,
        atol=1e-2)


def test_masked_classes_do_not_count():
    calibrated = MaxLogitScaling(ratio=8.)(torch.tensor([[6., -INF, 1., -1.]]))
    torch.testing.assert_close(calibrated, torch.tensor([[8., -INF, -2.,
                                                          -6.]]))
    alone = MaxLogitScaling(ratio=8.)(torch.tensor([[-INF, 3., -INF]]))
    assert alone.tolist() == [[-INF, 0., -INF]]


def test_half_precision_and_no_samples():
    calibrator = MaxLogitScaling(ratio=2.)
    assert calibrator(torch.randn(3, 4).half()).dtype == torch.float32
    assert calibrator(torch.zeros(0, 4)).shape == (0, 4)


def test_must_be_fitted_before_use():
    with pytest.raises(
            InvalidValueError,
            match='`ratio`.*has none.*--calibrator MaxLogitScaling'):
        MaxLogitScaling()(torch.zeros(1, 3))
    assert str(MaxLogitScaling()) == 'MaxLogitScaling(not fitted)'
    assert str(MaxLogitScaling(
        2., 81)) == 'MaxLogitScaling(ratio=2.0, cls_channels=81)'


def test_another_number_of_classes():
    with pytest.raises(InvalidValueError, match='81 columns.*has 4'):
        MaxLogitScaling(2., 81)(torch.zeros(1, 4))


def test_the_registry_builds_its_json_form():
    calibrator = MaxLogitScaling(ratio=2.5, cls_channels=6)
    config = json.loads(json.dumps(calibrator.to_json_dict()))
    again = MODELS.build(dict(config, _scope_='tcal_det'))
    logits = random_logits()
    assert torch.equal(again(logits), calibrator(logits))
    assert not list(calibrator.parameters())


@pytest.mark.parametrize('arguments, error, message', [
    (dict(ratio=0), InvalidValueError, '`ratio`.*0'),
    (dict(ratio=-1.), InvalidValueError, '`ratio`.*-1'),
    (dict(ratio='4'), InvalidTypeError, '`ratio`'),
    (dict(ratio=1e-60), InvalidValueError, '`ratio`.*float32'),
    (dict(ratio=2., cls_channels=0), InvalidValueError, '`cls_channels`'),
])
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        MaxLogitScaling(**arguments)
