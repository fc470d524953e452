"""Everything that the report measures of one results file."""
import warnings
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping

from tcal_det.evaluation.average_precision import average_precision
from tcal_det.evaluation.file_evaluation import FileEvaluation
from tcal_det.evaluation.functional import (DetectionMatches, Detections,
                                            GroundTruth, evaluate_detections,
                                            match_detections)
from tcal_det.evaluation.functional.error_split import ErrorSplit, error_split
from .operating_point import OperatingPoint, overall_operating_point
from .recalibration_gain import (TARGETS, RecalibrationGain, best_gain,
                                 cross_fitted_gains)


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is known of one results file.

    Attributes:
        name (str): What the user calls it.
        detections (Detections): As given.
        evaluation (FileEvaluation): Figures overall and per class.
        matches (DetectionMatches): At the IoU threshold of D-ECE.
        split (ErrorSplit): Errors by type, at the same IoU threshold.
        operating_point (OperatingPoint): One threshold for all classes.
        intervals (Mapping[str, Interval]): 95 % intervals by figure; empty
            if none were wanted.
        gains (List[RecalibrationGain]): Cross-fitted.
        gain_intervals (Mapping[str, PairedDifference]): By target: the
            figure after the best map minus before.
    """
    name: str
    detections: Detections
    evaluation: FileEvaluation
    matches: DetectionMatches
    split: ErrorSplit
    operating_point: OperatingPoint
    intervals: Mapping[str, Any]
    gains: List[RecalibrationGain]
    gain_intervals: Mapping[str, Any]


def measure(name: str, ground_truth: GroundTruth, detections: Detections,
            num_resamples: int, seed: int) -> Measurement:
    """Measure one results file.

    Args:
        name (str): What the user calls it.
        ground_truth (GroundTruth): Objects.
        detections (Detections): Of the same images and classes.
        num_resamples (int): Bootstrap samples of the images; 0 for no
            intervals.
        seed (int): Random seed of the samples and of the halves.

    Returns:
        Measurement: Figures, with NaN where undefined.
    """
    report = evaluate_detections(ground_truth, detections)
    evaluation = FileEvaluation(
        report, *average_precision(ground_truth, detections), dict())
    matches = match_detections(ground_truth, detections,
                               report.settings['d_ece_iou_thr'],
                               report.settings['max_dets'])
    gains = cross_fitted_gains(ground_truth, detections, seed)
    intervals, gain_intervals = {}, {}
    if num_resamples:
        # Only used where intervals are wanted, and slow to import.
        from tcal_det.evaluation.bootstrap import (bootstrap_figures,
                                                   compare_detections)
        with warnings.catch_warnings():
            # `evaluate_detections` has said what is undefined.
            warnings.simplefilter('ignore', UserWarning)
            intervals = bootstrap_figures(ground_truth, detections,
                                          num_resamples, seed)
            for gain in filter(None, (best_gain(gains, target)
                                      for target in TARGETS)):
                mended = replace(detections, scores=gain.scores)
                gain_intervals[gain.target] = compare_detections(
                    ground_truth, detections, mended, num_resamples,
                    seed)[gain.figure]
    return Measurement(name, detections, evaluation, matches,
                       error_split(ground_truth, detections, matches),
                       overall_operating_point(matches), intervals, gains,
                       gain_intervals)


def differences(first: Measurement, other: Measurement,
                ground_truth: GroundTruth, num_resamples: int,
                seed: int) -> Dict[str, Any]:
    """Paired differences of two results, other minus first, by figure.

    Args:
        first (Measurement): What is compared with.
        other (Measurement): Of the same images.
        ground_truth (GroundTruth): Objects.
        num_resamples (int): Bootstrap samples of the images; 0 for none.
        seed (int): Random seed of the samples.

    Returns:
        Dict[str, PairedDifference]: Empty if no samples were wanted.
    """
    if not num_resamples:
        return {}
    from tcal_det.evaluation.bootstrap import compare_detections
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return compare_detections(ground_truth, first.detections,
                                  other.detections, num_resamples, seed)
