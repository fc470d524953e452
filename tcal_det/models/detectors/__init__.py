from .detector_subclass import detector_name, detector_subclass
from .score_calibrated_detector import (CalibratedScoresMixin,
                                        ScoreCalibratedDetector)
from .score_calibrator import ScoreCalibrator

__all__ = [
    'CalibratedScoresMixin', 'ScoreCalibratedDetector', 'ScoreCalibrator',
    'detector_name', 'detector_subclass'
]
