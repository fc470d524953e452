"""Everything that the report measures of results files."""
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping

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
    """What is known of one results file.

    Attributes:
        name (str): What the user calls it.
        detections (Detections): As given.
        report (DetectionCalibrationReport): Figures overall and per class.
        matches (DetectionMatches): At the IoU threshold of D-ECE.
        split (ErrorSplit): Errors by type, at the same IoU threshold.
        operating_point (OperatingPoint): One threshold for all classes.
        gains (List[RecalibrationGain]): Cross-fitted.
        intervals (Mapping[str, Interval]): By figure; empty if no
            intervals were wanted.
        gain_differences (Mapping[str, PairedDifference]): By target: the
            figure after the best map minus before.
        differences (Mapping[str, PairedDifference]): By figure: this result
            minus the first; empty for the first.
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


def measure(ground_truth: GroundTruth, results: Mapping[str, Detections],
            num_resamples: int, seed: int) -> List[Measurement]:
    """Measure results files.

    Args:
        ground_truth (GroundTruth): Objects.
        results (Mapping[str, Detections]): Of the same images and classes,
            by name; the others are compared with the first.
        num_resamples (int): Bootstrap samples of the images; 0 for no
            intervals.
        seed (int): Random seed of the samples and of the halves.

    Returns:
        List[Measurement]: Figures, with NaN where undefined.

    Raises:
        InvalidValueError: If no interval follows from so few samples.
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
    """All results, before and after recalibration, in the same resamples."""
    sets: Dict[tuple, Detections] = {}
    for index, one in enumerate(measurements):
        sets[index, None] = one.detections
        for target in TARGETS:
            best = best_gain(one.gains, target)
            if best is not None:
                sets[index, target] = replace(
                    one.detections, scores=best.scores)
    resampled = dict(
        zip(
            sets,
            resample_figures(ground_truth, list(sets.values()), num_resamples,
                             seed)))
    measured = []
    for index, one in enumerate(measurements):
        before = resampled[index, None]
        gain_differences = {
            target:
            resampled[index,
                      target].differences_from(before, CONFIDENCE)[best_gain(
                          one.gains, target).figure]
            for target in TARGETS if (index, target) in resampled
        }
        measured.append(
            replace(
                one,
                intervals=before.intervals(CONFIDENCE),
                gain_differences=gain_differences,
                differences=before.differences_from(
                    resampled[0, None], CONFIDENCE) if index else {}))
    return measured
