r"""Smooth calibration error (smECE): kernel smoothing instead of bins.

Shapes:
    N: samples
    G: grid points of [0, 1]

Names:
    residual: confidence minus target, shape (N,)
    bandwidth: standard deviation of the Gaussian kernel
"""
import warnings
from dataclasses import asdict, dataclass
from typing import Any, Dict

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct
from scipy.optimize import brentq

from tcal_det.errors import TcalDetWarning
from .array_checks import as_unit_interval, check_same_length
from .class_figures import FiguresByClass, figures_by_class
from .matching import DetectionMatches

# Most data sets need no finer grid than the smallest one.
_SMALLEST_GRID, _LARGEST_GRID = 2**10, 2**16
# Grid steps per bandwidth: moving samples to the grid increases the variance
# of the kernel by a factor of at most 1 + 1 / (4 * 64^2).
_FINE_STEPS = 64
# With fewer steps the sum over the grid does not approximate the integral.
_FEWEST_STEPS = 2


@dataclass(frozen=True, eq=False)
class SmoothCalibrationError:
    """Smooth calibration error with its over- and under-confident parts.

    Attributes:
        smece (float): Smooth calibration error, over + under.
        over (float): Over-confident part of ``smece``.
        under (float): Under-confident part of ``smece``; over - under = mean
            confidence - mean target.
        bandwidth (float): Standard deviation of the kernel, which equals
            ``smece`` up to an error below 3e-5.
        num_samples (int): Number of samples.
    """
    smece: float
    over: float
    under: float
    bandwidth: float
    num_samples: int

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers; NaN stays NaN."""
        return asdict(self)


def smooth_calibration_error(confidence: ArrayLike,
                             correct: ArrayLike) -> SmoothCalibrationError:
    r"""Calibration error from kernel-smoothed residuals, without bins.

    With a Gaussian kernel K of bandwidth s, reflected at 0 and 1,

        smECE_s = integral over t in [0, 1] of
            abs(1/N sum_i K(t, confidence_i) (confidence_i - correct_i)).

    smECE_s does not increase with s, so exactly one bandwidth has smECE_s = s;
    this value is smECE. Unlike the binned ECE it is continuous in the
    confidences and has no parameters. If d is the distance to the nearest
    calibrated confidences, d / 2 <= smECE <= 2 sqrt(d). Like every plug-in
    estimate it is above 0 for a calibrated model, but decreases with more
    samples.

    Samples are moved to a grid and smoothed by a cosine transform, in which
    the reflected kernel is diagonal. This takes O(N + G log G) time. The
    relative error of the grid is about 1e-4 for smECE >= 1e-3; for smaller
    values the absolute error is at most 3e-5.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets, 1 where right and 0 where wrong;
            fractions such as an IoU are allowed. Shape (N,).

    Returns:
        SmoothCalibrationError: ``.smece``, ``.over``, ``.under`` and
        ``.bandwidth``; NaN, with a warning, when N = 0.

    Raises:
        InvalidTypeError: If the values are not numbers.
        InvalidValueError: If a value is NaN or outside [0, 1], or the
            lengths differ.

    Example:
        >>> error = smooth_calibration_error([0.9, 0.8], [1, 0])
        >>> round(error.smece, 4), round(error.over - error.under, 4)
        (0.35, 0.35)

    Reference:
        Blasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via
        Kernel Smoothing", ICLR 2024. The authors' package ``relplot`` sums
        over 200 points including both ends of [0, 1], so that it is wrong by
        some per cent where most confidences are near 0 or 1.
    """
    confidence = as_unit_interval('confidence', confidence)
    correct = as_unit_interval('correct', correct)
    check_same_length('confidence', confidence, 'correct', correct)
    if len(confidence) == 0:
        warnings.warn(
            'no samples were given, so the smooth calibration error is NaN',
            TcalDetWarning,
            stacklevel=2)
    return _measure(confidence, correct)


def detection_smooth_calibration_error(
        matches: DetectionMatches) -> FiguresByClass:
    """Smooth calibration error of detections, overall and of each class.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.

    Returns:
        FiguresByClass: :class:`SmoothCalibrationError` overall and of each
        class; NaN, with a warning, if no detection is counted.
    """
    return figures_by_class(matches, _measure, 'smECE')


def _measure(confidence: np.ndarray,
             correct: np.ndarray) -> SmoothCalibrationError:
    """Compute the smECE of checked samples."""
    num_samples = len(confidence)
    if num_samples == 0:
        nan = float('nan')
        return SmoothCalibrationError(nan, nan, nan, nan, num_samples=0)
    residual = (confidence - correct) / num_samples
    grid_size = _SMALLEST_GRID
    while True:
        smoother = _Smoother(confidence, residual, grid_size)
        bandwidth = smoother.fixed_point()
        fine_enough = _FINE_STEPS / bandwidth
        if grid_size >= min(fine_enough, _LARGEST_GRID):
            break
        while grid_size < min(fine_enough, _LARGEST_GRID):
            grid_size *= 2
    smoothed = smoother.smooth(bandwidth)
    over = float(np.maximum(smoothed, 0).sum())
    under = float(np.maximum(-smoothed, 0).sum())
    return SmoothCalibrationError(over + under, over, under, bandwidth,
                                  num_samples)


class _Smoother:
    """Residuals on a grid, which can be smoothed with any bandwidth.

    The reflected Gaussian kernel solves the heat equation on [0, 1] with
    insulated ends. Its modes are cosines: smoothing multiplies cos(k pi t) by
    exp(-(k pi s)^2 / 2).

    Args:
        confidence (ndarray): Confidences, shape (N,).
        residual (ndarray): Residuals divided by N, shape (N,).
        grid_size (int): Number of grid cells G; grid points are their centres.
    """

    def __init__(self, confidence: np.ndarray, residual: np.ndarray,
                 grid_size: int):
        self.smallest = _FEWEST_STEPS / grid_size
        # Each residual is split between its two neighbouring grid points so
        # that their weighted mean is its position; the error is of second
        # order. The grid is padded by a mirrored point at both ends.
        place = confidence * grid_size + 0.5
        left = place.astype(np.int64)
        right_share = residual * (place - left)
        padded = np.bincount(left, residual - right_share, grid_size + 2)
        padded += np.bincount(left + 1, right_share, grid_size + 2)
        padded[1] += padded[0]
        padded[-2] += padded[-1]
        self._modes = dct(padded[1:-1], type=2)
        self._decay = -0.5 * (np.pi * np.arange(grid_size))**2

    def smooth(self, bandwidth: float) -> np.ndarray:
        """Integral of the smoothed residuals over each cell, shape (G,)."""
        return idct(self._modes * np.exp(self._decay * bandwidth**2), type=2)

    def fixed_point(self) -> float:
        """Find the bandwidth that equals its smECE, or the smallest one."""

        def excess(bandwidth: float) -> float:
            return float(np.abs(self.smooth(bandwidth)).sum()) - bandwidth

        if excess(self.smallest) <= 0:
            return self.smallest
        # smECE never exceeds the mean absolute residual, which is at most 1.
        if excess(1.0) >= 0:
            return 1.0
        return float(brentq(excess, self.smallest, 1.0, xtol=1e-9))
