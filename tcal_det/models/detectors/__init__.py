from .detector_subclass import detector_name, detector_subclass
from .recalibrated_detector import (RecalibratedDetector,
                                    RecalibratedScoresMixin)
from .score_recalibrator import ScoreRecalibrator

__all__ = [
    'RecalibratedScoresMixin', 'RecalibratedDetector', 'ScoreRecalibrator',
    'detector_name', 'detector_subclass'
]
