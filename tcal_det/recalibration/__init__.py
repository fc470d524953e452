"""Better scores after the fact: maps, fitting them, applying them.

numpy and scipy only. *Calibration* of this package is a teacher's, of logits
and before training; *recalibration* is a detector's, of scores and at the
end.
"""
from .methods import METHODS
from .recalibration import (FEWEST_DETECTIONS, TARGETS, ClassRecalibration,
                            Recalibration, fit_recalibration)
from .score_maps import (SCORE_MAPS, BetaMap, HistogramMap, IsotonicMap,
                         PlattMap, ScoreMap, TemperatureMap, score_map_from)
from .size_dependent_map import SizeDependentPlattMap, relative_areas

__all__ = [
    'BetaMap', 'ClassRecalibration', 'FEWEST_DETECTIONS', 'HistogramMap',
    'IsotonicMap', 'METHODS', 'PlattMap', 'Recalibration', 'SCORE_MAPS',
    'ScoreMap', 'SizeDependentPlattMap', 'TARGETS', 'TemperatureMap',
    'fit_recalibration', 'relative_areas', 'score_map_from'
]
