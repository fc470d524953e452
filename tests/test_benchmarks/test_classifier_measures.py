"""Figures of students and of teachers, by hand and by other libraries."""
import math

import numpy as np
import pytest
from scipy.special import rel_entr, softmax
from sklearn.metrics import accuracy_score, log_loss

from benchmarks.study.classifiers.data import Crops, draw_labels
from benchmarks.study.classifiers.measures import (mean_kl, student_figures,
                                                   teacher_figures)


def crops_of(clean_labels, labels=None):
    clean_labels = np.array(clean_labels)
    labels = clean_labels if labels is None else np.array(labels)
    return Crops(
        np.zeros((len(labels), 256), np.float32), clean_labels, labels)


def random_case(num_samples, seed):
    rng = np.random.default_rng(seed)
    clean = rng.integers(10, size=num_samples)
    logits = rng.normal(size=(num_samples, 10)) + 3 * np.eye(10)[clean]
    return logits, crops_of(clean, draw_labels(clean, rng.random(num_samples)))


def test_student_figures_by_hand():
    # A 3 labelled 8, and a 6; the student says 3 and 0, each with 0.5.
    probs = np.full((2, 10), 0.5 / 9)
    probs[0, 3] = probs[1, 0] = 0.5
    figures = student_figures(np.log(probs), crops_of([3, 6], [8, 6]))
    assert figures['accuracy'] == 0.5
    assert figures['noisy_accuracy'] == 0
    assert figures['ece'] == pytest.approx(0.5)
    other = math.log(9 / 0.5)
    assert figures['nll'] == pytest.approx(
        (0.7 * math.log(2) + 0.3 * other + other) / 2)


def test_mean_kl_by_hand_and_by_scipy():
    certain = np.array([[1.0, 0]])
    assert mean_kl(certain, np.zeros((1, 2))) == pytest.approx(math.log(2))
    probs = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert mean_kl(probs, np.log(probs) + 5) == pytest.approx(0, abs=1e-12)
    logits = np.random.default_rng(0).normal(size=(2, 2))
    assert mean_kl(probs, logits) == pytest.approx(
        rel_entr(probs, softmax(logits, axis=1)).sum(axis=1).mean())


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_teacher_figures_by_other_libraries(temperature):
    val_logits, val = random_case(300, 1)
    student_logits, student = random_case(200, 2)
    figures = teacher_figures(val_logits, val, student_logits, student,
                              temperature)
    probs = softmax(val_logits / temperature, axis=1)
    assert figures['nll'] == pytest.approx(
        log_loss(val.labels, probs, labels=range(10)))
    predicted = probs.argmax(axis=1)
    assert figures['accuracy'] == accuracy_score(val.clean_labels, predicted)
    assert figures['noisy_accuracy'] == accuracy_score(val.labels, predicted)
    taught = softmax(student_logits / temperature, axis=1)
    others = np.array(
        [np.delete(row, label) for row, label in zip(taught, student.labels)])
    assert figures['non_target_variance'] == pytest.approx(
        others.var(axis=1).mean())
    assert figures['entropy'] == pytest.approx(-(taught * np.log(taught)).sum(
        axis=1).mean())
    # Of a divergence only its entropy does not know the teacher.
    posterior = student.posterior
    cross_entropy = -(posterior * np.log(taught)).sum(axis=1).mean()
    own = -np.log(posterior, where=posterior > 0, out=np.zeros_like(posterior))
    assert figures['kl'] == pytest.approx(cross_entropy -
                                          (posterior * own).sum(axis=1).mean())


def test_ace_by_hand():
    """Fifteen ranges of one sample each: the mean gap of single samples."""
    logits, val = random_case(15, 3)
    figures = teacher_figures(logits, val, logits, val, 1.0)
    gaps = np.abs(softmax(logits, axis=1) - np.eye(10)[val.labels])
    assert figures['ace'] == pytest.approx(gaps.mean())


def test_a_temperature_leaves_the_accuracy():
    logits, val = random_case(100, 4)
    hot, cold = (
        teacher_figures(logits, val, logits, val, temperature)
        for temperature in (3.0, 0.3))
    assert hot['accuracy'] == cold['accuracy']
    assert hot['entropy'] > cold['entropy']
