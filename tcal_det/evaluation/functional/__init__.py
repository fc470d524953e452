"""Calibration figures of classifiers and detectors.

The functions take arrays and return numbers and tables of bins. They compute
with numpy in float64 and need no detector, no registry and no state. An
undefined figure is NaN, with a warning: 0 would look like a perfect figure,
and a missing key would repeat the last value in a training log.

Results keep their bins, so that each figure can be computed again and drawn.
There is no class with ``update`` and ``compute``: matching needs all
detections of a data set, and sums are exact only if all terms are known.
Scores outside of [0, 1] are an error and never passed through a sigmoid,
because a guess would hide the mistake.
"""
from .average_precision import (AveragePrecision, average_precision,
                                mean_precision)
from .binning import BinGrid, BinTable, bin_edges, bin_index
from .calibration_error import (AdaptiveCalibrationError, CalibrationError,
                                ClasswiseCalibrationError,
                                adaptive_calibration_error,
                                adaptive_top_label_calibration_error,
                                calibration_error, classwise_calibration_error,
                                top_label)
from .coco_arrays import (Detections, GroundTruth, detections_from_arrays,
                          detections_from_coco, ground_truth_from_coco)
from .conformal_threshold import (ConformalThresholds, precision_thresholds,
                                  recall_thresholds)
from .debiased_calibration_error import (DebiasedCalibrationError,
                                         debiased_calibration_error,
                                         detection_debiased_calibration_error)
from .detection_calibration import (DetectionCalibrationError,
                                    LocalizationAwareAdaptiveError,
                                    LocalizationAwareError,
                                    detection_calibration_error, laace, laece,
                                    relative_box_features)
from .detection_suite import DetectionCalibrationReport, evaluate_detections
from .error_split import ERROR_TYPES, ErrorSplit, error_split
from .evaluation_options import EvaluationOptions
from .figures import BY_KEY, FIGURES, Figure
from .isotonic import IsotonicFit, isotonic_regression
from .lrp import LRPError, lrp, olrp
from .matching import (DROPPED, FALSE_POSITIVE, IGNORED, TRUE_POSITIVE,
                       DetectionMatches, match_at_thresholds, match_detections)
from .object_calibration_error import (ObjectCalibrationError,
                                       object_calibration_error)
from .precision_table import (PrecisionTable, interpolated_precision,
                              precision_tables)
from .score_decomposition import (ScoreDecomposition,
                                  binned_brier_score_decomposition,
                                  brier_score_decomposition,
                                  detection_brier_score_decomposition,
                                  log_score_decomposition)
from .scoring_rules import (binary_brier_score, binary_negative_log_likelihood,
                            brier_score, negative_log_likelihood)
from .size_calibration import (CalibrationErrorBySize,
                               calibration_error_by_size,
                               size_dependent_calibration_error)
from .smooth_calibration_error import (SmoothCalibrationError,
                                       detection_smooth_calibration_error,
                                       smooth_calibration_error)
from .undefined_values import mean_of_defined

__all__ = [
    'AdaptiveCalibrationError', 'AveragePrecision', 'BY_KEY', 'BinGrid',
    'BinTable', 'CalibrationError', 'CalibrationErrorBySize',
    'ClasswiseCalibrationError', 'ConformalThresholds', 'DROPPED',
    'DebiasedCalibrationError', 'DetectionCalibrationError',
    'DetectionCalibrationReport', 'DetectionMatches', 'Detections',
    'ERROR_TYPES', 'ErrorSplit', 'EvaluationOptions', 'FALSE_POSITIVE',
    'FIGURES', 'Figure', 'GroundTruth', 'IGNORED', 'IsotonicFit', 'LRPError',
    'LocalizationAwareAdaptiveError', 'LocalizationAwareError',
    'ObjectCalibrationError', 'PrecisionTable', 'ScoreDecomposition',
    'SmoothCalibrationError', 'TRUE_POSITIVE', 'adaptive_calibration_error',
    'adaptive_top_label_calibration_error', 'average_precision', 'bin_edges',
    'bin_index', 'binary_brier_score', 'binary_negative_log_likelihood',
    'binned_brier_score_decomposition', 'brier_score',
    'brier_score_decomposition', 'calibration_error',
    'calibration_error_by_size', 'classwise_calibration_error',
    'debiased_calibration_error', 'detection_brier_score_decomposition',
    'detection_calibration_error', 'detection_debiased_calibration_error',
    'detection_smooth_calibration_error', 'detections_from_arrays',
    'detections_from_coco', 'error_split', 'evaluate_detections',
    'ground_truth_from_coco', 'interpolated_precision', 'isotonic_regression',
    'laace', 'laece', 'log_score_decomposition', 'lrp', 'match_at_thresholds',
    'match_detections', 'mean_of_defined', 'mean_precision',
    'negative_log_likelihood', 'object_calibration_error', 'olrp',
    'precision_tables', 'precision_thresholds', 'recall_thresholds',
    'relative_box_features', 'size_dependent_calibration_error',
    'smooth_calibration_error', 'top_label'
]
