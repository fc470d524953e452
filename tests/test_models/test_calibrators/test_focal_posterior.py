"""FocalPosterior against the loss that it inverts."""
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.calibrators import FocalPosterior, focal_posterior
from tcal_det.models.calibrators.focal_posterior import focal_posterior_logit
from tcal_det.registry import MODELS

ALPHAS = st.floats(0.02, 0.98)
GAMMAS = st.floats(0, 5)


def expected_focal_loss(z, eta, alpha, gamma):
    """Of a score with logit z, where the target is 1 with probability eta.

    As mmdet writes it: the cross entropy of each target, times alpha or
    1 - alpha, times pt**gamma, where pt is how wrong the score is.
    """
    p = expit(z)
    focal_weight_1 = alpha * (1 - p)**gamma
    focal_weight_0 = (1 - alpha) * p**gamma
    return (eta * focal_weight_1 * np.logaddexp(0, -z) +
            (1 - eta) * focal_weight_0 * np.logaddexp(0, z))


def posterior(scores, **options):
    logits = torch.logit(torch.tensor([scores], dtype=torch.float64))
    return FocalPosterior(**options)(logits).sigmoid()[0].numpy()


def textbook(p, alpha, gamma):
    """The formula in probabilities, which overflows at the ends."""
    a = (1 - p)**gamma / p - gamma * (1 - p)**(gamma - 1) * np.log(p)
    b = p**gamma / (1 - p) - gamma * p**(gamma - 1) * np.log1p(-p)
    return (1 - alpha) * b / (alpha * a + (1 - alpha) * b)


def test_values_of_retinanets_loss():
    np.testing.assert_allclose(
        posterior([.1, .3, .5, .7]), [.008, .24, .75, .97], atol=.005)
    assert posterior([.1])[0] == pytest.approx(.008, abs=.0005)


@settings(max_examples=200, deadline=None)
@given(eta=st.floats(0.001, 0.999), alpha=ALPHAS, gamma=GAMMAS)
def test_the_best_score_stands_for_its_posterior(eta, alpha, gamma):
    found = minimize_scalar(
        expected_focal_loss,
        bounds=(-30, 30),
        args=(eta, alpha, gamma),
        method='bounded',
        options=dict(xatol=1e-12))
    assert posterior([expit(found.x)], alpha=alpha,
                     gamma=gamma)[0] == pytest.approx(
                         eta, rel=1e-4, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(p=st.floats(1e-6, 1 - 1e-6), alpha=ALPHAS, gamma=GAMMAS)
def test_equals_the_formula_in_probabilities(p, alpha, gamma):
    assert posterior([p], alpha=alpha, gamma=gamma)[0] == pytest.approx(
        textbook(p, alpha, gamma), rel=1e-9)


@pytest.mark.parametrize('alpha', [.25, .5, .9])
def test_gamma_of_zero_is_the_offset_of_alpha(alpha):
    """Weighted cross entropy: odds are off by (1 - alpha) / alpha."""
    logits = torch.linspace(-300, 300, 601, dtype=torch.float64)[:, None]
    found = FocalPosterior(alpha=alpha, gamma=0)(logits)
    expected = logits + np.log((1 - alpha) / alpha)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_without_alpha_and_gamma_nothing_changes():
    logits = torch.randn(20, 3)
    assert torch.equal(FocalPosterior(alpha=.5, gamma=0)(logits), logits)


@settings(max_examples=100, deadline=None)
@given(
    alpha=ALPHAS,
    gamma=st.floats(0, 100),
    dtype=st.sampled_from([torch.float32, torch.float64]))
def test_increases_everywhere(alpha, gamma, dtype):
    logits = torch.cat([
        torch.linspace(-800, 800, 16001),
        torch.linspace(-5, 5, 8001),
    ]).to(dtype).unique()[:, None]
    found = FocalPosterior(alpha, gamma)(logits)
    assert (found.diff(dim=0) > 0).all()


@settings(max_examples=100, deadline=None)
@given(alpha=ALPHAS, gamma=st.floats(0, 10))
def test_float32_is_as_good_as_float32_can_be(alpha, gamma):
    logits = torch.linspace(-600, 600, 4001)[:, None]
    found = FocalPosterior(alpha, gamma)(logits)
    assert found.dtype == torch.float32
    expected = FocalPosterior(alpha, gamma)(logits.double())
    torch.testing.assert_close(found.double(), expected, rtol=3e-7, atol=2e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('magnitude', [50., 86., 88., 110., 700., 1e4])
def test_far_out_it_is_a_line(dtype, magnitude):
    """A tends to (1 + gamma) and B to p**gamma / (1 - p) as p tends to 1."""
    logits = torch.tensor([[magnitude, -magnitude]], dtype=dtype)
    found = FocalPosterior(alpha=.25, gamma=2)(logits)[0].tolist()
    line = 3 * magnitude - np.log(3)
    assert found == pytest.approx([line + np.log(3), -line + np.log(3)],
                                  rel=1e-6)


@pytest.mark.parametrize('gamma', [0, 2, 100])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_infinite_logits_stay(dtype, gamma):
    inf = float('inf')
    logits = torch.tensor([[-inf, inf, 0., float('nan')]], dtype=dtype)
    found = FocalPosterior(gamma=gamma)(logits)[0].tolist()
    assert found[:2] == [-inf, inf]
    assert found[2] == pytest.approx(np.log(3), rel=1e-6)
    assert np.isnan(found[3])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    logits = torch.randn(5, 3).to(dtype)
    found = FocalPosterior()(logits)
    assert found.dtype == torch.float32
    assert torch.equal(found, FocalPosterior()(logits.float()))


@pytest.mark.parametrize('shape', [(0, 3), (1, 3), (10, 3), (2, 9)])
def test_slices_do_not_change_the_result(shape, monkeypatch):
    logits = torch.randn(shape)
    whole = FocalPosterior()(logits)
    monkeypatch.setattr(focal_posterior, 'NUMBERS_PER_SLICE', 7)
    seen = []

    def noted(part, *args):
        seen.append(part.shape)
        return focal_posterior_logit(part, *args)

    monkeypatch.setattr(focal_posterior, 'focal_posterior_logit', noted)
    assert torch.equal(FocalPosterior()(logits), whole)
    assert whole.shape == shape
    assert all(part.numel() <= 7 or len(part) == 1
               for part in map(torch.empty, seen))


def test_gradient_passes():
    logits = torch.linspace(-9, 9, 40, dtype=torch.float64).view(20, 2)
    assert torch.autograd.gradcheck(FocalPosterior(), logits.requires_grad_())


def test_has_no_state():
    calibrator = FocalPosterior()
    assert calibrator.activation == 'sigmoid'
    assert not list(calibrator.parameters()) and not calibrator.state_dict()
    assert str(calibrator) == 'FocalPosterior(alpha=0.25, gamma=2.0)'
    calibrator.check_cls_channels(80)


def test_fit_keeps_alpha_and_gamma():
    rng = np.random.default_rng(0)
    calibrator = FocalPosterior(alpha=.4, gamma=1.5)
    assert calibrator.fit(rng.normal(size=(50, 3)),
                          rng.integers(4, size=50)) is calibrator
    assert (calibrator.alpha, calibrator.gamma) == (.4, 1.5)
    with pytest.raises(InvalidValueError, match='3 columns.*has 80'):
        calibrator(torch.zeros(1, 80))
    with pytest.raises(InvalidValueError, match='`labels` must be in'):
        calibrator.fit(np.zeros((2, 3)), [0, 4])
    assert str(calibrator) == (
        'FocalPosterior(alpha=0.4, gamma=1.5, cls_channels=3)')


def test_the_registry_builds_its_json_form():
    calibrator = FocalPosterior(.4, 1.5, 3, softening=1.2, base_rate=.1)
    config = json.loads(json.dumps(calibrator.to_json_dict()))
    again = MODELS.build(dict(config, _scope_='tcal_det'))
    assert again.to_json_dict() == calibrator.to_json_dict()
    assert str(again) == ('FocalPosterior(alpha=0.4, gamma=1.5, '
                          'softening=1.2, base_rate=0.1, cls_channels=3)')


@pytest.mark.parametrize('arguments, error, message', [
    (dict(alpha=0.), InvalidValueError, r'`alpha` must be in \(0, 1\)'),
    (dict(alpha=1), InvalidValueError, r'`alpha` must be in \(0, 1\)'),
    (dict(alpha=float('nan')), InvalidValueError, '`alpha` must be in'),
    (dict(alpha='a'), InvalidTypeError, '`alpha` must be a number'),
    (dict(gamma=-1), InvalidValueError, '`gamma` must be in'),
    (dict(gamma=101), InvalidValueError, r'`gamma` must be in \[0, 100\].*g'),
    (dict(gamma=float('inf')), InvalidValueError, '`gamma` must be in'),
    (dict(gamma=True), InvalidTypeError, '`gamma` must be a number'),
    (dict(cls_channels=0), InvalidValueError, '`cls_channels` must be >= 1'),
])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        FocalPosterior(**arguments)


def test_numpys_numbers_are_numbers():
    form = FocalPosterior(np.float32(.5), np.int64(2), np.int64(3))
    form = form.to_json_dict()
    assert form == FocalPosterior(.5, 2., 3).to_json_dict()
    assert (type(form['alpha']), type(form['gamma']),
            type(form['cls_channels'])) == (float, float, int)


def test_beats_the_raw_scores_of_a_model_at_its_optimum():
    """Scores that minimise the loss; the posterior has the smaller NLL."""
    rng = np.random.default_rng(0)
    eta = rng.beta(.3, 3, size=2000)
    grid = np.linspace(-12, 12, 4801)
    loss = expected_focal_loss(grid, eta[:, None], .25, 2)
    scores = grid[loss.argmin(axis=1)]
    calibrated = FocalPosterior()(torch.from_numpy(scores[:, None])).numpy()
    is_usual = (eta > 1e-3) & (eta < .999)
    np.testing.assert_allclose(
        calibrated[is_usual, 0], logit(eta[is_usual]), atol=.02)
