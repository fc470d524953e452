"""Figures of a teacher's probabilities beyond the top class.

A student learns from all probabilities of its teacher. Their entropy measures
the teacher's uncertainty. The variance over the classes other than the target
measures how much the teacher distinguishes these classes.

Shapes: N samples, which are places or pairs for a sigmoid head; C columns of
the logits, with background last for softmax.

Reference:
    Fan et al., "Exploring dark knowledge under various teacher capacities and
    addressing capacity mismatch", Frontiers of Computer Science 20(6), 2026.
    They find that the variance correlates with what a student learns.
"""
from typing import Iterator

import numpy as np
from scipy.special import entr, expit

# 32 MB of float64 per temporary array.
NUMBERS_PER_SLICE = 2**22


def softmax_entropy(probs: np.ndarray) -> np.ndarray:
    r"""Entropy of each sample's classes, :math:`-\sum_c p_c \log p_c`.

    Args:
        probs (ndarray): Probabilities of all classes including background,
            rows sum to 1, float64, shape (N, C).

    Returns:
        ndarray: Entropy in nats, in [0, log C], shape (N,).
    """
    entropy = np.empty(len(probs))
    for rows in _slices(probs):
        entropy[rows] = entr(probs[rows]).sum(axis=1)
    return entropy


def binary_entropy(logits: np.ndarray) -> np.ndarray:
    r"""Entropy of each binary score, :math:`-s \log s - (1 - s) \log(1 - s)`.

    Args:
        logits (ndarray): Logits of the sigmoid scores s, shape (N,).

    Returns:
        ndarray: Entropy in nats, in [0, log 2], float64, shape (N,).
    """
    logits = logits.astype(np.float64)
    return entr(expit(logits)) + entr(expit(-logits))


def non_target_variance(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Variance of the probabilities of all classes except the assigned one.

    .. math::
        \frac1M \sum_{c \ne y} (p_c - \bar p)^2, \qquad
        \bar p = \frac1M \sum_{c \ne y} p_c

    The sums run over the M columns other than that of the label y. M is C - 1,
    or C if the label has no column, like the background label of a sigmoid
    head.

    Args:
        probs (ndarray): Probabilities or scores, in [0, 1], float64, shape
            (N, C).
        labels (ndarray): Assigned classes, shape (N,).

    Returns:
        ndarray: Variance of each sample, shape (N,); NaN if there is no other
        column.
    """
    variance = np.empty(len(probs))
    columns = np.arange(probs.shape[1])
    for rows in _slices(probs):
        is_other = labels[rows, None] != columns
        with np.errstate(invalid='ignore'):  # 0 / 0: no other column
            count = is_other.sum(axis=1)
            mean = (probs[rows] * is_other).sum(axis=1) / count
            deviations = (probs[rows] - mean[:, None]) * is_other
            variance[rows] = np.square(deviations).sum(axis=1) / count
    return variance


def _slices(probs: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows with at most ``NUMBERS_PER_SLICE`` numbers."""
    step = max(NUMBERS_PER_SLICE // probs.shape[1], 1)
    for begin in range(0, len(probs), step):
        yield slice(begin, begin + step)
