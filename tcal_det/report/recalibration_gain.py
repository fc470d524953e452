"""Estimate the effect of recalibration by cross-fitting.

The images are split into two random halves. A map is fitted to the
detections of one half and applied to those of the other, in both directions.
So every detection gets its score from a map that was not fitted to its
image. All detections are then measured together. Their number is the same
before and after, and so is the bias of the binned errors.
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

# More detections hardly change a map with three parameters.
_MOST_TO_FIT = 20_000
# Histogram binning is left out: it makes ties, which lower mAP.
_ORDER_KEEPING = {
    name: score_map
    for name, score_map in SCORE_MAPS.items() if name != 'histogram'
}
# With more classes, a map for each class would take minutes.
_MOST_CLASSES = 200


@dataclass(frozen=True, eq=False)
class RecalibrationGain:
    """Calibration after a cross-fitted map.

    Attributes:
        method (str): Kind of map.
        target (str): Quantity that a recalibrated score estimates:
            'precision' or 'precision_x_iou'.
        classwise (bool): Whether each class has its own map.
        value (float): Figure of the target after the map: D-ECE at IoU
            threshold 0.5 for precision, LaECE_0 for precision times IoU.
        scores (ndarray): Recalibrated scores of all detections, shape (D,).
    """
    method: str
    target: str
    classwise: bool
    value: float
    scores: np.ndarray

    @property
    def figure(self) -> str:
        """Key of the figure of the target."""
        return 'd_ece' if self.target == 'precision' else 'laece_0'


def cross_fitted_gains(ground_truth: GroundTruth,
                       detections: Detections,
                       seed: int = 0) -> List[RecalibrationGain]:
    """Cross-fit every kind of map that keeps the order of the scores.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections with raw scores.
        seed (int): Random seed of the halves. Defaults to 0.

    Returns:
        list[RecalibrationGain]: Gains sorted by target, then by method, then
        one map before a map for each class; empty if one half has no
        detection to fit to.
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
        targets = matches.is_tp if target == 'precision' else matches.iou
        for method, score_map in _ORDER_KEEPING.items():
            for classwise in (False, True):
                if classwise and not (1 < ground_truth.num_classes <=
                                      _MOST_CLASSES):
                    continue
                scores = _cross_fitted(matches, targets.astype(np.float64),
                                       half, score_map, classwise, rng)
                gains.append(
                    RecalibrationGain(method, target, classwise,
                                      _measured(target, matches, scores),
                                      scores))
    return gains


def best_gain(gains: List[RecalibrationGain],
              target: str) -> Optional[RecalibrationGain]:
    """Gain with the smallest figure of a target; None if there is no gain."""
    candidates = [gain for gain in gains if gain.target == target]
    return min(candidates, key=lambda gain: gain.value, default=None)


def _cross_fitted(matches: DetectionMatches, targets: np.ndarray,
                  half: np.ndarray, score_map: Type[ScoreMap], classwise: bool,
                  rng: np.random.Generator) -> np.ndarray:
    """Scores from the map of the other half, shape (D,)."""
    scores = matches.scores.copy()
    for fitted in (0, 1):
        pool = np.flatnonzero(matches.is_counted & (half == fitted))
        applied = half != fitted
        scores[applied] = _fit(score_map, matches.scores, targets, pool, rng)(
            matches.scores[applied])
        for k in range(matches.num_classes if classwise else 0):
            class_pool = pool[matches.class_index[pool] == k]
            if len(class_pool) >= FEWEST_DETECTIONS:
                members = applied & (matches.class_index == k)
                scores[members] = _fit(score_map, matches.scores, targets,
                                       class_pool, rng)(
                                           matches.scores[members])
    return np.clip(scores, 0, 1)


def _fit(score_map: Type[ScoreMap], scores: np.ndarray, targets: np.ndarray,
         pool: np.ndarray, rng: np.random.Generator) -> ScoreMap:
    if len(pool) > _MOST_TO_FIT:
        pool = rng.choice(pool, _MOST_TO_FIT, replace=False)
    return score_map.fit(scores[pool], targets[pool])


def _measured(target: str, matches: DetectionMatches,
              scores: np.ndarray) -> float:
    """D-ECE or LaECE_0 with other scores.

    The maps keep the order of the scores in an image and class, so the matches
    do not change.
    """
    recalibrated = replace(matches, scores=scores)
    with warnings.catch_warnings():
        # The headline figures already warned of undefined values.
        warnings.simplefilter('ignore', UserWarning)
        if target == 'precision':
            return detection_calibration_error(recalibrated).ece
        return laece(recalibrated).laece
