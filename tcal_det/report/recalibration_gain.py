"""What recalibration would bring, estimated by cross-fitting.

The images are split into two random halves. A map that is fitted to the
detections of one half is applied to those of the other, both ways, so that
every detection gets a score from a map that has not seen its image. All
detections are then measured together: as many as before, so that the bias
of the binned errors is the same before and after.
"""
import warnings
from dataclasses import dataclass, replace
from typing import List, Optional, Type

import numpy as np

from tcal_det.evaluation.functional import (DetectionMatches, Detections,
                                            GroundTruth,
                                            detection_calibration_error, laece,
                                            match_at_thresholds)
from tcal_det.recalibration import FEWEST_DETECTIONS, SCORE_MAPS, TARGETS
from tcal_det.recalibration.score_maps import ScoreMap

# More detections do not change a map that has three parameters.
_MOST_TO_FIT = 20_000
# Histogram binning makes ties, and mAP falls.
_ORDER_KEEPING = {
    name: score_map
    for name, score_map in SCORE_MAPS.items() if name != 'histogram'
}
# A map for each class is left out where it would take minutes.
_MOST_CLASSES = 200


@dataclass(frozen=True, eq=False)
class RecalibrationGain:
    """Calibration after a cross-fitted map.

    Attributes:
        method (str): Kind of map.
        target (str): What the map makes of a score: 'precision' or
            'precision_x_iou'.
        classwise (bool): Whether each class has a map of its own.
        value (float): Figure that the target mends, afterwards: D-ECE at
            IoU .5 or LaECE_0.
        scores (ndarray): Of all detections afterwards, shape (D,).
    """
    method: str
    target: str
    classwise: bool
    value: float
    scores: np.ndarray

    @property
    def figure(self) -> str:
        """Key of that figure."""
        return 'd_ece' if self.target == 'precision' else 'laece_0'


def cross_fitted_gains(ground_truth: GroundTruth,
                       detections: Detections,
                       seed: int = 0) -> List[RecalibrationGain]:
    """Cross-fit every kind of map that keeps the order of the scores.

    Args:
        ground_truth (GroundTruth): Objects.
        detections (Detections): Uncalibrated.
        seed (int): Random seed of the halves. Defaults to 0.

    Returns:
        List[RecalibrationGain]: By target, then method, then one map before
        a map for each class; empty where a half has no detection to fit to.
    """
    rng = np.random.default_rng(seed)
    half_of_image = rng.permutation(ground_truth.num_images) % 2
    half = half_of_image[detections.image_index]
    at_half, at_zero = match_at_thresholds(ground_truth, detections,
                                           (0.5, 0.0))
    if min((at_half.is_counted & (half == h)).sum() for h in (0, 1)) == 0:
        return []
    gains = []
    for target, iou_thr in TARGETS.items():
        matches = at_half if iou_thr == 0.5 else at_zero
        goal = matches.is_tp if target == 'precision' else matches.iou
        for method, score_map in _ORDER_KEEPING.items():
            for classwise in (False, True):
                if classwise and not (1 < ground_truth.num_classes <=
                                      _MOST_CLASSES):
                    continue
                scores = _cross_fitted(matches, goal.astype(np.float64), half,
                                       score_map, classwise, rng)
                gains.append(
                    RecalibrationGain(method, target, classwise,
                                      _measured(target, matches, scores),
                                      scores))
    return gains


def best_gain(gains: List[RecalibrationGain],
              target: str) -> Optional[RecalibrationGain]:
    """The gain whose target's own figure is least; None without any."""
    mine = [gain for gain in gains if gain.target == target]
    return min(mine, key=lambda gain: gain.value, default=None)


def _cross_fitted(matches: DetectionMatches, goal: np.ndarray,
                  half: np.ndarray, score_map: Type[ScoreMap], classwise: bool,
                  rng: np.random.Generator) -> np.ndarray:
    """Scores from the map of the other half, shape (D,)."""
    scores = matches.scores.copy()
    for fitted in (0, 1):
        pool = np.flatnonzero(matches.is_counted & (half == fitted))
        applied = half != fitted
        scores[applied] = _fit(score_map, matches.scores, goal, pool, rng)(
            matches.scores[applied])
        for k in range(matches.num_classes if classwise else 0):
            mine = pool[matches.class_index[pool] == k]
            if len(mine) >= FEWEST_DETECTIONS:
                members = applied & (matches.class_index == k)
                scores[members] = _fit(score_map, matches.scores, goal, mine,
                                       rng)(
                                           matches.scores[members])
    return np.clip(scores, 0, 1)


def _fit(score_map: Type[ScoreMap], scores: np.ndarray, goal: np.ndarray,
         pool: np.ndarray, rng: np.random.Generator) -> ScoreMap:
    if len(pool) > _MOST_TO_FIT:
        pool = rng.choice(pool, _MOST_TO_FIT, replace=False)
    return score_map.fit(scores[pool], goal[pool])


def _measured(target: str, matches: DetectionMatches,
              scores: np.ndarray) -> float:
    """D-ECE or LaECE_0 with other scores.

    The maps keep the order of the scores in an image and class, and with it
    what became of each detection.
    """
    mended = replace(matches, scores=scores)
    with warnings.catch_warnings():
        # The headline figures have said what is undefined.
        warnings.simplefilter('ignore', UserWarning)
        if target == 'precision':
            return detection_calibration_error(mended).ece
        return laece(mended).laece
