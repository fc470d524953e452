"""Fits of sigmoid heads to soft targets, as IoU-aware heads have them."""
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import (FocalPosterior, PlattScaling,
                                         TemperatureScaling, VectorScaling,
                                         fitting)
from tcal_det.models.calibrators.calibration_data import check_calibration_data


def by_temperature():
    return TemperatureScaling(activation='sigmoid')


KINDS = dict(temperature=by_temperature, platt=PlattScaling)
EITHER = pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)


def samples(seed=0, num_samples=800, cls_channels=3):
    """Logits that are too blunt, with an IoU where there is an object."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 2, size=(num_samples, cls_channels))
    is_object = rng.uniform(size=logits.shape) < expit(2 * logits)
    targets = np.where(is_object, rng.beta(8, 2, size=logits.shape), 0)
    return logits, targets


def parameters(calibrator):
    if isinstance(calibrator, PlattScaling):
        return calibrator.scale, calibrator.bias
    return 1 / calibrator.temperature, 0.


def nll(x, logits, targets):
    v = x[0] * logits + (x[1] if len(x) > 1 else 0)
    return np.mean(targets * np.logaddexp(0, -v) +
                   (1 - targets) * np.logaddexp(0, v))


@EITHER
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_one_hot_targets_are_labels(kind, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, size=(300, 3))
    is_object = rng.uniform(size=logits.shape) < expit(.6 * logits + .3)
    labels = np.where(is_object.any(axis=1), is_object.argmax(axis=1), 3)
    targets = (labels[:, None] == np.arange(3)).astype(np.float64)
    by_labels, by_targets = (
        kind().fit(logits, one) for one in (labels, targets))
    np.testing.assert_allclose(
        parameters(by_targets), parameters(by_labels), rtol=1e-9)
    assert by_targets.base_rate == pytest.approx(by_labels.base_rate)


@EITHER
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_equals_an_independent_minimisation(kind, seed):
    logits, targets = samples(seed)
    found = parameters(kind().fit(logits, targets))
    start = [1., 0.] if kind is PlattScaling else [1.]
    best = minimize(
        nll,
        start,
        args=(logits, targets),
        method='Nelder-Mead',
        options=dict(xatol=1e-9, fatol=1e-14, maxiter=4000))
    np.testing.assert_allclose(found[:len(best.x)], best.x, atol=1e-5)


def test_platts_sum_of_scores_is_that_of_the_targets():
    """The condition of an optimal bias; NLL is proper for the mean."""
    logits, targets = samples()
    fitted = PlattScaling().fit(logits, targets)
    scores = fitted(torch.from_numpy(logits)).sigmoid().numpy()
    assert scores.sum() == pytest.approx(targets.sum(), rel=1e-6)


def test_recovers_the_mean_target():
    """Targets whose mean, given the logit, is a known sigmoid of it."""
    rng = np.random.default_rng(1)
    logits = rng.normal(-1, 2, size=(60000, 2))
    mean = expit(2 * logits - .5)
    targets = rng.beta(5 * mean + 1e-9, 5 * (1 - mean) + 1e-9)
    fitted = PlattScaling().fit(logits, targets)
    assert fitted.scale == pytest.approx(2, abs=.03)
    assert fitted.bias == pytest.approx(-.5, abs=.03)


@EITHER
@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1e-5, 1e5), seed=st.integers(0, 1000))
def test_scale_equivariant(kind, factor, seed):
    logits, targets = samples(seed, num_samples=300)
    scale, bias = parameters(kind().fit(logits, targets))
    scaled, same_bias = parameters(kind().fit(logits * factor, targets))
    assert scaled * factor == pytest.approx(scale, rel=1e-6)
    assert same_bias == pytest.approx(bias, rel=1e-6, abs=1e-7)


@EITHER
def test_slices_do_not_change_the_result(kind, monkeypatch):
    logits, targets = samples()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        whole = parameters(kind().fit(logits, targets))
        monkeypatch.setattr(fitting, 'NUMBERS_PER_SLICE', 77)
        sliced = parameters(kind().fit(logits, targets))
    np.testing.assert_allclose(sliced, whole, rtol=1e-6)


@EITHER
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_tensors_of_half_precision(kind, dtype):
    logits, targets = (torch.from_numpy(one).to(dtype) for one in samples())
    fitted = kind().fit(logits, targets)
    expected = kind().fit(logits.float(), targets.float().double())
    assert parameters(fitted) == pytest.approx(parameters(expected), rel=1e-9)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_targets_are_not_copied(dtype):
    logits, targets = (one.astype(dtype) for one in samples())
    found = check_calibration_data(logits, targets, 'sigmoid')
    assert found[0] is logits and found[1] is targets


def test_ece_has_no_meaning_for_soft_targets():
    with pytest.raises(
            InvalidValueError,
            match="^`objective` must be 'nll' for soft targets.*'ece'.*right"):
        by_temperature().fit(*samples(), objective='ece')


@pytest.mark.parametrize('value', [-.1, 1.5, np.nan, np.inf])
@pytest.mark.parametrize('kind',
                         [by_temperature, PlattScaling, FocalPosterior])
def test_targets_out_of_range(kind, value):
    logits, targets = samples()
    targets[5, 2] = value
    with pytest.raises(
            InvalidValueError,
            match=rf'`labels` must be in \[0, 1\].*got {value} at \[5, 2\]'):
        kind().fit(logits, targets)


def test_targets_must_be_floats():
    """Whole numbers of shape (N, 1): 0 is the first class, or no object."""
    with pytest.raises(InvalidTypeError, match='floats .*soft.*got int64'):
        PlattScaling().fit([[1.], [2.]], np.array([[0], [1]]))
    with pytest.raises(InvalidTypeError, match='whole numbers.*got float64'):
        PlattScaling().fit([[1.], [2.]], [0., 1.])


def test_shapes_are_named():
    with pytest.raises(
            InvalidValueError,
            match=r'\(4,\).*or \(4, 2\) for soft targets.*got \(4, 3\)'):
        PlattScaling().fit(np.zeros((4, 2)), np.zeros((4, 3)))


@pytest.mark.parametrize('kind', [TemperatureScaling, VectorScaling])
def test_softmax_takes_labels_only(kind):
    with pytest.raises(InvalidValueError) as caught:
        kind().fit(np.eye(3), np.eye(3))
    assert 'must have shape (3,)' in str(caught.value)
    assert 'soft' not in str(caught.value)


@pytest.mark.filterwarnings('ignore:.*of 2 parameters ended on')
def test_one_target_for_all_is_warned_of():
    logits, targets = samples()
    with pytest.warns(
            UserWarning, match='all 2400 soft targets are 0: ') as caught:
        PlattScaling().fit(logits, np.zeros_like(targets))
    assert caught[0].filename == __file__
