from .detector_subclass import (check_detector_arguments, detector_name,
                                detector_subclass)
from .recalibrated_detector import (RecalibratedDetector,
                                    RecalibratedScoresMixin,
                                    check_test_options)
from .score_recalibrator import ScoreRecalibrator

__all__ = [
    'RecalibratedScoresMixin', 'RecalibratedDetector', 'ScoreRecalibrator',
    'check_detector_arguments', 'check_test_options', 'detector_name',
    'detector_subclass'
]
