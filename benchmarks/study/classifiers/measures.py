"""Figures of students and of teachers.

Shapes: N crops, C classes.
"""
from typing import Dict

import numpy as np
from scipy.special import log_softmax, softmax, xlogy

from tcal_det.evaluation.functional import (adaptive_calibration_error,
                                            calibration_error, top_label)
from tcal_det.teachers.soft_label_figures import (non_target_variance,
                                                  softmax_entropy)
from .data import Crops

NUM_BINS = 15


def student_figures(logits: np.ndarray, crops: Crops) -> Dict[str, float]:
    """What a student knows.

    Args:
        logits (ndarray): Logits of the student, shape (N, C).
        crops (Crops): The crops of these logits.

    Returns:
        dict[str, float]: 'accuracy' against clean labels, 'noisy_accuracy'
        and 'ece' against noisy ones, 'nll': mean cross entropy to p*, in
        nats.
    """
    log_probs = log_softmax(logits, axis=1)
    confidence, correct = top_label(np.exp(log_probs), crops.labels)
    return dict(
        accuracy=float(np.mean(logits.argmax(axis=1) == crops.clean_labels)),
        noisy_accuracy=float(correct.mean()),
        nll=float(-(crops.posterior * log_probs).sum(axis=1).mean()),
        ece=calibration_error(confidence, correct, NUM_BINS).ece)


def teacher_figures(val_logits: np.ndarray, val: Crops,
                    student_logits: np.ndarray, student: Crops,
                    temperature: float) -> Dict[str, float]:
    """What a teacher knows, and what it tells its students.

    Args:
        val_logits (ndarray): Logits on val, shape (N, C).
        val (Crops): Crops of val.
        student_logits (ndarray): Logits on the student's crops, shape
            (N, C).
        student (Crops): The student's crops.
        temperature (float): Divides the logits.

    Returns:
        dict[str, float]: On val 'accuracy' against clean labels, and against
        noisy ones 'noisy_accuracy', 'ace', 'ece' and 'nll'; on the student's
        crops 'kl': mean KL(p* || teacher), 'non_target_variance' about the
        noisy label, and 'entropy', in nats.
    """
    probs = softmax(val_logits / temperature, axis=1)
    confidence, correct = top_label(probs, val.labels)
    log_probs = log_softmax(val_logits / temperature, axis=1)
    student_targets = softmax(student_logits / temperature, axis=1)
    return dict(
        accuracy=float(np.mean(probs.argmax(axis=1) == val.clean_labels)),
        noisy_accuracy=float(correct.mean()),
        ace=adaptive_calibration_error(probs, val.labels, NUM_BINS).ace,
        ece=calibration_error(confidence, correct, NUM_BINS).ece,
        nll=float(-log_probs[np.arange(len(probs)), val.labels].mean()),
        kl=mean_kl(student.posterior, student_logits / temperature),
        non_target_variance=float(
            non_target_variance(student_targets, student.labels).mean()),
        entropy=float(softmax_entropy(student_targets).mean()))


def mean_kl(probs: np.ndarray, logits: np.ndarray) -> float:
    """Mean of KL(probs || softmax(logits)).

    Args:
        probs (ndarray): Distributions, zeros allowed, shape (N, C).
        logits (ndarray): Logits of the other distributions, shape (N, C).

    Returns:
        float: In nats, >= 0.
    """
    log_probs = log_softmax(logits, axis=1)
    return float((xlogy(probs, probs) - probs * log_probs).sum(axis=1).mean())
