"""Score thresholds of the classes from the option ``score_thr``.

Shapes:
    K: classes
"""
import warnings
from typing import Any, Mapping

import numpy as np

from tcal_det.errors import InvalidValueError, TcalDetWarning
from .coco_arrays import GroundTruth
from .evaluation_options import ScoreThreshold
from .lrp import olrp
from .matching import DetectionMatches


def class_thresholds(score_thr: ScoreThreshold, ground_truth: GroundTruth,
                     matches: DetectionMatches) -> np.ndarray:
    """Find the score threshold of each class.

    Args:
        score_thr (float | str | Mapping, optional): Threshold of all classes,
            'lrp_optimal' for the thresholds of the optimal LRP, or a threshold
            for each category id.
        ground_truth (GroundTruth): Annotated objects.
        matches (DetectionMatches): Matches from which optimal thresholds are
            computed.

    Returns:
        ndarray: Thresholds, NaN where all detections are kept, shape (K,).

    Raises:
        InvalidValueError: If a category id is unknown.
    """
    num_classes = ground_truth.num_classes
    if score_thr is None:
        return np.full(num_classes, np.nan)
    if isinstance(score_thr, str):
        thresholds = olrp(matches).threshold
    elif isinstance(score_thr, Mapping):
        thresholds = _thresholds_of_mapping(score_thr, ground_truth)
    else:
        return np.full(num_classes, float(score_thr))
    has_detections = np.bincount(
        matches.class_index, minlength=num_classes) > 0
    unlimited = np.flatnonzero(np.isnan(thresholds) & has_detections)
    if len(unlimited):
        names = [ground_truth.category_names[k] for k in unlimited]
        warnings.warn(
            f'no score threshold is known for {len(unlimited)} class(es) '
            f'(such as {", ".join(names[:3])}), so all of their detections '
            'are kept',
            TcalDetWarning,
            stacklevel=3)
    return thresholds


def _thresholds_of_mapping(score_thr: Mapping[Any, float],
                           ground_truth: GroundTruth) -> np.ndarray:
    # JSON converts the keys of a dict to texts: '7' is category 7.
    by_text = {str(key): value for key, value in score_thr.items()}
    category_ids = [str(key) for key in ground_truth.category_ids.tolist()]
    unknown = sorted(set(by_text) - set(category_ids))
    if unknown:
        raise InvalidValueError(
            '`score_thr` must have category ids of the annotations as keys, '
            f'but got {unknown[0]}; were the thresholds chosen on the same '
            'classes?')
    values = [by_text.get(key) for key in category_ids]
    return np.array([np.nan if value is None else value for value in values],
                    dtype=np.float64)
