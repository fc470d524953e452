"""Better scores after the fact: maps, fitting them, applying them.

numpy and scipy only. *Calibration* of this package is a teacher's, of logits
and before training; *recalibration* is a detector's, of scores and at the
end.
"""
from .recalibration import (FEWEST_DETECTIONS, TARGETS, ClassRecalibration,
                            Recalibration, fit_recalibration)
from .score_maps import (SCORE_MAPS, BetaMap, HistogramMap, IsotonicMap,
                         PlattMap, ScoreMap, TemperatureMap, score_map_from)

__all__ = [
    'BetaMap', 'ClassRecalibration', 'FEWEST_DETECTIONS', 'HistogramMap',
    'IsotonicMap', 'PlattMap', 'Recalibration', 'SCORE_MAPS', 'ScoreMap',
    'TARGETS', 'TemperatureMap', 'fit_recalibration', 'score_map_from'
]
