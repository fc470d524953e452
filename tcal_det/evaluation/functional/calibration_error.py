"""Calibration errors of a classifier.

Shapes:
    N: samples
    K: classes
    M: bins of equal width
    R: ranges of equal mass

Names:
    confidence: probability of the predicted class, shape (N,)
    correct: 1 where the prediction is right, else 0, shape (N,)
    probs: probabilities of all classes, shape (N, K)
    labels: true classes, shape (N,)
"""
import warnings
from dataclasses import dataclass
from typing import Any, Dict, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike

from tcal_det.checks import check_count
from tcal_det.errors import TcalDetWarning
from .array_checks import as_labels, as_unit_interval, check_same_length
from .binning import BinGrid, BinTable, make_bin_table

# Arrays with this many ranges for each class still fit into memory.
MAX_RANGES = 10**5


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """The calibration errors of one table of bins.

    Attributes:
        ece (float): Expected calibration error, over + under.
        over (float): Over-confident part of ``ece``.
        under (float): Under-confident part of ``ece``.
        mce (float): Maximum calibration error, the largest gap of a used bin.
        average (float): Mean gap over used bins, each with the same weight
            (Neumann's average calibration error; netcal's ``ACE``).
        coverage (float): Share of the samples that lie in used bins; 1
            unless bins with few samples were left out.
        renormalized (float): ``ece`` of only the samples in used bins.
        num_used (int): Number of used bins.
        bins (BinTable | BinGrid): Counts and means of each bin.
    """
    ece: float
    over: float
    under: float
    mce: float
    average: float
    coverage: float
    renormalized: float
    num_used: int
    bins: Union[BinTable, BinGrid]

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return self.bins.num_samples

    @classmethod
    def from_bins(cls,
                  bins: Union[BinTable, BinGrid],
                  min_samples: int = 1) -> 'CalibrationError':
        """Compute all figures from a bin table."""
        gaps = bins.summarize(min_samples)
        return cls(  # type: ignore[misc]  # the fields before num_used
            *(float(value) for value in gaps[:-1]),  # type: ignore[arg-type]
            num_used=int(gaps.num_used),
            bins=bins)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            ece=self.ece,
            over=self.over,
            under=self.under,
            mce=self.mce,
            average=self.average,
            coverage=self.coverage,
            renormalized=self.renormalized,
            num_used=self.num_used,
            num_samples=self.num_samples,
            bins=self.bins.to_dict())


@dataclass(frozen=True, eq=False)
class ClasswiseCalibrationError:
    """Calibration errors class by class, each over all samples.

    Attributes:
        ece (float): Mean of the errors of all classes.
        per_class (tuple[CalibrationError, ...]): Errors of each class.
    """
    ece: float
    per_class: Tuple[CalibrationError, ...]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            ece=self.ece,
            per_class=[error.to_dict() for error in self.per_class])


@dataclass(frozen=True, eq=False)
class AdaptiveCalibrationError:
    """Calibration error over ranges of equal mass.

    Attributes:
        ace (float): Mean of the errors of all classes.
        per_class (ndarray): Mean gap over the non-empty ranges of each class,
            shape (K,).
        count (ndarray): Number of samples per class and range, shape (K, R).
        mean_confidence (ndarray): Mean confidence per class and range, NaN in
            empty ranges, shape (K, R).
        mean_target (ndarray): Mean target per class and range, NaN in empty
            ranges, shape (K, R).
    """
    ace: float
    per_class: np.ndarray
    count: np.ndarray
    mean_confidence: np.ndarray
    mean_target: np.ndarray

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            ace=self.ace,
            per_class=self.per_class.tolist(),
            count=self.count.tolist(),
            mean_confidence=self.mean_confidence.tolist(),
            mean_target=self.mean_target.tolist())


def top_label(probs: ArrayLike,
              labels: ArrayLike) -> Tuple[np.ndarray, np.ndarray]:
    """Confidence of the predicted class, and whether it is the true class.

    Among equal probabilities the first class is the prediction.

    Args:
        probs (Sequence[Sequence[float]]): Probabilities of all classes, shape
            (N, K).
        labels (Sequence[int]): Class labels, shape (N,).

    Returns:
        tuple[ndarray, ndarray]: ``confidence`` and ``correct``, float64,
        shape (N,) each.

    Example:
        >>> top_label([[0.7, 0.3], [0.4, 0.6]], [0, 0])
        (array([0.7, 0.6]), array([1., 0.]))
    """
    probs, labels = _checked_probs(probs, labels)
    if len(probs) == 0:
        return np.zeros(0), np.zeros(0)
    correct = probs.argmax(axis=1) == labels
    return probs.max(axis=1), correct.astype(np.float64)


def calibration_error(confidence: ArrayLike,
                      correct: ArrayLike,
                      num_bins: int = 15,
                      closed: str = 'right') -> CalibrationError:
    """Expected and maximum calibration error over bins of equal width.

    ECE = sum over bins b of N_b / N * abs(conf_b - acc_b). The sign of the gap
    splits it into an over-confident part (conf_b > acc_b) and an
    under-confident part. For every number of bins ECE = over + under and
    over - under = mean confidence - accuracy.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets, 1 where right and 0 where wrong;
            fractions such as an IoU are allowed. Shape (N,).
        num_bins (int): Number of bins M. Defaults to 15.
        closed (str): Closed side of the bins: 'right' for (lo, hi], 'left' for
            [lo, hi), see :func:`bin_index`. Defaults to 'right'.

    Returns:
        CalibrationError: ``.ece``, ``.over``, ``.under``, ``.mce`` and
        ``.bins``; NaN, with a warning, when N = 0.

    Raises:
        InvalidValueError: If a value is NaN or outside [0, 1], or the
            lengths differ.

    Example:
        >>> error = calibration_error([0.9, 0.8, 0.3], [1, 0, 0], num_bins=2)
        >>> round(error.ece, 6), round(error.over, 6), error.bins.count
        (0.333333, 0.333333, array([1, 2]))

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
        Eq. 3 and 5.
    """
    confidence = as_unit_interval('confidence', confidence)
    correct = as_unit_interval('correct', correct)
    check_same_length('confidence', confidence, 'correct', correct)
    _warn_if_empty(confidence)
    table = make_bin_table(confidence, correct, num_bins, closed)
    return CalibrationError.from_bins(table)


def classwise_calibration_error(
        probs: ArrayLike,
        labels: ArrayLike,
        num_bins: int = 15,
        closed: str = 'right') -> ClasswiseCalibrationError:
    """Mean over classes k of the ECE of (probs[:, k], labels == k).

    Every class is measured on all N samples, so a class that never occurs is
    included as well.

    Args:
        probs (Sequence[Sequence[float]]): Probabilities in [0, 1], shape
            (N, K). Rows need not add up to 1 (sigmoid heads).
        labels (Sequence[int]): Class labels in [0, K), shape (N,).
        num_bins (int): Number of bins M. Defaults to 15.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.

    Returns:
        ClasswiseCalibrationError: ``.ece`` and ``.per_class``; NaN, with a
        warning, when N = 0.

    Example:
        >>> probs = [[0.8, 0.2], [0.4, 0.6]]
        >>> round(classwise_calibration_error(probs, [0, 1]).ece, 6)
        0.3

    Reference:
        Kull et al., "Beyond temperature scaling", NeurIPS 2019, section 2
        (classwise-ECE); Nixon et al., "Measuring Calibration in Deep
        Learning", CVPR Workshops 2019 (SCE).
    """
    probs, labels = _checked_probs(probs, labels)
    _warn_if_empty(probs)
    per_class = tuple(
        CalibrationError.from_bins(
            make_bin_table(probs[:, k], (
                labels == k).astype(np.float64), num_bins, closed))
        for k in range(probs.shape[1]))
    ece = float(np.mean([error.ece for error in per_class]))
    return ClasswiseCalibrationError(ece, per_class)


def adaptive_calibration_error(
        probs: ArrayLike,
        labels: ArrayLike,
        num_ranges: int = 15) -> AdaptiveCalibrationError:
    """Mean gap over classes and over ranges of equal mass (ACE).

    For each class, the N probabilities are sorted and cut into R ranges
    [floor(r N / R), floor((r + 1) N / R)). The error of the class is the
    unweighted mean of abs(mean confidence - mean target) over its non-empty
    ranges. Samples of equal probability get the mean of their targets, so
    their order does not matter. This is not netcal's ``ACE``, which is the
    ``average`` of :class:`CalibrationError`.

    Args:
        probs (Sequence[Sequence[float]]): Probabilities in [0, 1], shape
            (N, K).
        labels (Sequence[int]): Class labels in [0, K), shape (N,).
        num_ranges (int): Number of ranges R, in [1, 100000]. Defaults to
            15.

    Returns:
        AdaptiveCalibrationError: ``.ace``, ``.per_class`` and the ranges;
        NaN, with a warning, when N = 0.

    Example:
        >>> probs = [[0.8, 0.2], [0.4, 0.6]]
        >>> round(adaptive_calibration_error(probs, [0, 1]).ace, 6)
        0.3

    Reference:
        Nixon et al., "Measuring Calibration in Deep Learning", CVPR Workshops
        2019 (ACE).
    """
    probs, labels = _checked_probs(probs, labels)
    check_count('num_ranges', num_ranges, 1, MAX_RANGES)
    _warn_if_empty(probs)
    num_classes = probs.shape[1]
    shape = (num_classes, num_ranges)
    count = np.zeros(shape, dtype=np.int64)
    mean_confidence, mean_target = np.zeros(shape), np.zeros(shape)
    for k in range(num_classes):
        count[k], mean_confidence[k], mean_target[k] = _equal_mass_ranges(
            probs[:, k], (labels == k).astype(np.float64), num_ranges)
    gap = np.where(count > 0, np.abs(mean_confidence - mean_target), 0.0)
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: no sample
        per_class = gap.sum(axis=1) / (count > 0).sum(axis=1)
    return AdaptiveCalibrationError(
        float(per_class.mean()), per_class, count, mean_confidence,
        mean_target)


def adaptive_top_label_calibration_error(confidence: ArrayLike,
                                         correct: ArrayLike,
                                         num_ranges: int = 15) -> float:
    """ECE of the predicted class over ranges of equal mass.

    This is often called ACE as well. The ranges are those of
    :func:`adaptive_calibration_error`, weighted by their samples.

    Args:
        confidence (Sequence[float]): Confidences in [0, 1], shape (N,).
        correct (Sequence[float]): Targets in [0, 1], shape (N,).
        num_ranges (int): Number of ranges R, in [1, 100000]. Defaults to
            15.

    Returns:
        float: Calibration error; NaN, with a warning, when N = 0.
    """
    confidence = as_unit_interval('confidence', confidence)
    correct = as_unit_interval('correct', correct)
    check_same_length('confidence', confidence, 'correct', correct)
    check_count('num_ranges', num_ranges, 1, MAX_RANGES)
    if _warn_if_empty(confidence):
        return float('nan')
    count, mean_confidence, mean_target = _equal_mass_ranges(
        confidence, correct, num_ranges)
    gap = np.where(count > 0, np.abs(mean_confidence - mean_target), 0.0)
    return float((count * gap).sum() / count.sum())


def _equal_mass_ranges(
        confidence: np.ndarray, target: np.ndarray,
        num_ranges: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean confidence and mean target per range, shape (R,) each."""
    num_samples = len(confidence)
    order = np.argsort(confidence, kind='stable')
    confidence = confidence[order]
    target = _tied_means(confidence, target[order])
    cuts = np.arange(num_ranges + 1) * num_samples // num_ranges
    count = np.diff(cuts)
    range_index = np.repeat(np.arange(num_ranges), count)
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: an empty range
        return (count,
                np.bincount(range_index, confidence, num_ranges) / count,
                np.bincount(range_index, target, num_ranges) / count)


def _tied_means(sorted_keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace the values of equal keys by their mean."""
    if len(values) == 0:
        return values
    is_first = np.append(True, sorted_keys[1:] != sorted_keys[:-1])
    group = np.cumsum(is_first) - 1
    return (np.bincount(group, values) / np.bincount(group))[group]


def _checked_probs(probs: ArrayLike,
                   labels: ArrayLike) -> Tuple[np.ndarray, np.ndarray]:
    probs = as_unit_interval('probs', probs, ndim=2)
    check_count('number of columns of probs', probs.shape[1])
    return probs, as_labels('labels', labels, *probs.shape)


def _warn_if_empty(samples: np.ndarray) -> bool:
    if len(samples) == 0:
        warnings.warn(
            'no samples were given, so the calibration error is NaN',
            TcalDetWarning,
            stacklevel=3)
    return len(samples) == 0
