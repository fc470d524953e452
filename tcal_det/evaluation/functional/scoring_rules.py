"""Proper scoring rules: negative log-likelihood and Brier score.

Shapes:
    N: samples
    K: classes
"""
import warnings
from typing import Tuple

import numpy as np
from numpy.typing import ArrayLike

from tcal_det.errors import InvalidValueError, TcalDetWarning
from .array_checks import as_labels, as_unit_interval, check_same_length

# Lower bound of the likelihoods in the logarithm: one rounding step of float64
# at 1. A saturated sigmoid or softmax is exactly 0 or 1, and a single wrong
# sample of this kind would make the mean infinite.
SMALLEST_LIKELIHOOD = float(np.finfo(np.float64).eps)


def negative_log_likelihood(probs: ArrayLike,
                            labels: ArrayLike,
                            smallest: float = SMALLEST_LIKELIHOOD) -> float:
    """Mean over samples of -log(probability of the true class).

    Args:
        probs (Sequence[Sequence[float]]): Probabilities whose rows add up to
            1, shape (N, K).
        labels (Sequence[int]): Class labels in [0, K), shape (N,).
        smallest (float): Lower bound to which smaller probabilities are
            raised; 0 allows an infinite result. Defaults to 2.2e-16.

    Returns:
        float: Negative log-likelihood in nats; NaN, with a warning, when N =
        0.

    Example:
        >>> round(negative_log_likelihood([[0.5, 0.5]], [1]), 6)
        0.693147
    """
    probs, labels = _checked_probs(probs, labels)
    likelihood = probs[np.arange(len(labels)), labels]
    return _mean_negative_log(likelihood, smallest)


def brier_score(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean over samples of the squared error summed over classes.

    The score is in [0, 2]. For two classes it is twice the binary Brier score
    (Brier 1950, Eq. 2).

    Args:
        probs (Sequence[Sequence[float]]): Probabilities whose rows add up to
            1, shape (N, K).
        labels (Sequence[int]): Class labels in [0, K), shape (N,).

    Returns:
        float: The score; NaN, with a warning, when N = 0.

    Example:
        >>> brier_score([[0.5, 0.5]], [1])
        0.5
    """
    probs, labels = _checked_probs(probs, labels)
    if _warn_if_empty(labels):
        return float('nan')
    # sum_k (p_k - y_k)^2 without an N x K array of y
    likelihood = probs[np.arange(len(labels)), labels]
    squares = np.einsum('nk,nk->n', probs, probs)
    return float(np.mean(squares - 2 * likelihood + 1))


def binary_negative_log_likelihood(
        scores: ArrayLike,
        is_positive: ArrayLike,
        smallest: float = SMALLEST_LIKELIHOOD) -> float:
    """Mean cross entropy of scores and binary outcomes.

    For detections, the outcome is whether a detection is a true positive.

    Args:
        scores (Sequence[float]): Scores in [0, 1], shape (N,).
        is_positive (Sequence[bool]): Binary outcomes, shape (N,).
        smallest (float): Lower bound to which smaller likelihoods are raised;
            0 allows an infinite result. Defaults to 2.2e-16.

    Returns:
        float: Negative log-likelihood in nats; NaN, with a warning, when N =
        0.

    Example:
        >>> round(binary_negative_log_likelihood([0.5, 1.0], [1, 1]), 6)
        0.346574
    """
    scores, is_positive = _checked_scores(scores, is_positive)
    likelihood = np.where(is_positive, scores, 1 - scores)
    return _mean_negative_log(likelihood, smallest)


def binary_brier_score(scores: ArrayLike, is_positive: ArrayLike) -> float:
    """Mean squared difference of scores and binary outcomes, in [0, 1].

    For detections, the outcome is whether a detection is a true positive.

    Args:
        scores (Sequence[float]): Scores in [0, 1], shape (N,).
        is_positive (Sequence[bool]): Binary outcomes, shape (N,).

    Returns:
        float: The score; NaN, with a warning, when N = 0.

    Example:
        >>> binary_brier_score([0.5, 1.0], [1, 1])
        0.125
    """
    scores, is_positive = _checked_scores(scores, is_positive)
    if _warn_if_empty(scores):
        return float('nan')
    return float(np.mean((scores - is_positive)**2))


def _checked_probs(probs: ArrayLike,
                   labels: ArrayLike) -> Tuple[np.ndarray, np.ndarray]:
    probs = as_unit_interval('probs', probs, ndim=2)
    labels = as_labels('labels', labels, *probs.shape)
    # The tolerance allows float16 rows of a thousand classes. Rows of sigmoid
    # outputs, to which these rules do not apply, deviate much more.
    bad = np.abs(probs.sum(axis=1) - 1) > 0.01
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidValueError(
            '`probs` must have rows that add up to 1, but got '
            f'{probs[row].sum()} in row {row}; for sigmoid heads use the '
            'binary functions class by class')
    return probs, labels


def _checked_scores(scores: ArrayLike,
                    is_positive: ArrayLike) -> Tuple[np.ndarray, np.ndarray]:
    scores = as_unit_interval('scores', scores)
    is_positive = as_unit_interval('is_positive', is_positive)
    check_same_length('scores', scores, 'is_positive', is_positive)
    if not np.isin(is_positive, (0.0, 1.0)).all():
        raise InvalidValueError('`is_positive` must hold only 0 and 1, but '
                                'got fractions')
    return scores, is_positive.astype(bool)


def _mean_negative_log(likelihood: np.ndarray, smallest: float) -> float:
    if _warn_if_empty(likelihood):
        return float('nan')
    with np.errstate(divide='ignore'):  # -log(0) is inf where allowed
        return float(-np.log(np.maximum(likelihood, smallest)).mean())


def _warn_if_empty(samples: np.ndarray) -> bool:
    if len(samples) == 0:
        warnings.warn(
            'no samples were given, so the score is NaN',
            TcalDetWarning,
            stacklevel=3)
    return len(samples) == 0
