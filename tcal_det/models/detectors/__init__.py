from .detector_subclass import (detector_name, detector_subclass,
                                explain_unknown_key)
from .recalibrated_detector import (RecalibratedDetector,
                                    RecalibratedScoresMixin,
                                    check_test_options)
from .score_recalibrator import ScoreRecalibrator

__all__ = [
    'RecalibratedScoresMixin', 'RecalibratedDetector', 'ScoreRecalibrator',
    'explain_unknown_key', 'check_test_options', 'detector_name',
    'detector_subclass'
]
