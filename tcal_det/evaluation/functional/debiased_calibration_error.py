"""Binned calibration errors without the bias that noise in the bins causes.

The mean target of a bin of n samples is noisy, and noise does not cancel in a
square or an absolute value. So the plain errors of a calibrated model are
above 0, and they grow as bins have fewer samples.

Shapes:
    N: samples
    M: bins
"""
import warnings
from dataclasses import dataclass
from typing import Any, Dict

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf

from tcal_det.errors import InvalidValueError, TcalDetWarning
from .array_checks import as_unit_interval, check_same_length
from .binning import BinTable, make_bin_table
from .class_figures import FiguresByClass, figures_by_class
from .matching import DetectionMatches

# The variance of a bin cannot be estimated from one sample.
_FEWEST_SAMPLES = 2


@dataclass(frozen=True, eq=False)
class DebiasedCalibrationError:
    """Calibration errors corrected for the noise of the bins' mean targets.

    Bins with one sample have no error, but their samples stay in the
    denominator: read ``coverage`` together with the errors. If ``coverage`` is
    0, all other figures are NaN.

    Attributes:
        squared (float): Estimate of the mean squared gap. It is unbiased if
            the confidences in a bin are equal, otherwise slightly too low. It
            can be negative.
        l2 (float): ``sqrt(max(squared, 0))``.
        ece (float): Estimate of the mean absolute gap (ECE), corrected by a
            normal approximation. It can be negative.
        plain_squared (float): Mean squared gap without correction.
        plain_ece (float): ECE without correction.
        coverage (float): Share of the samples in bins with two or more
            samples.
        bins (BinTable): Counts and means of each bin.
    """
    squared: float
    l2: float
    ece: float
    plain_squared: float
    plain_ece: float
    coverage: float
    bins: BinTable

    @classmethod
    def from_bins(cls, bins: BinTable) -> 'DebiasedCalibrationError':
        """Compute all figures from a bin table.

        Args:
            bins (BinTable): Bin table of targets that are 0 or 1, such as that
                of :func:`detection_calibration_error` (but not that of LaECE).
        """
        num_samples = bins.num_samples
        nan = float('nan')
        if num_samples == 0:
            return cls(nan, nan, nan, nan, nan, nan, bins)
        used = bins.count >= _FEWEST_SAMPLES
        if not used.any():  # empty sums would look perfect
            return cls(nan, nan, nan, nan, nan, 0.0, bins)
        count = bins.count[used]
        share = count / num_samples
        gap = np.abs(bins.gap[used])
        # Rounding may make a mean slightly larger than 1.
        target = np.clip(bins.mean_target[used], 0, 1)
        spread = target * (1 - target)
        plain_squared = float(share @ gap**2)
        plain_ece = float(share @ gap)
        squared = plain_squared - float(share @ (spread / (count - 1)))
        noisy_gap = _mean_absolute_normal(gap, np.sqrt(spread / count))
        return cls(
            squared=squared,
            l2=max(squared, 0.0)**0.5,
            ece=2 * plain_ece - float(share @ noisy_gap),
            plain_squared=plain_squared,
            plain_ece=plain_ece,
            coverage=float(share.sum()),
            bins=bins)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            squared=self.squared,
            l2=self.l2,
            ece=self.ece,
            plain_squared=self.plain_squared,
            plain_ece=self.plain_ece,
            coverage=self.coverage,
            bins=self.bins.to_dict())


def debiased_calibration_error(
        confidence: ArrayLike,
        correct: ArrayLike,
        num_bins: int = 15,
        closed: str = 'right') -> DebiasedCalibrationError:
    """Calibration errors of bins of equal width, corrected for their noise.

    With n_b samples, mean confidence c_b and mean target t_b in bin b, and
    g_b = abs(c_b - t_b):

        squared = sum n_b / N (g_b^2 - t_b (1 - t_b) / (n_b - 1))
        ece = sum n_b / N (2 g_b - E abs(X_b)),

    where X_b is normal with mean g_b and variance t_b (1 - t_b) / n_b.
    E abs(X_b) - g_b estimates how much the noise adds to g_b. ``squared`` is
    unbiased, because t_b (1 - t_b) / (n_b - 1) is an unbiased estimate of the
    variance of t_b. So it can be compared between data sets of different size.
    ``ece`` removes about 40 % of the bias of a calibrated bin, where the bias
    is largest, and slightly too much where the gap is about as large as its
    noise.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets, 1 where right and 0 where wrong,
            shape (N,).
        num_bins (int): Number of bins M, in [1, 1000]. Defaults to 15.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.

    Returns:
        DebiasedCalibrationError: ``.squared``, ``.l2``, ``.ece`` and
        ``.bins``; NaN, with a warning, when N = 0.

    Raises:
        InvalidTypeError: If the values are not numbers.
        InvalidValueError: If a value is NaN or outside [0, 1], ``correct``
            has fractions, the lengths differ or an option is out of range.

    Example:
        >>> error = debiased_calibration_error(
        ...     [.5, .5, .5, .5], [1, 1, 1, 0], num_bins=1)
        >>> error.plain_squared, error.squared
        (0.0625, 0.0)

    Reference:
        Kumar, Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019,
        section 4 (squared), and the authors' package
        ``uncertainty-calibration`` (ece, there by simulation). The same
        correction is in Broecker, "Estimating reliability and resolution of
        probability forecasts", Climate Dynamics 2012, and in Ferro and
        Fricker, "A bias-corrected decomposition of the Brier score", QJRMS
        2012.
    """
    confidence = as_unit_interval('confidence', confidence)
    correct = as_unit_interval('correct', correct)
    check_same_length('confidence', confidence, 'correct', correct)
    if not np.isin(correct, (0.0, 1.0)).all():
        raise InvalidValueError('`correct` must hold only 0 and 1, but got '
                                'fractions; use calibration_error for these')
    if len(confidence) == 0:
        warnings.warn(
            'no samples were given, so the debiased calibration error is NaN',
            TcalDetWarning,
            stacklevel=2)
    return DebiasedCalibrationError.from_bins(
        make_bin_table(confidence, correct, num_bins, closed))


def detection_debiased_calibration_error(
        matches: DetectionMatches,
        num_bins: int = 10,
        closed: str = 'right') -> FiguresByClass:
    """Debiased calibration errors of the bins of D-ECE.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.
        num_bins (int): Number of bins, in [1, 1000]. Defaults to 10.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.

    Returns:
        FiguresByClass: :class:`DebiasedCalibrationError` overall and of each
        class; NaN, with a warning, if no detection is counted.
    """

    def measure(scores: np.ndarray,
                is_tp: np.ndarray) -> DebiasedCalibrationError:
        return DebiasedCalibrationError.from_bins(
            make_bin_table(scores, is_tp, num_bins, closed))

    return figures_by_class(matches, measure, 'the debiased D-ECE')


def _mean_absolute_normal(mean: np.ndarray,
                          deviation: np.ndarray) -> np.ndarray:
    """E abs(X) of normal X: the mean of the folded normal distribution."""
    with np.errstate(divide='ignore', invalid='ignore'):
        z = mean / deviation
        folded = (
            deviation * np.sqrt(2 / np.pi) * np.exp(-0.5 * z**2) +
            mean * erf(z / np.sqrt(2)))
    return np.where(deviation > 0, folded, mean)
