"""Entropies by scipy's distributions, variances by numpy, a row at a time."""
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import bernoulli, entropy

from tcal_det.teachers import soft_label_figures as module
from tcal_det.teachers.soft_label_figures import (binary_entropy,
                                                  non_target_variance,
                                                  softmax_entropy)


def make_probs(samples=40, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (samples, classes))
    return softmax(logits, axis=1), rng.integers(0, classes, samples)


@pytest.fixture(params=[module.NUMBERS_PER_SLICE, 13, 1])
def slices(request, monkeypatch):
    monkeypatch.setattr(module, 'NUMBERS_PER_SLICE', request.param)


def test_by_hand():
    probs = np.array([[.5, .25, .25], [1., 0., 0.], [1 / 3, 1 / 3, 1 / 3]])
    assert softmax_entropy(probs) == pytest.approx(
        [1.5 * np.log(2), 0, np.log(3)])
    # (1/2, 1/4), then (0, 0), then (1/3, 1/3).
    assert non_target_variance(probs,
                               np.array([1, 0,
                                         2])) == pytest.approx([1 / 64, 0, 0])
    assert binary_entropy(np.array([0., np.log(3)])) == pytest.approx(
        [np.log(2), 2 * np.log(2) - .75 * np.log(3)])


def test_against_scipy_and_numpy(slices):
    probs, labels = make_probs()
    assert softmax_entropy(probs) == pytest.approx(
        [entropy(row) for row in probs])
    assert non_target_variance(probs, labels) == pytest.approx(
        [np.var(np.delete(row, label)) for row, label in zip(probs, labels)])


@pytest.mark.parametrize('label', [6, -1])
def test_label_without_a_column_leaves_all_classes(label):
    probs, labels = make_probs()
    labels[:] = label
    assert non_target_variance(probs,
                               labels) == pytest.approx(probs.var(axis=1))


@pytest.mark.filterwarnings('error')
def test_no_other_column():
    variance = non_target_variance(np.array([[.7], [.2]]), np.array([0, 1]))
    assert np.isnan(variance[0]) and variance[1] == 0


def test_binary_entropy_keeps_its_digits():
    """Of scores that float64 cannot tell from 0 and 1."""
    logits = np.array([-2., 0.3, 5.])
    scores = 1 / (1 + np.exp(-logits))
    assert binary_entropy(logits) == pytest.approx(
        [bernoulli.entropy(score) for score in scores])
    tiny = binary_entropy(np.array([-50., 50.], np.float32))
    # -s log s + s for a small s.
    assert tiny == pytest.approx([51 * np.exp(-50.)] * 2, rel=1e-12)


def test_no_samples():
    empty = np.empty((0, 4))
    assert softmax_entropy(empty).shape == (0, )
    assert non_target_variance(empty, np.empty(0, int)).shape == (0, )
