"""Confidence intervals of figures and of their differences, from resamples.

The *basic* bootstrap interval (Davison and Hinkley, Bootstrap Methods and
their Application, 1997, eq. 5.6; also called reverse percentile interval)
takes the distances of the resamples from the figure for the distances of
the figure from the truth:

    [2 * value - q(1 - tail), 2 * value - q(tail)], tail = (1 - confidence) / 2

with q the quantiles of the resamples. A calibration error is a sum of
absolute gaps, to which noise adds. Resampling adds as much noise again, so
that resamples lie above the figure as the figure lies above the truth, and
the percentile interval [q(tail), q(1 - tail)] moves the wrong way.
"""
from dataclasses import asdict, dataclass
from typing import Any, Dict, Tuple

import numpy as np

# Differences of this size are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        value (float): Figure of the images as they are; NaN if undefined.
        low (float): Lower end; NaN without resamples or value.
        high (float): Upper end; NaN without resamples or value.
        num_defined (int): Resamples in which the figure is defined; the
            interval is that of those.
    """
    value: float
    low: float
    high: float
    num_defined: int

    @classmethod
    def from_resamples(cls,
                       value: float,
                       resamples: np.ndarray,
                       confidence: float = 0.95,
                       highest: float = np.inf) -> 'Interval':
        """The basic bootstrap interval, inside the range of the figure.

        Args:
            value (float): Figure of the images as they are.
            resamples (ndarray): Figure of each resample, NaN where it is
                undefined, shape (B,).
            confidence (float): Confidence level in (0, 1). Defaults to
                0.95.
            highest (float): Largest value that the figure can have; the
                least is 0. Defaults to infinity.
        """
        defined = resamples[~np.isnan(resamples)]
        low, high = np.clip(
            _basic_interval(value, defined, confidence), 0, highest)
        return cls(value, float(low), float(high), len(defined))

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers; NaN stays NaN."""
        return asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """A figure of two sets of detections, and how they differ.

    Attributes:
        a (float): Figure of the reference.
        b (float): Figure of the other one.
        difference (float): b - a.
        low (float): Lower end of the interval of the difference.
        high (float): Upper end of it.
        p_value (float): Two-sided; below 1 - confidence where the interval
            leaves out 0, but for the quantiles' interpolation.
        num_defined (int): Resamples in which both figures are defined.
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
        """The basic bootstrap interval of b - a, and the test it inverts.

        The p-value is twice the smaller share of resamples whose difference
        departs from b - a by at least b - a, upwards or downwards; one is
        added to both counts (Davison and Hinkley 1997, eq. 4.11), so that
        it is never 0.

        Args:
            a (float): Figure of the reference, of the images as they are.
            b (float): Figure of the other one.
            resamples_a (ndarray): Of the reference, shape (B,).
            resamples_b (ndarray): Of the other one, in the same resamples,
                shape (B,).
            confidence (float): Confidence level in (0, 1). Defaults to
                0.95.
        """
        difference = float(_without_rounding(np.float64(b - a)))
        resamples = _without_rounding(resamples_b - resamples_a)
        defined = resamples[~np.isnan(resamples)]
        low, high = _basic_interval(difference, defined, confidence)
        return cls(a, b, difference, float(low), float(high),
                   _p_value(difference, defined), len(defined))

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval leaves out 0; False without interval."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers; NaN stays NaN."""
        return asdict(self)


def _basic_interval(value: float, defined: np.ndarray,
                    confidence: float) -> Tuple[float, float]:
    if len(defined) == 0:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return 2 * value - high, 2 * value - low


def _p_value(difference: float, defined: np.ndarray) -> float:
    if len(defined) == 0 or np.isnan(difference):
        return np.nan
    upwards = 1 + np.sum(defined >= 2 * difference)
    downwards = 1 + np.sum(defined <= 2 * difference)
    return min(1.0, 2 * float(min(upwards, downwards)) / (len(defined) + 1))


def _without_rounding(differences: np.ndarray) -> np.ndarray:
    """Exactly 0 where two figures differ by rounding alone."""
    return np.where(np.abs(differences) < _ROUNDING, 0.0, differences)
