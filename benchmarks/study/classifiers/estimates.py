"""Lines over teachers, with intervals from resampled teachers.

Every statistic takes arrays whose last axis is over teachers, so that one call
computes it of all resamples.

Shapes: P teachers, B resamples.
"""
import math
from typing import Callable, NamedTuple, Sequence

import numpy as np
from scipy import stats

NUM_RESAMPLES = 10000
SEED = 0
LEVEL = 0.95
# Fewer teachers have no spread to speak of.
MIN_TEACHERS = 4


class Estimate(NamedTuple):
    """A value and its interval, NaN where there is none.

    Attributes:
        value (float): The statistic of all teachers.
        low (float): Lower end of the interval.
        high (float): Upper end of the interval.
    """
    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 if the whole interval is above 0, -1 if below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)


def bootstrap(statistic: Callable[..., np.ndarray], *samples:
              Sequence[float]) -> Estimate:
    """A statistic with its percentile interval over resampled units.

    Args:
        statistic (Callable): Takes as many arrays as there are samples, and
            reduces their last axis.
        *samples (sequence[float]): What is known of each unit, shape (P,).

    Returns:
        Estimate: Without an interval where P < 4. Resamples are the same for
        every statistic of P units.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    num_units = len(arrays[0])
    if num_units == 0:
        return NO_ESTIMATE
    # Of a single unit there is no line.
    with np.errstate(invalid='ignore', divide='ignore'):
        value = float(statistic(*arrays))
        if num_units < MIN_TEACHERS:
            return Estimate(value, math.nan, math.nan)
        drawn = np.random.default_rng(SEED).integers(
            num_units, size=(NUM_RESAMPLES, num_units))
        resampled = statistic(*(array[drawn] for array in arrays))
    tail = 50 * (1 - LEVEL)
    # A resample of one unit alone, in a few teachers, has no line either.
    low, high = np.nanpercentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis."""
    return values.mean(axis=-1)


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope of the least squares line of y over x.

    Args:
        x (ndarray): Shape (..., P).
        y (ndarray): Shape (..., P).

    Returns:
        ndarray: Shape (...).
    """
    return _product(x, y) / _product(x, x)


def slope_given(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Coefficient of x in the least squares plane of y over x and z."""
    return slope(_residual(x, z), _residual(y, z))


def r_squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of the variance of y that its line over x explains."""
    return _product(x, y)**2 / (_product(x, x) * _product(y, y))


def partial_r_squared(x: np.ndarray, y: np.ndarray,
                      z: np.ndarray) -> np.ndarray:
    """Share of what z leaves of y that x explains beside z."""
    return r_squared(_residual(x, z), _residual(y, z))


def r_squared_difference(x: np.ndarray, y: np.ndarray,
                         z: np.ndarray) -> np.ndarray:
    """R^2 of y over x, less R^2 of y over z."""
    return r_squared(x, y) - r_squared(z, y)


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of products of the deviations from the means."""
    return (_centred(x) * _centred(y)).sum(axis=-1)


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=-1, keepdims=True)


def _residual(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What the line of x over z leaves of x."""
    return _centred(x) - slope(z, x)[..., None] * _centred(z)


def paired_t(differences: Sequence[float]) -> Estimate:
    """Mean of paired differences with Student's interval.

    Args:
        differences (sequence[float]): One a seed.

    Returns:
        Estimate: Without an interval of fewer than two.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        value = float(values.mean()) if len(values) else math.nan
        return Estimate(value, math.nan, math.nan)
    low, high = stats.t.interval(LEVEL,
                                 len(values) - 1, values.mean(),
                                 stats.sem(values))
    return Estimate(float(values.mean()), float(low), float(high))
