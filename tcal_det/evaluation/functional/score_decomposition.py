r"""Decompositions of the Brier and the log score.

They separate the part of a mean score that comes from miscalibration from the
part that would remain after calibration.

Shapes:
    N: samples
    M: bins

Names:
    confidence: predicted probability of being right, shape (N,)
    correct: 1 where right, else 0, or a fraction such as an IoU, shape (N,)
    recalibrated: the isotonic regression of ``correct`` on ``confidence``
"""
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from tcal_det.errors import TcalDetWarning
from .array_checks import as_unit_interval, check_same_length
from .binning import BinTable, _bin_index, make_bin_table
from .class_figures import FiguresByClass, figures_by_class
from .isotonic import IsotonicFit, isotonic_regression
from .matching import DetectionMatches
from .scoring_rules import SMALLEST_LIKELIHOOD

# Function from forecasts and outcomes, shape (N,) each, to their mean score.
_MeanScore = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, eq=False)
class ScoreDecomposition:
    """CORP: score = miscalibration - discrimination + uncertainty.

    Attributes:
        score (float): Mean score of the confidences, lower is better.
        miscalibration (float): Decrease of the score by isotonic
            recalibration, >= 0; exactly 0 if recalibration changes nothing.
            Lower is better.
        discrimination (float): Decrease of the score from one constant to the
            recalibrated confidences, >= 0. Higher is better. It depends only
            on the order of the confidences.
        uncertainty (float): Mean score of a constant confidence that equals
            the mean of ``correct``. It does not depend on the confidences.
        curve (IsotonicFit): Recalibrated confidences, which are the CORP
            reliability diagram.
    """
    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float
    curve: IsotonicFit

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            score=self.score,
            miscalibration=self.miscalibration,
            discrimination=self.discrimination,
            uncertainty=self.uncertainty,
            curve=self.curve.to_dict())


@dataclass(frozen=True, eq=False)
class BinnedScoreDecomposition:
    """Brier score = reliability - resolution + uncertainty + within-bin terms.

    Attributes:
        score (float): Brier score = ``reliability - resolution +
            uncertainty + within_bin_variance - within_bin_covariance``.
        reliability (float): Mean squared gap of the bins. Lower is better.
        resolution (float): Variance of the mean targets of the bins. Higher is
            better.
        uncertainty (float): Variance of ``correct``.
        within_bin_variance (float): Variance of the confidences inside
            bins.
        within_bin_covariance (float): Twice the covariance of confidence
            and ``correct`` inside bins.
        bins (BinTable): Counts and means of each bin.
    """
    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin_variance: float
    within_bin_covariance: float
    bins: BinTable

    @property
    def generalized_resolution(self) -> float:
        """Resolution with the within-bin terms: score = rel - this + unc."""
        return (self.resolution - self.within_bin_variance +
                self.within_bin_covariance)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            score=self.score,
            reliability=self.reliability,
            resolution=self.resolution,
            uncertainty=self.uncertainty,
            within_bin_variance=self.within_bin_variance,
            within_bin_covariance=self.within_bin_covariance,
            generalized_resolution=self.generalized_resolution,
            bins=self.bins.to_dict())


def brier_score_decomposition(confidence: ArrayLike,
                              correct: ArrayLike) -> ScoreDecomposition:
    """Split the Brier score by isotonic recalibration (CORP).

    With S the mean of (forecast - correct)^2, r the recalibrated
    confidences and m the mean of ``correct``:
    MCB = S(confidence) - S(r), DSC = S(m) - S(r), UNC = S(m), so that
    S(confidence) = MCB - DSC + UNC. There are no bins to choose. With few
    samples, isotonic regression fits the noise, so that MCB and DSC are both
    too large.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets in [0, 1], shape (N,).

    Returns:
        ScoreDecomposition: NaN, with a warning, when N = 0.

    Raises:
        InvalidTypeError: If the values are not numbers.
        InvalidValueError: If a value is NaN or outside [0, 1], or the
            lengths differ.

    Example:
        >>> parts = brier_score_decomposition([.1, .2, .3, .9], [0, 1, 0, 1])
        >>> round(parts.miscalibration, 4), round(parts.discrimination, 4)
        (0.0625, 0.125)
        >>> round(parts.uncertainty, 4), round(parts.score, 4)
        (0.25, 0.1875)

    Reference:
        Dimitriadis, Gneiting and Jordan, "Stable reliability diagrams for
        probabilistic classifiers", PNAS 2021.
    """
    return _decompose(*_checked(confidence, correct), _mean_squared_error)


def log_score_decomposition(confidence: ArrayLike,
                            correct: ArrayLike) -> ScoreDecomposition:
    """Split the log score, in nats, by isotonic recalibration (CORP).

    As in :func:`brier_score_decomposition`, but S is the mean of -correct
    log(f) - (1 - correct) log(1 - f), where likelihoods below 2.2e-16 are
    raised to 2.2e-16, as in :func:`binary_negative_log_likelihood`. The same
    recalibration is optimal for both scores.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets in [0, 1], shape (N,).

    Returns:
        ScoreDecomposition: NaN, with a warning, when N = 0.
    """
    return _decompose(*_checked(confidence, correct), _mean_log_score)


def detection_brier_score_decomposition(
        matches: DetectionMatches) -> FiguresByClass:
    """Split the Brier score of detections by isotonic recalibration (CORP).

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.

    Returns:
        FiguresByClass: :class:`ScoreDecomposition` overall and of each class;
        NaN, with a warning, if no detection is counted.
    """
    return figures_by_class(
        matches,
        lambda scores, is_tp: _decompose(scores, is_tp, _mean_squared_error),
        'the decomposition of the Brier score')


def binned_brier_score_decomposition(
        confidence: ArrayLike,
        correct: ArrayLike,
        num_bins: int = 10,
        closed: str = 'right') -> BinnedScoreDecomposition:
    """Split the Brier score by bins of equal width (Murphy, Stephenson).

    With n_b samples, mean confidence c_b and mean target t_b in bin b, and
    mean target t of all N samples:
    reliability = sum n_b / N (c_b - t_b)^2,
    resolution = sum n_b / N (t_b - t)^2, uncertainty = mean (correct - t)^2.
    These three add up to the score only if the confidences within each bin are
    equal; two terms for the variation within bins complete the sum.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets in [0, 1], shape (N,).
        num_bins (int): Number of bins M, in [1, 1000]. Defaults to 10.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.

    Returns:
        BinnedScoreDecomposition: NaN, with a warning, when N = 0.

    Raises:
        InvalidTypeError: If the values are not numbers.
        InvalidValueError: If a value is NaN or outside [0, 1], the lengths
            differ or an option is out of range.

    Reference:
        Murphy, "A new vector partition of the probability score", Journal of
        Applied Meteorology 1973; Stephenson, Coelho and Jolliffe, "Two extra
        components in the Brier score decomposition", Weather and Forecasting
        2008.
    """
    confidence, correct = _checked(confidence, correct)
    bins = make_bin_table(confidence, correct, num_bins, closed)
    if len(confidence) == 0:
        nan = float('nan')
        return BinnedScoreDecomposition(nan, nan, nan, nan, nan, nan, bins)
    index = _bin_index(confidence, num_bins, closed)
    confidence_off = confidence - bins.mean_confidence[index]
    correct_off = correct - bins.mean_target[index]
    base_rate = correct.mean()
    used = bins.count > 0
    share = bins.count[used] / len(confidence)
    return BinnedScoreDecomposition(
        score=_mean_squared_error(confidence, correct),
        reliability=float(share @ bins.gap[used]**2),
        resolution=float(share @ (bins.mean_target[used] - base_rate)**2),
        uncertainty=float(np.mean((correct - base_rate)**2)),
        within_bin_variance=float(np.mean(confidence_off**2)),
        within_bin_covariance=float(2 * np.mean(confidence_off * correct_off)),
        bins=bins)


def _decompose(confidence: np.ndarray, correct: np.ndarray,
               mean_score: _MeanScore) -> ScoreDecomposition:
    """CORP decomposition of checked samples."""
    curve = isotonic_regression(confidence, correct)
    if len(confidence) == 0:
        nan = float('nan')
        return ScoreDecomposition(nan, nan, nan, nan, curve)
    recalibrated = curve.value[np.searchsorted(curve.upper, confidence)]
    score = mean_score(confidence, correct)
    best = mean_score(recalibrated, correct)
    uncertainty = mean_score(np.full_like(correct, correct.mean()), correct)
    return ScoreDecomposition(score, score - best, uncertainty - best,
                              uncertainty, curve)


def _mean_squared_error(forecast: np.ndarray, correct: np.ndarray) -> float:
    return float(np.mean((forecast - correct)**2))


def _mean_log_score(forecast: np.ndarray, correct: np.ndarray) -> float:
    likelihoods = (
        np.maximum(part, SMALLEST_LIKELIHOOD)
        for part in (forecast, 1 - forecast))
    return float(-np.mean(
        sum(
            xlogy(weight, likelihood)
            for weight, likelihood in zip((correct,
                                           1 - correct), likelihoods))))


def _checked(confidence: ArrayLike,
             correct: ArrayLike) -> Tuple[np.ndarray, np.ndarray]:
    confidence = as_unit_interval('confidence', confidence)
    correct = as_unit_interval('correct', correct)
    check_same_length('confidence', confidence, 'correct', correct)
    if len(confidence) == 0:
        warnings.warn(
            'no samples were given, so the score is NaN',
            TcalDetWarning,
            stacklevel=3)
    return confidence, correct
