"""How calibrators are searched for: slices, bounds, warnings."""
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax

from tcal_det.errors import InvalidValueError
from tcal_det.models.calibrators import (PlattScaling, TemperatureScaling,
                                         VectorScaling, fitting)
from tcal_det.models.calibrators.calibration_data import check_calibration_data


def samples(num_samples=300, cls_channels=4, seed=0):
    """Sharpened logits, with labels drawn from what they were before."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_samples, cls_channels))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return 3 * logits, labels


def parameters(calibrator):
    form = calibrator.to_json_dict()
    return np.hstack([
        form.get('temperature', []),
        form.get('scale', []),
        form.get('bias', [])
    ])


def quadratic(*centers):
    centers = np.array(centers)

    def function(x):
        return ((x - centers)**2).sum() / 2 + 1, x - centers

    return function


@pytest.mark.parametrize('kind', [
    TemperatureScaling, PlattScaling, VectorScaling,
    lambda: TemperatureScaling(activation='sigmoid')
])
def test_slices_do_not_change_the_result(kind, monkeypatch):
    logits, labels = samples()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        whole = kind().fit(logits, labels)
        monkeypatch.setattr(fitting, 'NUMBERS_PER_SLICE', 77)
        sliced = kind().fit(logits, labels)
    np.testing.assert_allclose(
        parameters(sliced), parameters(whole), rtol=1e-6)


@pytest.mark.parametrize('kind', [TemperatureScaling, VectorScaling])
def test_a_sigmoid_heads_background_is_no_class_of_softmax(kind):
    logits, labels = samples()
    with pytest.raises(InvalidValueError, match=r'`labels` .*\[0, 3\]'):
        kind().fit(logits, np.where(labels == 3, 4, labels))


def test_logits_of_zero_give_the_base_rate():
    labels = np.array([0, 1, 1, 1])  # one of four columns is positive
    with pytest.warns(UserWarning, match='all logits are equal'):
        fitted = PlattScaling().fit(np.zeros((4, 1)), labels)
    assert fitted.scale == 1
    assert expit(fitted.bias) == pytest.approx(1 / 4)


def test_misleading_logits_end_on_the_lowest_scale():
    logits, labels = samples(cls_channels=1)
    labels = (logits[:, 0] > 0).astype(int)  # 1 is background
    with pytest.warns(UserWarning, match='1 of 2 parameters ended on their'):
        fitted = PlattScaling().fit(logits - logits.mean(), labels)
    spread = np.sqrt(np.mean((logits - logits.mean())**2))
    assert fitted.scale == pytest.approx(1 / (100 * spread), rel=1e-9)


def test_vector_scaling_of_equal_logits_fits_the_class_shares():
    labels = np.array([0, 1, 1, 2, 2, 2])
    with pytest.warns(UserWarning, match='scales stay 1'):
        fitted = VectorScaling().fit(np.full((6, 3), 2.), labels)
    calibrated = fitted(torch.full((1, 3), 2., dtype=torch.float64)).numpy()
    np.testing.assert_allclose(
        np.exp(log_softmax(calibrated, axis=1))[0], [1 / 6, 2 / 6, 3 / 6],
        rtol=1e-6)


def test_a_minimum_inside_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = fitting.minimize_bounded(
            quadratic(30., -2.), np.array([1., 1.]), [(0, 100), (-15, 15)])
    np.testing.assert_allclose(found, [30, -2], rtol=1e-6)


@pytest.mark.parametrize('center, num_on_bound', [
    (5e-5, 1),
    (100 - 5e-5, 1),
    (2e-4, 0),
    (100 - 2e-4, 0),
])
def test_bounds_reach_a_millionth_of_their_width(center, num_on_bound):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        fitting.minimize_bounded(
            quadratic(center), np.array([50.]), [(0, 100)])
    assert len(caught) == num_on_bound
    for warning in caught:
        assert '1 of 1 parameters ended on' in str(warning.message)


def test_a_likelihood_of_nothing_is_separable():
    with pytest.warns(UserWarning, match='0 of 1 parameters.*separable'):
        fitting.minimize_bounded(lambda x: (((x - 3)**2).sum() / 2, x - 3),
                                 np.array([1.]), [(0, 100)])


@pytest.mark.parametrize('message', ['stopped early', b'stopped early'])
def test_a_search_that_stopped_early_says_so(message, monkeypatch):
    monkeypatch.setattr(
        fitting, 'minimize',
        lambda function, start, **options: SimpleNamespace(
            x=start, fun=function(start)[0], message=message))
    with pytest.warns(
            UserWarning,
            match=r'did not converge \(stopped early; projected gradient '
            r'2.0e\+00\)'):
        fitting.minimize_bounded(quadratic(3.), np.array([5.]), [(0., 100.)])


def test_ece_search_is_over_fifteen_bins(monkeypatch):
    assert fitting.ECE_NUM_BINS == 15
    used = []
    measured = fitting.calibration_error

    def noted(confidence, correct, num_bins=15):
        used.append(num_bins)
        return measured(confidence, correct, num_bins)

    monkeypatch.setattr(fitting, 'calibration_error', noted)
    monkeypatch.setattr(fitting, 'ECE_NUM_BINS', 7)
    TemperatureScaling().fit(*samples(), objective='ece')
    assert set(used) == {7}


@pytest.mark.parametrize('given, kept', [
    (np.float16, np.float32),
    (np.float32, np.float32),
    (np.float64, np.float64),
    (np.int64, np.float64),
])
def test_samples_take_no_more_memory_than_they_need(given, kept):
    logits, labels = check_calibration_data(
        np.array([[1, 2], [3, 1]], dtype=given),
        np.array([0, 1], dtype=np.int32), 'softmax')
    assert logits.dtype == kept and labels.dtype == np.int64
    assert check_calibration_data(logits, labels, 'softmax')[0] is logits


@pytest.mark.parametrize('kind, parameter', [(PlattScaling, 'scale'),
                                             (VectorScaling, 'scale')])
def test_a_fit_beyond_float32_names_the_parameter(kind, parameter):
    logits, labels = samples(cls_channels=2)
    with pytest.raises(
            InvalidValueError, match=f'float32 can .* fitted {parameter} is'):
        kind().fit((logits * 1e-42).astype(np.float32), labels)


@pytest.mark.parametrize(
    'value',
    [float(np.finfo(np.float32).tiny),
     float(np.finfo(np.float32).max)])
def test_smallest_and_largest_number_of_float32_are_allowed(value):
    assert PlattScaling(value, 0.).scale == value
    assert PlattScaling(1., -float(np.finfo(np.float32).max)).bias < 0


def test_only_softmax_counts_the_background():
    fitted = PlattScaling(1., 0., cls_channels=3)
    with pytest.raises(
            InvalidValueError,
            match="3 columns of logits, but the teacher's head has 80"):
        fitted.check_cls_channels(80)


def test_unknown_objective_is_named():
    with pytest.raises(InvalidValueError, match='^`objective`'):
        TemperatureScaling().fit(*samples(), objective='mse')


def test_not_fitted_is_written_as_null():
    for kind in (PlattScaling, VectorScaling):
        form = json.loads(json.dumps(kind().to_json_dict()))
        assert form['scale'] is None and form['bias'] is None


def test_softmax_is_the_default_of_every_search():
    logits, labels = samples()
    for function in (fitting.fit_temperature, fitting.fit_temperature_by_ece):
        assert function(logits, labels) == function(logits, labels, 'softmax')
    np.testing.assert_array_equal(
        fitting.top_confidence(logits, 2.),
        fitting.top_confidence(logits, 2., 'softmax'))


def test_a_refinement_that_is_worse_is_not_taken(monkeypatch):
    logits, labels = samples()
    start = fitting.fit_temperature(logits, labels)
    monkeypatch.setattr(
        fitting, 'minimize_scalar',
        lambda error, **options: SimpleNamespace(x=0.123, fun=1.))
    found = fitting.fit_temperature_by_ece(logits, labels)
    # A point of the grid of 49 from 1/4 to 4.
    step = 24 * np.log(found / start) / np.log(4)
    assert step == pytest.approx(round(step), abs=1e-9)


@pytest.mark.parametrize('kind, name', [(PlattScaling, 'platt_scaling'),
                                        (VectorScaling, 'vector_scaling')])
@pytest.mark.parametrize('parameter', ['scale', 'bias'])
def test_a_fitted_parameter_beyond_float32_is_named(kind, name, parameter,
                                                    monkeypatch):
    found = dict(scale=np.ones(4), bias=np.zeros(4))
    found[parameter][:] = 1e300
    if kind is PlattScaling:
        found = {key: float(value[0]) for key, value in found.items()}
    monkeypatch.setattr(f'tcal_det.models.calibrators.{name}.fit_{name}',
                        lambda logits, labels: tuple(found.values()))
    logits, labels = samples()
    with pytest.raises(InvalidValueError, match=f'fitted {parameter} is 1e'):
        kind().fit(logits.astype(np.float32), labels)


def test_softening_counts_among_what_float32_can_divide_by():
    logits, labels = samples()
    logits = (logits * 1e37).astype(np.float32)
    assert TemperatureScaling().fit(logits, labels).temperature > 1e37
    with pytest.raises(InvalidValueError, match='fitted temperature is'):
        TemperatureScaling(softening=100.).fit(logits, labels)
    TemperatureScaling(softening=.01).fit(logits, labels)


def test_repr_names_all_that_differs_from_a_plain_temperature():
    assert str(TemperatureScaling(2., 1.25, cls_channels=3)) == (
        'TemperatureScaling(temperature=2.0, softening=1.25, '
        'effective_temperature=2.5, cls_channels=3)')
    assert str(TemperatureScaling(2., 1.25, 'sigmoid', 3, .1)) == (
        'TemperatureScaling(temperature=2.0, softening=1.25, base_rate=0.1, '
        "activation='sigmoid', cls_channels=3)")
    assert str(TemperatureScaling(
        2., None, 'sigmoid', None,
        .1)) == ("TemperatureScaling(temperature=2.0, activation='sigmoid')")


@pytest.mark.parametrize('kind', [PlattScaling, VectorScaling])
def test_message_names_the_activation_and_the_labels(kind):
    logits, labels = samples()
    with pytest.raises(
            InvalidValueError, match=f'columns of {kind.activation} logits'):
        kind().fit(logits, np.where(labels == 3, 9, labels))
    with pytest.raises(InvalidValueError, match='^`labels` must be an array'):
        kind().fit(logits, [[1], [1, 2]])
    with pytest.raises(InvalidValueError, match='^`logits` must be an array'):
        kind().fit([[1.], [1., 2.]], labels)
