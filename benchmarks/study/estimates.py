"""Means, differences and correlations, with what chance may do to them.

Where too little was measured for a figure it is NaN.
"""
import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from scipy import optimize, special, stats

LEVEL = 0.95
# The chance of a significant result that is commonly asked of an experiment.
POWER = 0.8
NAN = float('nan')
# Differences between fractions below this are rounding, not spread.
_ROUNDING = 1e-12


class Mean(NamedTuple):
    """A mean with its 95 % confidence interval by Student's t.

    Attributes:
        count (int): How many values.
        mean (float): Of the values.
        std (float): Of the values, with ``count - 1`` degrees of freedom.
        low (float): Lower end of the mean's interval.
        high (float): Upper end of the mean's interval.
        p_value (float): Of the two-sided t-test against a mean of 0.
    """
    count: int
    mean: float
    std: float
    low: float
    high: float
    p_value: float


def mean_of(values: Sequence[float]) -> Mean:
    """Mean, spread, interval and test of independent values."""
    count = len(values)
    if count == 0:
        return Mean(0, NAN, NAN, NAN, NAN, NAN)
    mean = float(np.mean(values))
    if count == 1:
        return Mean(1, mean, NAN, NAN, NAN, NAN)
    std = float(np.std(values, ddof=1))
    if std < _ROUNDING:
        # Values without any spread, as few rounded ones may be, tell nothing
        # of chance.
        return Mean(count, mean, 0.0, NAN, NAN, NAN)
    error = std / math.sqrt(count)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    return Mean(count, mean, std, mean - half, mean + half, p_value)


def paired_difference(values: Dict[int, float],
                      reference: Dict[int, float]) -> Mean:
    """Difference between runs of the same seed.

    Args:
        values (dict[int, float]): By seed.
        reference (dict[int, float]): By seed. Seeds that only one of them
            has are left out.

    Returns:
        Mean: Of ``values - reference``.
    """
    return mean_of([
        values[seed] - reference[seed] for seed in values if seed in reference
    ])


def pooled_std(estimates: Sequence[Mean]) -> float:
    """The common standard deviation of several samples.

    Args:
        estimates (Sequence[Mean]): Of the samples. Those without a spread
            are left out.

    Returns:
        float: Root of the mean variance, weighted by degrees of freedom.
    """
    freedom = np.array([max(0, estimate.count - 1) for estimate in estimates])
    if not freedom.sum():
        return NAN
    variances = [
        0.0 if math.isnan(estimate.std) else estimate.std**2
        for estimate in estimates
    ]
    return math.sqrt(float(np.average(variances, weights=freedom)))


def power(difference: float, std: float, count: int) -> float:
    """The chance that a t-test finds a true difference.

    Args:
        difference (float): The true mean of the values.
        std (float): Their true standard deviation, in the same unit.
        count (int): How many values the test has.

    Returns:
        float: Of a two-sided p value below ``1 - LEVEL``; NaN without at
        least two values that differ.
    """
    if count < 2 or not std > _ROUNDING:
        return NAN
    # The square of a noncentral t has a noncentral F distribution, whose
    # upper tail is both tails of t.
    limit = stats.f.ppf(LEVEL, 1, count - 1)
    return 1 - float(
        special.ncfdtr(1, count - 1,
                       count * (difference / std)**2, limit))


def least_detectable(std: float, count: int) -> float:
    """The least true difference that a t-test finds with power ``POWER``.

    Args:
        std (float): The true standard deviation of the values.
        count (int): How many values the test has.

    Returns:
        float: In the unit of ``std``; NaN where :func:`power` is.
    """
    if count < 2 or not std > _ROUNDING:
        return NAN
    # Power depends on the difference in units of the deviation alone, and
    # two values reach it at 11.5 of them.
    return std * float(
        optimize.brentq(lambda units: power(units, 1.0, count) - POWER, 0.0,
                        15.0))


def holm(p_values: Sequence[float]) -> List[float]:
    """Adjust p values for their number, after Holm (1979).

    The k-th smallest of m is multiplied by m - k + 1; none becomes smaller
    than one before it, nor larger than 1. A NaN is no test: it stays and
    does not count.
    """
    adjusted = [NAN] * len(p_values)
    tested = sorted(
        (p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p_value, index) in enumerate(tested):
        largest = max(largest, min(1.0, p_value * (len(tested) - rank)))
        adjusted[index] = largest
    return adjusted


class Correlation(NamedTuple):
    """A straight line through points, and how far it explains them.

    Attributes:
        count (int): How many points.
        r (float): Pearson's correlation.
        r_interval (tuple[float, float]): 95 %, by Fisher's transformation.
        p_value (float): Two-sided, of no correlation.
    """
    count: int
    r: float
    r_interval: Tuple[float, float]
    p_value: float

    @property
    def r2(self) -> float:
        """The share of the variance that the line explains."""
        return self.r**2

    @property
    def r2_interval(self) -> Tuple[float, float]:
        """The squares of all that ``r_interval`` holds."""
        low, high = self.r_interval
        largest = max(low**2, high**2)
        return (0.0 if low <= 0 <= high else min(low**2, high**2)), largest


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's correlation with its interval.

    Args:
        x (Sequence[float]): Shape (P,).
        y (Sequence[float]): Shape (P,). Points of which a coordinate is NaN
            are left out.

    Returns:
        Correlation: All NaN for fewer than 3 points, through which there is
        always a line, or if all x or all y are the same.
    """
    points = np.array([x, y], dtype=float)
    points = points[:, ~np.isnan(points).any(axis=0)]
    count = points.shape[1]
    if count < 3 or (np.ptp(points, axis=1) < _ROUNDING).any():
        return Correlation(count, NAN, (NAN, NAN), NAN)
    result = stats.pearsonr(*points)
    low, high = result.confidence_interval(LEVEL)
    return Correlation(count, float(result.statistic),
                       (float(low), float(high)), float(result.pvalue))
