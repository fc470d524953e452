"""Softening of sigmoid heads about the base rate."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import (FocalPosterior, PlattScaling,
                                         TemperatureScaling)
from tcal_det.models.calibrators.calibration_data import mean_target

KINDS = {
    'TemperatureScaling':
    lambda **options: TemperatureScaling(
        temperature=0.5, activation='sigmoid', **options),
    'PlattScaling':
    lambda **options: PlattScaling(scale=2.0, bias=1.0, **options),
    'FocalPosterior':
    FocalPosterior,
}


@pytest.fixture(params=sorted(KINDS))
def make(request):
    """A function that makes one calibrator of a sigmoid head."""
    return KINDS[request.param]


def samples(seed=0):
    """Rare objects: 600 of 20000 pairs or so, with true labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-5, 2, size=(5000, 4))
    is_true = rng.uniform(size=logits.shape) < expit(logits)
    labels = np.where(is_true.any(axis=1), is_true.argmax(axis=1), 4)
    return logits, labels


@settings(max_examples=50, deadline=None)
@given(
    softening=st.floats(0.2, 5),
    base_rate=st.floats(1e-6, 1 - 1e-6),
    kind=st.sampled_from(sorted(KINDS)))
def test_calibrated_logits_are_divided_about_the_base_rate(
        softening, base_rate, kind):
    logits = torch.linspace(-12, 12, 30, dtype=torch.float64).view(10, 3)
    plain = KINDS[kind]()(logits).numpy()
    soft = KINDS[kind](softening=softening, base_rate=base_rate)(logits)
    pivot = logit(base_rate)
    np.testing.assert_allclose(
        soft.numpy() - pivot, (plain - pivot) / softening,
        rtol=1e-9,
        atol=1e-9)


def test_by_hand():
    """The logit of 0.2 is -log 4: a pair of that score stays."""
    calibrator = PlattScaling(1., 0., softening=2., base_rate=.2)
    logits = torch.tensor([[-np.log(4), 0., -np.inf, np.inf]])
    np.testing.assert_allclose(
        calibrator(logits).numpy(),
        [[-np.log(4), -np.log(2), -np.inf, np.inf]],
        rtol=1e-15)


def test_one_is_off(make):
    logits = torch.randn(6, 3)
    assert torch.equal(make()(logits), make(base_rate=.1)(logits))
    assert torch.equal(make()(logits), make(softening=1.)(logits))
    make().check_cls_channels(3)


def test_needs_a_base_rate(make):
    calibrator = make(softening=1.2)
    for call in (lambda: calibrator.check_cls_channels(3),
                 lambda: calibrator(torch.zeros(2, 3))):
        with pytest.raises(
                InvalidValueError,
                match=r'must have `base_rate`, in \(0, 1\).*softening=1.2: '
                'give .*calibrate_teacher'):
            call()
    calibrator.fit(*samples())
    calibrator.check_cls_channels(4)


def test_fit_takes_the_mean_target(make):
    logits, labels = samples()
    calibrator = make(softening=1.5).fit(logits, labels)
    is_true = labels[:, None] == np.arange(4)
    assert calibrator.base_rate == pytest.approx(is_true.mean(), rel=1e-12)
    targets = .8 * expit(logits)
    calibrator.fit(logits, targets)
    assert calibrator.base_rate == pytest.approx(targets.mean(), rel=1e-12)
    assert calibrator.softening == 1.5


def test_fit_takes_the_base_rate_of_all_where_samples_are_a_selection(make):
    logits, labels = samples()
    is_chosen = (expit(logits) > .05).any(axis=1)
    chosen = logits[is_chosen], labels[is_chosen]
    everywhere = (labels < 4).mean() / 4
    selected = make(softening=1.5).fit(*chosen)
    assert selected.base_rate > 1.5 * everywhere
    selected = make(softening=1.5).fit(*chosen, base_rate=everywhere)
    assert selected.base_rate == everywhere
    for value in (0, 1., -.1, float('nan')):
        with pytest.raises(InvalidValueError, match='`base_rate` must be in'):
            make().fit(*chosen, base_rate=value)


def test_the_background_stays():
    """The sum of all scores: a division about 0 multiplies it instead."""
    logits, labels = samples()
    total = {}
    for softening in (1., 1.5):
        calibrator = PlattScaling(softening=softening).fit(logits, labels)
        soft = calibrator(torch.from_numpy(logits))
        total[softening] = soft.sigmoid().sum().item()
    assert total[1.] == pytest.approx((labels < 4).sum(), rel=1e-6)
    about_zero = expit(logits / 1.5).sum()
    assert about_zero > 2 * total[1.]
    assert 0.7 * total[1.] < total[1.5] < 1.3 * total[1.]


@pytest.mark.parametrize('label, expected', [(4, .5 / 12), (1, 3 / 12)])
def test_mean_target_of_labels(label, expected):
    assert mean_target(np.full(3, label), 4) == expected


@pytest.mark.parametrize('value, expected', [(0., .5 / 12), (1., 11.5 / 12),
                                             (.25, .25)])
def test_mean_target_of_soft_targets(value, expected):
    assert mean_target(np.full((3, 4), value, np.float32), 4) == expected


@pytest.mark.parametrize('value, error', [
    (0., InvalidValueError),
    (1., InvalidValueError),
    (-1., InvalidValueError),
    (float('nan'), InvalidValueError),
    ('0.1', InvalidTypeError),
    (True, InvalidTypeError),
])
def test_bad_base_rate(make, value, error):
    with pytest.raises(error, match='`base_rate` must be'):
        make(base_rate=value)


@pytest.mark.parametrize('value', [0., -1., float('inf'), 1e-60])
def test_bad_softening(make, value):
    with pytest.raises(InvalidValueError, match='softening` must be in'):
        make(softening=value)


def test_softmax_heads_have_no_base_rate():
    with pytest.raises(
            InvalidValueError,
            match='`base_rate` must be left out for softmax.*got 0.1'):
        TemperatureScaling(2., base_rate=.1)
    with pytest.raises(InvalidValueError, match='`base_rate` must be left'):
        TemperatureScaling().fit([[0., 1.], [1., 0.]], [0, 1], base_rate=.1)
    fitted = TemperatureScaling(softening=1.2).fit(samples()[0][:40],
                                                   np.arange(40) % 4)
    assert fitted.base_rate is None
