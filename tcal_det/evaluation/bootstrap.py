"""Confidence intervals of all figures, by resampling the images.

The figures are mAP and calibration figures of one or several sets of
detections. The unit is the image, because detections of one image are not
independent. All sets are evaluated on the same resamples, so that the common
influence of the images cancels in their differences. Detections are matched
once; :mod:`.weighted_figures` explains why this is exact.

All resamples use the score thresholds of the full data, also with
``score_thr='lrp_optimal'``. So the intervals are those of a detector with
these thresholds and do not include the uncertainty of the thresholds.
"""
import math
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from tcal_det.checks import check_count, check_fraction
from tcal_det.errors import InvalidValueError, TcalDetWarning
from .functional import DetectionCalibrationReport, Detections, GroundTruth
from .functional.precision_table import precision_tables
from .image_resampling import Progress, resample_images
from .image_sums import objects_by_image
from .intervals import Interval, PairedDifference
from .weighted_figures import (Figures, WeightedAnyOverlap,
                               WeightedAveragePrecision,
                               WeightedLocalizationAwareError,
                               WeightedObjectError, WeightedOptimalLRP,
                               WeightedScores)

RESAMPLED_FIGURES = ('mAP', 'AP50', 'AP75', 'd_ece', 'd_ece_over',
                     'd_ece_under', 'laece', 'laece_0', 'laace_0', 'lrp_0',
                     'lrp_0_loc', 'lrp_0_fp', 'lrp_0_fn', 'olrp', 'oce',
                     'brier', 'nll')
# All other figures are in [0, 1].
_UNBOUNDED = ('oce', 'nll')


@dataclass(frozen=True, eq=False)
class ResampledFigures:
    """Figures of one set of detections, and of every resample of the images.

    Attributes:
        values (dict[str, float]): Figures of the original images, by the keys
            of ``RESAMPLED_FIGURES``; NaN where undefined.
        resamples (dict[str, ndarray]): Figures of each resample, NaN where
            undefined, shape (B,).
        counts (dict[str, int]): ``counts`` of the calibration report.
        settings (dict[str, Any]): Options of the evaluation.
    """
    values: Dict[str, float]
    resamples: Dict[str, np.ndarray]
    counts: Dict[str, int]
    settings: Dict[str, Any]

    def intervals(self, confidence: float = 0.95) -> Dict[str, Interval]:
        """Compute the confidence interval of each figure.

        Args:
            confidence (float): Confidence level in (0, 1). Defaults to
                0.95.
        """
        return {
            key:
            Interval.from_resamples(value, self.resamples[key], confidence,
                                    math.inf if key in _UNBOUNDED else 1.0)
            for key, value in self.values.items()
        }

    def differences_from(
            self,
            reference: 'ResampledFigures',
            confidence: float = 0.95) -> Dict[str, PairedDifference]:
        """Compute the difference of each figure from that of a reference.

        Args:
            reference (ResampledFigures): Another result of the same call of
                :func:`resample_figures`.
            confidence (float): Confidence level in (0, 1). Defaults to
                0.95.
        """
        return {
            key:
            PairedDifference.from_resamples(reference.values[key], value,
                                            reference.resamples[key],
                                            self.resamples[key], confidence)
            for key, value in self.values.items()
        }


def bootstrap_figures(ground_truth: GroundTruth,
                      detections: Detections,
                      num_resamples: int = 1000,
                      seed: int = 0,
                      confidence: float = 0.95,
                      num_workers: Optional[int] = None,
                      progress: Optional[Progress] = None,
                      **options: Any) -> Dict[str, Interval]:
    """Confidence intervals of mAP and the calibration figures.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        num_resamples (int): Number of resamples of the images, at least
            2 / (1 - confidence). Defaults to 1000.
        seed (int): Random seed of the resamples. Defaults to 0.
        confidence (float): Confidence level in (0, 1). Defaults to 0.95.
        num_workers (int, optional): Number of processes, see
            :func:`resample_images`; it has no influence on the result.
            Defaults to None.
        progress (Callable, optional): Function that is called with the number
            of finished resamples and the total number. Defaults to None.
        **options: Options of the evaluation, see :class:`EvaluationOptions`.
            AP is that of all detections, at most 100 per image and class.

    Returns:
        dict[str, Interval]: Intervals by the keys of ``RESAMPLED_FIGURES``.
        Their ends are NaN where a figure is undefined or there are fewer than
        two images.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.

    Reference:
        Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of
        Statistics 1979. For the intervals see :mod:`.intervals`.
    """
    check_resampling(num_resamples, confidence)
    resampled, = resample_figures(ground_truth, [detections], num_resamples,
                                  seed, num_workers, progress, **options)
    return resampled.intervals(confidence)


def compare_detections(ground_truth: GroundTruth,
                       detections_a: Detections,
                       detections_b: Detections,
                       num_resamples: int = 1000,
                       seed: int = 0,
                       confidence: float = 0.95,
                       num_workers: Optional[int] = None,
                       progress: Optional[Progress] = None,
                       **options: Any) -> Dict[str, PairedDifference]:
    """Compare the figures of two sets of detections on the same images.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections_a (Detections): Detections of the reference.
        detections_b (Detections): Detections to compare with the reference.
        num_resamples (int): Number of resamples of the images, see
            :func:`bootstrap_figures`. Defaults to 1000.
        seed (int): Random seed of the resamples. Defaults to 0.
        confidence (float): Confidence level in (0, 1). Defaults to 0.95.
        num_workers (int, optional): Number of processes, see
            :func:`bootstrap_figures`. Defaults to None.
        progress (Callable, optional): Progress callback, see
            :func:`bootstrap_figures`. Defaults to None.
        **options: Options of the evaluation of both sets, see
            :class:`EvaluationOptions`.

    Returns:
        dict[str, PairedDifference]: Differences b - a by the keys of
        ``RESAMPLED_FIGURES``.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.
    """
    check_resampling(num_resamples, confidence)
    reference, other = resample_figures(ground_truth,
                                        [detections_a, detections_b],
                                        num_resamples, seed, num_workers,
                                        progress, **options)
    return other.differences_from(reference, confidence)


def resample_figures(ground_truth: GroundTruth,
                     detections: Sequence[Detections],
                     num_resamples: int = 1000,
                     seed: int = 0,
                     num_workers: Optional[int] = None,
                     progress: Optional[Progress] = None,
                     **options: Any) -> List[ResampledFigures]:
    """Compute figures of several sets of detections in the same resamples.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Sequence[Detections]): Sets of detections on the same
            images and classes.
        num_resamples (int): Number of resamples. Defaults to 1000.
        seed (int): Random seed of the resamples. Defaults to 0.
        num_workers (int, optional): Number of processes, see
            :func:`bootstrap_figures`. Defaults to None.
        progress (Callable, optional): Progress callback, see
            :func:`bootstrap_figures`. Defaults to None.
        **options: Options of the evaluation, see :class:`EvaluationOptions`.

    Returns:
        list[ResampledFigures]: Figures of each set of detections. With fewer
        than two images there are no resamples, as all of them would be equal.
    """
    check_count('num_resamples', num_resamples)
    check_count('seed', seed, 0)
    reports, values, functions = [], [], []
    for detection_set in detections:
        report = DetectionCalibrationReport.from_detections(
            ground_truth, detection_set, **options)
        figures = report.figures(RESAMPLED_FIGURES)
        reason = report.why_undefined(figures)
        if reason is not None:
            warnings.warn(reason, TcalDetWarning, stacklevel=2)
        reports.append(report)
        values.append(figures)
        functions.append(
            _Figures(
                (WeightedAveragePrecision(
                    *precision_tables(ground_truth, detection_set)),
                 *_calibration_parts(ground_truth, detection_set, report))))
    if ground_truth.num_images < 2:
        resampled = [dict.fromkeys(RESAMPLED_FIGURES, np.zeros(0))
                     ] * len(functions)
    else:
        resampled = resample_images(functions, ground_truth.num_images,
                                    num_resamples, seed, num_workers, progress)
    return [
        ResampledFigures(resamples, figures, report.counts, report.settings)
        for report, resamples, figures in zip(reports, values, resampled)
    ]


def check_resampling(num_resamples: int,
                     confidence: float,
                     name: str = 'num_resamples') -> None:
    """Raise unless there are enough resamples for the interval.

    Args:
        num_resamples (int): Number of resamples.
        confidence (float): Confidence level.
        name (str): Name of the number in messages. Defaults to
            'num_resamples'.

    Raises:
        InvalidTypeError: If an argument is not a number.
        InvalidValueError: If the level is not in (0, 1), or there are too few
            resamples for its quantiles.
    """
    level = check_fraction('confidence', confidence)
    if not 0 < level < 1:
        raise InvalidValueError(
            f'`confidence` must be in (0, 1), but got {confidence}')
    least = math.ceil(round(2 / (1 - level), 6))
    if check_count(name, num_resamples) < least:
        raise InvalidValueError(
            f'`{name}` must be >= {least} for a confidence of {level}, '
            f'but got {num_resamples}')


def _calibration_parts(
    ground_truth: GroundTruth, detections: Detections,
    report: DetectionCalibrationReport
) -> Tuple[Callable[[np.ndarray], Figures], ...]:
    """Create the functions that compute figures for weighted images."""
    options = report.options
    closed, num_bins = options.closed, options.laece_bins
    for_d_ece, for_laece, for_laece_0, for_olrp = map(
        report.matches_at, (options.d_ece_iou_thr, options.laece_iou_thr, 0.0,
                            options.olrp_iou_thr))
    images, objects = detections.image_index, objects_by_image(ground_truth)
    return (WeightedScores(for_d_ece, images, ground_truth.num_images,
                           options.d_ece_bins, closed),
            WeightedLocalizationAwareError('laece', for_laece, images, objects,
                                           num_bins, closed),
            WeightedLocalizationAwareError('laece_0', for_laece_0, images,
                                           objects, num_bins, closed),
            WeightedAnyOverlap(for_laece_0, images, objects),
            WeightedOptimalLRP(for_olrp, images, objects),
            WeightedObjectError(report.oce.per_object,
                                ground_truth.image_index,
                                ground_truth.num_images))


class _Figures:
    """Function that computes all figures for weighted images; picklable."""

    def __init__(self, parts: Sequence[Callable[[np.ndarray],
                                                Figures]]) -> None:
        self._parts = parts

    def __call__(self, weights: np.ndarray) -> Figures:
        figures = {}
        for part in self._parts:
            figures.update(part(weights))
        return {key: figures[key] for key in RESAMPLED_FIGURES}
