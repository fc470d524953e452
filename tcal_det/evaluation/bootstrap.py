"""Confidence intervals of all figures, by resampling the images.

mAP and calibration figures of one or several sets of detections. Images are
the unit, as detections of one image are not independent; several sets are
measured on the same resamples, so that what the images have in common
cancels in their differences. Detections are matched once:
:mod:`.weighted_figures` says why that is exact.

Score thresholds are those of the full data in all resamples, also
``score_thr='lrp_optimal'``: the intervals are those of a detector with
these thresholds and do not tell how uncertain the thresholds are.
"""
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from tcal_det.checks import check_count
from tcal_det.errors import InvalidValueError
from .functional import (DetectionCalibrationReport, Detections, GroundTruth,
                         evaluate_detections, match_at_thresholds)
from .image_resampling import Progress, resample_images
from .intervals import Interval, PairedDifference
from .weighted_figures import (Figures, WeightedAnyOverlap,
                               WeightedLocalizationAwareError,
                               WeightedOptimalLRP, WeightedScores,
                               objects_by_image)
