"""Accuracy and calibration of detections, from files or from arrays.

Nothing here needs torch. The metric for MMDetection, which does, is in
:mod:`tcal_det.evaluation.metrics`; the figures of arrays are in
:mod:`tcal_det.evaluation.functional`, readers of other formats in
:mod:`tcal_det.evaluation.formats`.
"""
from .bootstrap import RESAMPLED_FIGURES, bootstrap_figures, compare_detections
from .class_probabilities import (evaluate_class_probabilities,
                                  write_results_with_class_probabilities)
from .file_comparison import FileComparison, compare_files
from .file_evaluation import FileEvaluation, evaluate_files
from .intervals import Interval, PairedDifference
from .slices import SliceRow, attribute_from_file, image_attribute, slice_by

__all__ = [
    'FileComparison', 'FileEvaluation', 'Interval', 'PairedDifference',
    'RESAMPLED_FIGURES', 'SliceRow', 'attribute_from_file',
    'bootstrap_figures', 'compare_detections', 'compare_files',
    'evaluate_class_probabilities', 'evaluate_files', 'image_attribute',
    'slice_by', 'write_results_with_class_probabilities'
]
