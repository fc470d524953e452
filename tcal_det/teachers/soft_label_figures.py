"""What a teacher's probabilities say beside the class on top.

A student is taught all of them. Their entropy is what is left of doubt; the
variance over the classes other than the target is how far the teacher tells
these apart, which Fan et al. ("Exploring dark knowledge under various teacher
capacities and addressing capacity mismatch", Frontiers of Computer Science
20(6), 2026) find to go with what a student learns from it.

Shapes: N samples, for a sigmoid head places or pairs; C columns of the
logits, for softmax with background last.
"""
from typing import Iterator

import numpy as np
from scipy.special import entr, expit

# 32 MB of float64 per temporary array.
NUMBERS_PER_SLICE = 2**22


def softmax_entropy(probs: np.ndarray) -> np.ndarray:
    r"""Entropy of each sample's classes, :math:`-\sum_c p_c \log p_c`.

    Args:
        probs (ndarray): Rows that sum to 1, background included, float64,
            shape (N, C).

    Returns:
        ndarray: In nats, in [0, log C], shape (N,).
    """
    entropy = np.empty(len(probs))
    for rows in _slices(probs):
        entropy[rows] = entr(probs[rows]).sum(axis=1)
    return entropy


def binary_entropy(logits: np.ndarray) -> np.ndarray:
    r"""Entropy of each yes or no, :math:`-s \log s - (1 - s) \log(1 - s)`.

    Args:
        logits (ndarray): Of sigmoid scores s, shape (N,).

    Returns:
        ndarray: In nats, in [0, log 2], float64, shape (N,).
    """
    logits = logits.astype(np.float64)
    return entr(expit(logits)) + entr(expit(-logits))


def non_target_variance(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Variance of the probabilities of all classes but the assigned one.

    .. math::
        \frac1M \sum_{c \ne y} (p_c - \bar p)^2, \qquad
        \bar p = \frac1M \sum_{c \ne y} p_c

    over the M columns other than that of the label y: C - 1, or all C where
    the label has no column, as that of background of a sigmoid head.

    Args:
        probs (ndarray): In [0, 1], float64, shape (N, C).
        labels (ndarray): Assigned classes, shape (N,).

    Returns:
        ndarray: Shape (N,); NaN where there is no other column.
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
    """Rows of at most ``NUMBERS_PER_SLICE`` numbers."""
    step = max(NUMBERS_PER_SLICE // probs.shape[1], 1)
    for begin in range(0, len(probs), step):
        yield slice(begin, begin + step)
