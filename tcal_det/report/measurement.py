"""Measure everything that the report shows of results files."""
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Tuple

from tcal_det.errors import ImplausibleDataWarning
from tcal_det.evaluation.bootstrap import check_resampling, resample_figures
from tcal_det.evaluation.functional import (DetectionCalibrationReport,
                                            DetectionMatches, Detections,
                                            GroundTruth, evaluate_detections)
from tcal_det.evaluation.functional.error_split import ErrorSplit
from tcal_det.evaluation.intervals import Interval, PairedDifference
from .operating_point import OperatingPoint, overall_operating_point
from .recalibration_gain import (TARGETS, RecalibrationGain, best_gain,
                                 cross_fitted_gains)

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Measurement:
    """All measurements of one results file.

    Attributes:
        name (str): Name of the results file on the page.
        detections (Detections): Detections with raw scores.
        report (DetectionCalibrationReport): Figures overall and per class.
        matches (DetectionMatches): Matches at the IoU threshold of D-ECE.
        split (ErrorSplit): Errors by type, at the same IoU threshold.
        operating_point (OperatingPoint): One threshold for all classes.
        gains (list[RecalibrationGain]): Calibration after cross-fitted maps.
        intervals (Mapping[str, Interval]): Confidence interval of each
            figure; empty without bootstrap samples.
        gain_differences (Mapping[str, PairedDifference]): Figure of each
            target after the best map minus the figure before.
        differences (Mapping[str, PairedDifference]): Each figure minus that
            of the first results file; empty for the first.
        data_warnings (tuple[Warning]): Warnings of the files that were read.
    """
    name: str
    detections: Detections
    report: DetectionCalibrationReport
    matches: DetectionMatches
    split: ErrorSplit
    operating_point: OperatingPoint
    gains: List[RecalibrationGain]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    gain_differences: Mapping[str,
                              PairedDifference] = field(default_factory=dict)
    differences: Mapping[str, PairedDifference] = field(default_factory=dict)
    data_warnings: Tuple[Warning, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether the files are probably wrong, so that advice would be."""
        return any(
            isinstance(warning, ImplausibleDataWarning)
            for warning in self.data_warnings)


def measure(ground_truth: GroundTruth, results: Mapping[str, Detections],
            num_resamples: int, seed: int) -> List[Measurement]:
    """Measure results files.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        results (Mapping[str, Detections]): Detections on the same images and
            classes, by name; the others are compared with the first.
        num_resamples (int): Number of bootstrap samples of the images; 0 for
            no intervals.
        seed (int): Random seed of the bootstrap samples and of the halves
            for cross-fitting.

    Returns:
        list[Measurement]: Measurement of each results file; undefined figures
        are NaN.

    Raises:
        InvalidValueError: If ``num_resamples`` is too small for an interval.
    """
    if num_resamples:
        check_resampling(num_resamples, CONFIDENCE)
    measurements = [
        _measure_one(name, ground_truth, detections, seed)
        for name, detections in results.items()
    ]
    if num_resamples:
        return _with_intervals(measurements, ground_truth, num_resamples, seed)
    return measurements


def _measure_one(name: str, ground_truth: GroundTruth, detections: Detections,
                 seed: int) -> Measurement:
    report = evaluate_detections(ground_truth, detections)
    return Measurement(name, detections, report, report.matches,
                       report.error_split,
                       overall_operating_point(report.matches),
                       cross_fitted_gains(ground_truth, detections, seed))


def _with_intervals(measurements: List[Measurement], ground_truth: GroundTruth,
                    num_resamples: int, seed: int) -> List[Measurement]:
    """Add intervals from resamples that all results share."""
    sets: Dict[tuple, Detections] = {}
    for index, measurement in enumerate(measurements):
        sets[index, None] = measurement.detections
        for target in TARGETS:
            best = best_gain(measurement.gains, target)
            if best is not None:
                sets[index, target] = replace(
                    measurement.detections, scores=best.scores)
    resampled = dict(
        zip(
            sets,
            resample_figures(ground_truth, list(sets.values()), num_resamples,
                             seed)))
    measured = []
    for index, measurement in enumerate(measurements):
        before = resampled[index, None]
        gain_differences = {
            target:
            resampled[index,
                      target].differences_from(before, CONFIDENCE)[best_gain(
                          measurement.gains, target).figure]
            for target in TARGETS if (index, target) in resampled
        }
        measured.append(
            replace(
                measurement,
                intervals=before.intervals(CONFIDENCE),
                gain_differences=gain_differences,
                differences=before.differences_from(
                    resampled[0, None], CONFIDENCE) if index else {}))
    return measured
