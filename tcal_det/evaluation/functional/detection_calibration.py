"""Calibration errors of a detector: D-ECE, LaECE and LaACE.

All of them use one :class:`DetectionMatches`. Ignored and dropped detections
are not part of any sum.

Shapes:
    D: detections
    K: classes
    M: bins
    F: features of a D-ECE cell (the score and box features)

Names:
    precision: share of true positives among the counted detections
    localization quality: IoU with the matched object, 0 for a false positive
"""
import warnings
from dataclasses import dataclass
from typing import Any, Dict, NamedTuple, Sequence, Tuple, Union

import numpy as np

from tcal_det.checks import check_choice, check_count
from tcal_det.errors import InvalidValueError, TcalDetWarning
from .binning import (CLOSED_SIDES, MAX_BINS, BinGrid, BinTable, CellSums,
                      _bin_index, bin_edges, cell_sums, summarize_gaps)
from .calibration_error import CalibrationError
from .matching import DetectionMatches, check_matches
from .undefined_values import mean_of_defined

BOX_FEATURES = ('cx', 'cy', 'w', 'h')
# If fewer detections than this share lie in used cells, D-ECE is not
# meaningful.
_LOW_COVERAGE = 0.5
# Maximum number of cells of all classes: more would need gigabytes.
MAX_CELLS = 10**7


@dataclass(frozen=True, eq=False)
class DetectionCalibrationError(CalibrationError):
    """D-ECE of all classes together, and of each class.

    The other attributes are those of :class:`CalibrationError`.

    Attributes:
        per_class (tuple[CalibrationError, ...]): D-ECE of each class; NaN for
            a class without counted detections.
    """
    per_class: Tuple[CalibrationError, ...] = ()

    @property
    def class_mean(self) -> float:
        """Mean over the classes that have counted detections."""
        return mean_of_defined([error.ece for error in self.per_class])

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            super().to_dict(),
            class_mean=self.class_mean,
            per_class=[error.to_dict() for error in self.per_class])


@dataclass(frozen=True, eq=False)
class LocalizationAwareError:
    """LaECE: confidence against precision times IoU, class by class.

    Attributes:
        laece (float): Mean over the measured classes, which have objects and
            counted detections.
        over (float): Mean of the over-confident parts of the measured classes.
        under (float): Mean of the under-confident parts of the measured
            classes.
        num_classes (int): Number of measured classes.
        per_class (tuple[CalibrationError, ...]): Error of each class; NaN for
            a class that is not measured. Its bin table may still contain
            detections.
        bins (BinTable): Bin table of the detections of all classes.
    """
    laece: float
    over: float
    under: float
    num_classes: int
    per_class: Tuple[CalibrationError, ...]
    bins: BinTable

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            laece=self.laece,
            over=self.over,
            under=self.under,
            num_classes=self.num_classes,
            per_class=[error.to_dict() for error in self.per_class],
            bins=self.bins.to_dict())


class LocalizationAwareAdaptiveError(NamedTuple):
    """LaACE: LaECE where every detection is a bin of its own.

    Attributes:
        laace (float): Mean over the measured classes, as in LaECE.
        num_classes (int): Number of measured classes.
        per_class (ndarray): Error of each class, NaN for a class that is not
            measured, shape (K,).
    """
    laace: float
    num_classes: int
    per_class: np.ndarray


def relative_box_features(boxes: np.ndarray,
                          image_sizes: np.ndarray,
                          names: Sequence[str] = BOX_FEATURES) -> np.ndarray:
    """Box centre and size as fractions of the image, clipped to [0, 1].

    Args:
        boxes (ndarray): Boxes as x, y, width, height, shape (D, 4).
        image_sizes (ndarray): Width and height of each box's image, shape
            (D, 2).
        names (Sequence[str]): Names of the features, any of 'cx', 'cy', 'w',
            'h'. Defaults to all of them.

    Returns:
        ndarray: Features, NaN where the image size is unknown, shape
        (D, len(names)).

    Example:
        >>> box, size = np.array([[10, 10, 20, 20]]), np.array([[100, 40]])
        >>> relative_box_features(box, size)
        array([[0.2, 0.5, 0.2, 0.5]])
    """
    x, y, width, height = np.asarray(boxes, dtype=np.float64).T
    image_width, image_height = np.asarray(image_sizes, dtype=np.float64).T
    features = dict(
        cx=lambda: (x + width / 2) / image_width,
        cy=lambda: (y + height / 2) / image_height,
        w=lambda: width / image_width,
        h=lambda: height / image_height)
    for name in names:
        check_choice('features', name, BOX_FEATURES)
    columns = [np.clip(features[name](), 0, 1) for name in names]
    return np.stack(columns, axis=1) if columns else np.zeros((len(x), 0))


def detection_calibration_error(
        matches: DetectionMatches,
        num_bins: Union[int, Sequence[int]] = 10,
        closed: str = 'right',
        features: Sequence[str] = (),
        min_samples: int = 1) -> DetectionCalibrationError:
    """D-ECE: score against precision, in cells of score and box features.

    D-ECE = sum over cells c of N_c / N * abs(mean score - precision), for all
    classes together; a detection of a class without objects is a false
    positive. A cell with fewer than ``min_samples`` detections counts as
    perfectly calibrated, as in netcal, so that values agree: read
    ``.coverage`` together with ``.ece``, or use ``.renormalized``.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.
        num_bins (int | Sequence[int]): Number of bins of equal width, one
            number or one for each dimension, with the score first. Defaults to
            10.
        closed (str): Closed side of the bins: 'right' for (lo, hi], 'left' for
            [lo, hi) as in netcal. Defaults to 'right'.
        features (Sequence[str]): Features of the predicted box, relative to
            its image, that define the cells together with the score; any of
            'cx', 'cy', 'w', 'h'. Defaults to (), which means the score only.
        min_samples (int): Minimum number of detections of a used cell.
            Defaults to 1; the paper uses 8 for box features.

    Returns:
        DetectionCalibrationError: ``.ece``, ``.over``, ``.under``,
        ``.coverage``, ``.bins`` (a BinTable, or a BinGrid if there are
        features) and ``.per_class``; NaN, with a warning, if no detection is
        counted.

    Raises:
        InvalidValueError: If an option is out of range, or features are
            requested and the size of an image is unknown.

    Reference:
        Kueppers et al., "Multivariate Confidence Calibration for Object
        Detection", CVPR Workshops 2020, Eq. 5.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth, match_detections)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7], class_names={1: 'cell'})
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> matches = match_detections(ground_truth, detections, iou_thr=0.5)
        >>> error = detection_calibration_error(matches)
        >>> round(error.ece, 4)  # (|.9-1| + |.6-1| + |.3-0|) / 3
        0.2667
        >>> round(error.over, 4), round(error.under, 4)
        (0.1, 0.1667)
    """
    check_matches(matches)
    check_choice('closed', closed, CLOSED_SIDES)
    check_count('min_samples', min_samples)
    counted = matches.is_counted
    scores = matches.scores[counted]
    columns = scores[:, None]
    if len(features) > 0:
        box_columns = relative_box_features(matches.boxes[counted],
                                            matches.image_sizes[counted],
                                            features)
        if np.isnan(box_columns).any():
            raise InvalidValueError(
                '`features` need the width and height of every image, but '
                'some images in the annotations have none; add them, or do '
                'not use features')
        columns = np.concatenate((columns, box_columns), axis=1)
    shape = _bins_per_dimension(num_bins, columns.shape[1])
    _check_num_cells(shape, matches.num_classes)

    cell = np.zeros(len(scores), dtype=np.int64)
    for column, bins in zip(columns.T, shape):
        cell = cell * bins + _bin_index(column, bins, closed)
    sums = _sums_by_class(matches.class_index[counted], matches.num_classes,
                          cell, int(np.prod(shape)), scores,
                          matches.is_tp[counted].astype(np.float64))
    edges = tuple(bin_edges(bins) for bins in shape)

    def as_bins(cells: CellSums) -> Union[BinTable, BinGrid]:
        if len(features) == 0:
            return BinTable(edges[0], *cells.means(), closed=closed)
        count, mean_confidence, mean_target = (
            part.reshape(shape) for part in cells.means())
        return BinGrid(('score', *features), edges, count, mean_confidence,
                       mean_target, closed)

    if len(scores) == 0:
        warnings.warn(
            'no detection is counted, so D-ECE is NaN',
            TcalDetWarning,
            stacklevel=2)
    pooled = CalibrationError.from_bins(
        as_bins(CellSums(*(part.sum(axis=0) for part in sums))), min_samples)
    if pooled.coverage < _LOW_COVERAGE:
        warnings.warn(
            f'only {pooled.coverage:.1%} of the detections lie in cells of '
            f'at least {min_samples} detections, and D-ECE counts the others '
            'as perfectly calibrated; use fewer bins or more images',
            TcalDetWarning,
            stacklevel=2)
    per_class = _errors_by_row(sums, as_bins, min_samples)
    return DetectionCalibrationError(**vars(pooled), per_class=per_class)


def laece(matches: DetectionMatches,
          num_bins: int = 25,
          closed: str = 'right',
          normalize_iou: bool = False) -> LocalizationAwareError:
    """LaECE: score against precision times IoU, mean over classes.

    For each class, LaECE = sum over bins b of N_b / N * abs(mean score - mean
    localization quality), where the quality is the IoU of a true positive and
    0 for a false positive. Matches at threshold .1 give LaECE (Oksuz 2023), at
    0 LaECE_0 (Kuzucu 2024). Classes without objects or without counted
    detections are not part of the mean, while a class with error 0 is. So
    removing all detections of a badly calibrated class lowers the value: read
    ``.num_classes`` and LRP together with it.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold.
        num_bins (int): Number of bins of equal width. Defaults to 25.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.
        normalize_iou (bool): Whether the quality is (IoU - thr) / (1 - thr),
            as in the text of Oksuz et al.; their released code uses the plain
            IoU. Defaults to False.

    Returns:
        LocalizationAwareError: ``.laece``, ``.per_class``, ``.bins``; NaN,
        with a warning, if no class can be measured.

    Reference:
        Oksuz et al., "Towards Building Self-Aware Object Detectors", CVPR
        2023; Kuzucu et al., "On Calibration of Object Detectors", ECCV 2024.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth, match_detections)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7], class_names={1: 'cell'})
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> matches = match_detections(ground_truth, detections, iou_thr=0.1)
        >>> round(laece(matches).laece, 4)  # (|.9-1| + |.6-.8| + |.3-0|) / 3
        0.2
    """
    check_matches(matches)
    check_choice('closed', closed, CLOSED_SIDES)
    check_count('num_bins', num_bins, 1, MAX_BINS)
    _check_num_cells((num_bins, ), matches.num_classes)
    counted = matches.is_counted
    scores = matches.scores[counted]
    class_index = matches.class_index[counted]
    sums = _sums_by_class(
        class_index, matches.num_classes, _bin_index(scores, num_bins, closed),
        num_bins, scores,
        _localization_quality(matches, normalize_iou)[counted])
    edges = bin_edges(num_bins)

    def as_bins(cells: CellSums) -> BinTable:
        return BinTable(edges, *cells.means(), closed=closed)

    is_measured = (matches.num_objects > 0) & (sums.count.sum(axis=1) > 0)
    per_class = _errors_by_row(sums, as_bins, 1, is_measured)
    _warn_if_no_class(is_measured, 'LaECE')
    return LocalizationAwareError(
        laece=mean_of_defined([error.ece for error in per_class]),
        over=mean_of_defined([error.over for error in per_class]),
        under=mean_of_defined([error.under for error in per_class]),
        num_classes=int(is_measured.sum()),
        per_class=per_class,
        bins=as_bins(CellSums(*(part.sum(axis=0) for part in sums))))


def laace(matches: DetectionMatches,
          normalize_iou: bool = False) -> LocalizationAwareAdaptiveError:
    """LaACE: LaECE with one bin for every detection.

    For each class it is the mean of abs(score - localization quality), which
    is never below the LaECE of the class. The same classes as in :func:`laece`
    are measured.

    Args:
        matches (DetectionMatches): Matches at IoU threshold 0 for LaACE_0.
        normalize_iou (bool): Whether to normalise the IoU, see :func:`laece`.
            Defaults to False.

    Returns:
        LocalizationAwareAdaptiveError: ``.laace``, ``.per_class``; NaN,
        with a warning, if no class can be measured.

    Reference:
        Kuzucu et al., "On Calibration of Object Detectors", ECCV 2024.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth, match_detections)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7], class_names={1: 'cell'})
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> matches = match_detections(ground_truth, detections, iou_thr=0.0)
        >>> round(laace(matches).laace, 4)  # (|.9-1| + |.6-.8| + |.3-0|) / 3
        0.2
    """
    check_matches(matches)
    counted = matches.is_counted
    gap = np.abs(matches.scores -
                 _localization_quality(matches, normalize_iou))[counted]
    class_index = matches.class_index[counted]
    count = np.bincount(class_index, minlength=matches.num_classes)
    total = np.bincount(class_index, gap, minlength=matches.num_classes)
    is_measured = (matches.num_objects > 0) & (count > 0)
    per_class = np.full(matches.num_classes, np.nan)
    per_class[is_measured] = total[is_measured] / count[is_measured]
    _warn_if_no_class(is_measured, 'LaACE')
    return LocalizationAwareAdaptiveError(
        mean_of_defined(per_class), int(is_measured.sum()), per_class)


def _localization_quality(matches: DetectionMatches,
                          normalize_iou: bool) -> np.ndarray:
    """Target of the scores in LaECE, shape (D,)."""
    if not normalize_iou:
        return matches.iou
    normalized = (matches.iou - matches.iou_thr) / (1 - matches.iou_thr)
    return np.where(matches.is_tp, normalized, 0.0)


def _bins_per_dimension(num_bins: Union[int, Sequence[int]],
                        num_dims: int) -> Tuple[int, ...]:
    if isinstance(num_bins, (list, tuple)):
        if len(num_bins) != num_dims:
            raise InvalidValueError(
                '`num_bins` must be one number or one for each of the '
                f'{num_dims} dimension(s), the score first, but got '
                f'{num_bins!r}')
        return tuple(
            check_count('num_bins', bins, 1, MAX_BINS) for bins in num_bins)
    # Another sequence is refused, which is the point.
    bins: Any = num_bins
    return (check_count('num_bins', bins, 1, MAX_BINS), ) * num_dims


def _check_num_cells(shape: Sequence[int], num_classes: int) -> None:
    num_cells = num_classes
    for bins in shape:
        num_cells *= bins  # Python integers: no overflow
    if num_cells > MAX_CELLS:
        raise InvalidValueError(
            f'`num_bins` must give at most {MAX_CELLS} cells over all '
            f'classes, but got {num_cells}; use fewer bins or features')


def _sums_by_class(class_index: np.ndarray, num_classes: int, cell: np.ndarray,
                   num_cells: int, scores: np.ndarray,
                   target: np.ndarray) -> CellSums:
    """Sum samples by class and cell, fields of shape (K, num_cells)."""
    sums = cell_sums(class_index * num_cells + cell, num_classes * num_cells,
                     scores, target)
    return CellSums(*(part.reshape(num_classes, num_cells) for part in sums))


def _errors_by_row(sums: CellSums,
                   as_bins: Any,
                   min_samples: int,
                   is_measured: Any = None) -> Tuple[CalibrationError, ...]:
    """Compute the error of each class, NaN where it is not measured."""
    gaps = summarize_gaps(*sums.means(), min_samples)
    errors = []
    for k, values in enumerate(zip(*gaps)):
        numbers = [float(value) for value in values[:-1]]
        if is_measured is not None and not is_measured[k]:
            numbers = [float('nan')] * len(numbers)
        errors.append(
            CalibrationError(  # type: ignore[misc]  # fields before num_used
                *numbers,  # type: ignore[arg-type]
                num_used=int(values[-1]),
                bins=as_bins(CellSums(*(part[k] for part in sums)))))
    return tuple(errors)


def _warn_if_no_class(is_measured: np.ndarray, figure: str) -> None:
    if not is_measured.any():
        warnings.warn(
            f'no class has both objects and detections, so {figure} is NaN',
            TcalDetWarning,
            stacklevel=3)
