"""Recalibration of a detector's scores after training.

Needs numpy and scipy only. In this package *calibration* changes the logits
of a teacher before distillation, and *recalibration* changes the scores of a
trained detector.
"""
from .methods import METHODS
from .recalibration import (FEWEST_DETECTIONS, TARGETS, ClassRecalibration,
                            Recalibration, fit_recalibration)
from .score_maps import (SCORE_MAPS, BetaMap, HistogramMap, IsotonicMap,
                         PlattMap, ScoreMap, TemperatureMap,
                         score_map_from_dict)
from .size_dependent_map import SizeDependentPlattMap, relative_areas

__all__ = [
    'BetaMap', 'ClassRecalibration', 'FEWEST_DETECTIONS', 'HistogramMap',
    'IsotonicMap', 'METHODS', 'PlattMap', 'Recalibration', 'SCORE_MAPS',
    'ScoreMap', 'SizeDependentPlattMap', 'TARGETS', 'TemperatureMap',
    'fit_recalibration', 'relative_areas', 'score_map_from_dict'
]
