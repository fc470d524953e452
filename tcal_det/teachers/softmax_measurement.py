"""Measure accuracy and calibration of a softmax teacher.

Shapes: N samples (RoIs, priors or queries), C = K + 1 classes with background
last.
"""
import warnings
from dataclasses import dataclass
from typing import Any, Dict

import numpy as np

from tcal_det.evaluation.functional.calibration_error import (
    CalibrationError, adaptive_calibration_error, calibration_error, top_label)
from tcal_det.evaluation.functional.scoring_rules import (
    brier_score, negative_log_likelihood)

GROUPS = ('all', 'foreground', 'background')
# Not by the assigned label: then even a perfect teacher would look
# miscalibrated. If it rightly gives samples a foreground probability of 0.7,
# the group of the assigned foreground holds only those that are objects.
GROUP_RULE = 'by the predicted class'


@dataclass(frozen=True, eq=False)
class Measurement:
    """Accuracy and calibration of class probabilities.

    Attributes:
        accuracy (float): Fraction of samples whose top class is correct.
        nll (float): Mean negative log-likelihood, in nats.
        brier (float): Mean squared error summed over classes, in [0, 2].
        error (CalibrationError): ECE, its signed parts, MCE and bins.
        ace (float): Adaptive calibration error over all classes.
    """
    accuracy: float
    nll: float
    brier: float
    error: CalibrationError
    ace: float

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists."""
        return dict(
            num_samples=self.error.num_samples,
            accuracy=self.accuracy,
            nll=self.nll,
            brier=self.brier,
            ece=self.error.ece,
            over=self.error.over,
            under=self.error.under,
            mce=self.error.mce,
            ace=self.ace,
            bins=self.error.bins.to_dict())


def measure(logits: np.ndarray, labels: np.ndarray) -> Measurement:
    """Measure accuracy and calibration of softmax logits.

    Args:
        logits (ndarray): Logits, shape (N, C).
        labels (ndarray): Assigned classes, in [0, C), shape (N,).

    Returns:
        Measurement: Figures of all samples.
    """
    # In place: a copy for 500000 RoIs and 81 classes takes 324 MB.
    probs = logits.astype(np.float64)
    probs -= probs.max(axis=1, keepdims=True)
    np.exp(probs, out=probs)
    probs /= probs.sum(axis=1, keepdims=True)
    confidence, correct = top_label(probs, labels)
    return Measurement(
        accuracy=float(correct.mean()) if len(correct) else float('nan'),
        nll=negative_log_likelihood(probs, labels),
        brier=brier_score(probs, labels),
        error=calibration_error(confidence, correct),
        ace=adaptive_calibration_error(probs, labels).ace)


def measure_groups(logits: np.ndarray,
                   labels: np.ndarray) -> Dict[str, Measurement]:
    """Measure all samples, and those predicted as foreground or background.

    Args:
        logits (ndarray): Logits, shape (N, C).
        labels (ndarray): Assigned classes, in [0, C), shape (N,).

    Returns:
        dict[str, Measurement]: Figures by the group names of ``GROUPS``.
    """
    is_background = logits.argmax(axis=1) == logits.shape[1] - 1
    with warnings.catch_warnings():
        # A group that is never predicted has NaN figures, without a warning.
        warnings.filterwarnings('ignore', 'no samples were given')
        return dict(
            all=measure(logits, labels),
            foreground=measure(logits[~is_background], labels[~is_background]),
            background=measure(logits[is_background], labels[is_background]))
