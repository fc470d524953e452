import json

import numpy as np
import pytest
import torch
from scipy.special import expit

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import PlattScaling, TemperatureScaling
from tcal_det.registry import MODELS


def samples(cls_channels=1, num_samples=2000, seed=0):
    """Sigmoid logits that are too sharp and too low, with true labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-4, 3, size=(num_samples, cls_channels))
    positive = rng.uniform(size=logits.shape) < expit(0.4 * logits + 1)
    # A sample has one class at most: its first.
    labels = np.where(
        positive.any(axis=1), positive.argmax(axis=1), cls_channels)
    return logits, labels


def test_scales_and_shifts():
    calibrator = PlattScaling(scale=0.5, bias=1.0)
    logits = torch.tensor([[2.0, -4.0]])
    assert torch.equal(calibrator(logits), torch.tensor([[2.0, -1.0]]))
    assert calibrator(logits.half()).dtype == torch.float32


@pytest.mark.parametrize('cls_channels', [1, 4])
def test_equals_logistic_regression(cls_channels):
    linear_model = pytest.importorskip('sklearn.linear_model')
    logits, labels = samples(cls_channels)
    fitted = PlattScaling().fit(logits, labels)
    reference = linear_model.LogisticRegression(
        C=np.inf, tol=1e-10, max_iter=1000).fit(
            logits.reshape(-1, 1),
            (labels[:, None] == np.arange(cls_channels)).ravel())
    assert fitted.scale == pytest.approx(reference.coef_.item(), rel=1e-5)
    assert fitted.bias == pytest.approx(reference.intercept_.item(), rel=1e-5)


def test_optimality_conditions():
    logits, labels = samples(4)
    fitted = PlattScaling().fit(torch.from_numpy(logits).float(), labels)
    residual = expit(fitted.scale * logits + fitted.bias) - (
        labels[:, None] == np.arange(4))
    assert abs(residual.mean()) < 1e-7
    assert abs((residual * logits).mean()) < 1e-6


@pytest.mark.parametrize('factor', [1e-4, 1e4])
def test_scale_equivariant(factor):
    logits, labels = samples(3)
    fitted = PlattScaling().fit(logits, labels)
    scaled = PlattScaling().fit(logits * factor, labels)
    assert scaled.scale * factor == pytest.approx(fitted.scale, rel=1e-6)
    assert scaled.bias == pytest.approx(fitted.bias, rel=1e-6)


def test_nll_is_no_larger_than_one_temperatures():
    logits, labels = samples(3)
    tensor, is_positive = torch.from_numpy(logits), torch.from_numpy(
        (labels[:, None] == np.arange(3)).astype(float))
    by_platt, by_temperature = (
        torch.nn.functional.binary_cross_entropy_with_logits(
            calibrator.fit(logits, labels)(tensor), is_positive)
        for calibrator in (PlattScaling(),
                           TemperatureScaling(activation='sigmoid')))
    assert by_platt < by_temperature


def test_separable_samples_are_bounded():
    with pytest.warns(UserWarning, match='separable'):
        fitted = PlattScaling().fit([[-1.0], [-2.0], [1.0], [3.0]],
                                    [1, 1, 0, 0])
    assert 0 < fitted.scale < 1000 and abs(fitted.bias) < 1000


def test_background_alone_is_bounded():
    logits, labels = samples(3)
    with pytest.warns(UserWarning, match='all 2000 labels are 3'):
        fitted = PlattScaling().fit(logits, np.full_like(labels, 3))
    assert 0 < fitted.scale < 1000 and -1000 < fitted.bias < 0


def test_must_be_fitted_before_use():
    with pytest.raises(
            InvalidValueError, match='has none.*--calibrator Platt'):
        PlattScaling()(torch.zeros(1, 3))
    assert str(PlattScaling()) == 'PlattScaling(not fitted)'
    assert str(PlattScaling(2., 1.)) == 'PlattScaling(scale=2.0, bias=1.0)'


def test_another_number_of_classes():
    fitted = PlattScaling().fit(*samples(3))
    fitted.check_cls_channels(3)
    with pytest.raises(InvalidValueError, match='3 columns.*has 80'):
        fitted(torch.zeros(1, 80))


def test_the_registry_builds_its_json_form():
    fitted = PlattScaling().fit(*samples(3))
    config = json.loads(json.dumps(fitted.to_json_dict()))
    again = MODELS.build(dict(config, _scope_='tcal_det'))
    assert again.to_json_dict() == fitted.to_json_dict()
    assert str(again) == str(fitted)


@pytest.mark.parametrize('arguments, error, message', [
    (dict(scale=1.0), InvalidValueError, 'given together'),
    (dict(scale=0.0, bias=1.0), InvalidValueError, r'`scale`.*\(0, inf\)'),
    (dict(scale=1.0, bias=float('nan')), InvalidValueError, '`bias`.*finite'),
    (dict(scale=1.0, bias='1'), InvalidTypeError, "`bias`.*'1'"),
    (dict(scale=True, bias=1.0), InvalidTypeError, '`scale`.*bool'),
    (dict(scale=1e-60, bias=1.0), InvalidValueError, '`scale`.*float32'),
    (dict(scale=1.0, bias=-1e60), InvalidValueError, '`bias`.*float32'),
    (dict(scale=1.0, bias=0.0,
          cls_channels=0), InvalidValueError, '`cls_channels` must be >= 1'),
])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        PlattScaling(**arguments)


def test_numpys_numbers_are_numbers():
    form = PlattScaling(np.float32(0.5), np.int64(1), np.int64(3))
    form = form.to_json_dict()
    assert form == PlattScaling(0.5, 1.0, 3).to_json_dict()
    assert (type(form['scale']), type(form['bias']),
            type(form['cls_channels'])) == (float, float, int)
