"""Confidence intervals of figures and of their differences, from resamples.

The interval is the percentile interval (Efron, "The Jackknife, the Bootstrap
and Other Resampling Plans", 1982, section 10.4) of resamples from which the
bootstrap estimate of bias is subtracted (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, section 10.2):

    bias = mean of the resamples - value
    [q(tail) - bias, q(1 - tail) - bias], tail = (1 - confidence) / 2

where q are the quantiles of the resamples. It is an interval for the mean
figure of data sets with this number of images. A calibration error is a sum of
absolute gaps, which noise increases, and AP uses the largest precision. So
both are larger with fewer images, and even larger in resamples, which have
fewer distinct images. Without the shift, the whole interval can lie above the
figure.
"""
from dataclasses import asdict, dataclass
from typing import Any, Dict, Tuple

import numpy as np
from numpy.typing import ArrayLike

# Differences below this size are rounding errors.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        value (float): Figure of the original images; NaN if undefined.
        low (float): Lower end; NaN without resamples or value.
        high (float): Upper end; NaN without resamples or value.
        num_defined (int): Number of resamples in which the figure is defined;
            the interval is computed from these.
        bias (float): Mean of the resamples minus the value: a rough estimate
            of how much larger the figure is than with very many images. NaN
            without resamples.
    """
    value: float
    low: float
    high: float
    num_defined: int
    bias: float

    @classmethod
    def from_resamples(cls,
                       value: float,
                       resamples: np.ndarray,
                       confidence: float = 0.95,
                       highest: float = np.inf) -> 'Interval':
        """Compute the interval, limited to the range of the figure.

        Args:
            value (float): Figure of the original images.
            resamples (ndarray): Figure of each resample, NaN where it is
                undefined, shape (B,).
            confidence (float): Confidence level in (0, 1). Defaults to
                0.95.
            highest (float): Largest possible value of the figure; the smallest
                is 0. Defaults to infinity.
        """
        defined = resamples[~np.isnan(resamples)]
        shifted, bias = _shifted(value, defined)
        low, high = np.clip(_percentiles(shifted, confidence), 0, highest)
        return cls(value, float(low), float(high), len(defined), bias)

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers; NaN stays NaN."""
        return asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of a figure between two sets of detections.

    Attributes:
        a (float): Figure of the reference.
        b (float): Figure of the other set.
        difference (float): b - a.
        low (float): Lower end of the interval of the difference.
        high (float): Upper end of the interval of the difference.
        p_value (float): Two-sided p-value. It is below 1 - confidence where
            the interval excludes 0, except for the interpolation of quantiles.
        num_defined (int): Number of resamples in which both figures are
            defined.
    """
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    num_defined: int

    @classmethod
    def from_resamples(cls,
                       a: float,
                       b: float,
                       resamples_a: np.ndarray,
                       resamples_b: np.ndarray,
                       confidence: float = 0.95) -> 'PairedDifference':
        """Compute the interval of b - a, and the corresponding test.

        The p-value is twice the smaller of two shares: that of shifted
        resamples <= 0 and that of shifted resamples >= 0. One is added to
        numerator and denominator (Davison and Hinkley, "Bootstrap Methods and
        their Application", 1997, Eq. 4.11), so that it is never 0.

        Args:
            a (float): Figure of the reference on the original images.
            b (float): Figure of the other set.
            resamples_a (ndarray): Figures of the reference in the resamples,
                shape (B,).
            resamples_b (ndarray): Figures of the other set in the same
                resamples, shape (B,).
            confidence (float): Confidence level in (0, 1). Defaults to
                0.95.
        """
        difference = float(_without_rounding(np.float64(b - a)))
        resamples = _without_rounding(resamples_b - resamples_a)
        defined = resamples[~np.isnan(resamples)]
        shifted, _ = _shifted(difference, defined)
        low, high = _percentiles(shifted, confidence)
        return cls(a, b, difference, low, high, _p_value(shifted),
                   len(defined))

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0; False without an interval."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers; NaN stays NaN."""
        return asdict(self)


def _shifted(value: float, defined: np.ndarray) -> Tuple[np.ndarray, float]:
    """Shift resamples so that their mean is the value; also return bias."""
    if len(defined) == 0 or np.isnan(value):
        return np.zeros(0), np.nan
    bias = float(defined.mean() - value)
    return _without_rounding(defined - bias), bias


def _percentiles(shifted: np.ndarray,
                 confidence: float) -> Tuple[float, float]:
    if len(shifted) == 0:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(shifted, (tail, 1 - tail))
    return float(low), float(high)


def _p_value(shifted: np.ndarray) -> float:
    if len(shifted) == 0:
        return np.nan
    tails = np.sum(shifted <= 0), np.sum(shifted >= 0)
    return min(1.0, 2 * float(1 + min(tails)) / (len(shifted) + 1))


def _without_rounding(differences: ArrayLike) -> np.ndarray:
    """Set differences that are only rounding errors to 0."""
    return np.where(np.abs(differences) < _ROUNDING, 0.0, differences)
