"""Isotonic regression: the non-decreasing least-squares fit.

Shapes:
    N: samples
    B: blocks of equal fitted value
"""
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np

# The vectorised passes end when a pass leaves more than this share of the
# blocks, because for some data each pass pools only one pair.
_SLOW_PASS = 0.9


@dataclass(frozen=True, eq=False)
class IsotonicFit:
    """Blocks of an isotonic regression, in ascending order.

    Attributes:
        lower (ndarray): Smallest confidence of each block, shape (B,).
        upper (ndarray): Largest confidence of each block, shape (B,).
        value (ndarray): Fitted value, the mean target of the block, strictly
            increasing, shape (B,).
        count (ndarray): Number of samples of each block, int64, shape (B,).
    """
    lower: np.ndarray
    upper: np.ndarray
    value: np.ndarray
    count: np.ndarray

    def knots(self) -> Tuple[np.ndarray, np.ndarray]:
        """Both ends of each block: the corners of the fitted curve.

        Returns:
            tuple[ndarray, ndarray]: Strictly increasing confidences, and their
            non-decreasing fitted values. A block with a single confidence has
            one knot. Shape (B,) to (2 B,).
        """
        is_wide = self.lower < self.upper
        repeats = 1 + is_wide
        # The second knot of a wide block is its upper end.
        is_second = np.zeros(repeats.sum(), dtype=bool)
        is_second[np.cumsum(repeats)[is_wide] - 1] = True
        confidence = np.repeat(self.lower, repeats)
        confidence[is_second] = self.upper[is_wide]
        return confidence, np.repeat(self.value, repeats)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain lists."""
        return dict(
            lower=self.lower.tolist(),
            upper=self.upper.tolist(),
            value=self.value.tolist(),
            count=self.count.tolist())


def isotonic_regression(confidence: np.ndarray,
                        target: np.ndarray) -> IsotonicFit:
    """Fit a non-decreasing function of the confidence by least squares.

    The fit minimises the sum of squares of fit(confidence) - target. Samples
    of equal confidence get one value. The minimiser is unique at the samples;
    it is also the maximum-likelihood fit of 0/1 targets.

    The algorithm is "pool adjacent violators": neighbouring blocks whose means
    do not increase belong to one block of the solution, so whole
    non-increasing runs can be pooled at once, in any order.

    Args:
        confidence (ndarray): Confidences, float64 without NaN, shape (N,).
        target (ndarray): Targets, float64 without NaN, shape (N,).

    Returns:
        IsotonicFit: Fitted blocks; none when N = 0.

    Example:
        >>> fit = isotonic_regression(
        ...     np.array([.1, .2, .3, .9]), np.array([0., 1., 0., 1.]))
        >>> fit.value, fit.count
        (array([0. , 0.5, 1. ]), array([1, 2, 1]))

    Reference:
        Ayer et al., "An Empirical Distribution Function for Sampling with
        Incomplete Information", Annals of Mathematical Statistics 1955.
    """
    order = np.argsort(confidence, kind='stable')
    confidence = confidence[order]
    if len(confidence) == 0:
        return IsotonicFit(confidence, confidence, np.zeros(0),
                           np.zeros(0, dtype=np.int64))
    first = np.flatnonzero(np.append(True, confidence[1:] != confidence[:-1]))
    total = np.add.reduceat(target[order], first)
    first, total = _pooled(first, total, len(confidence))
    end = np.append(first[1:], len(confidence))
    count = end - first
    return IsotonicFit(confidence[first], confidence[end - 1], total / count,
                       count)


def _pooled(first: np.ndarray, total: np.ndarray,
            num_samples: int) -> Tuple[np.ndarray, np.ndarray]:
    """Pool blocks until their means increase strictly.

    Args:
        first (ndarray): First sample of each block, shape (B,), B > 0.
        total (ndarray): Sum of targets of each block, shape (B,).
        num_samples (int): Number of samples.

    Returns:
        tuple[ndarray, ndarray]: ``first`` and ``total`` of the pooled blocks.
    """
    while True:
        mean = total / np.diff(first, append=num_samples)
        starts = np.flatnonzero(np.append(True, mean[1:] > mean[:-1]))
        if len(starts) == len(first):
            return first, total
        is_slow = len(starts) > _SLOW_PASS * len(first)
        total = np.add.reduceat(total, starts)
        first = first[starts]
        if is_slow:
            return _pooled_in_turn(first, total, num_samples)


def _pooled_in_turn(first: np.ndarray, total: np.ndarray,
                    num_samples: int) -> Tuple[np.ndarray, np.ndarray]:
    """Do the same as :func:`_pooled`, always in time linear in B."""
    starts: List[int] = []
    totals: List[float] = []
    counts: List[int] = []
    for begin, sum_, count in zip(first.tolist(), total.tolist(),
                                  np.diff(first, append=num_samples).tolist()):
        while counts and totals[-1] / counts[-1] >= sum_ / count:
            begin = starts.pop()
            sum_ += totals.pop()
            count += counts.pop()
        starts.append(begin)
        totals.append(sum_)
        counts.append(count)
    return np.array(starts), np.array(totals)
