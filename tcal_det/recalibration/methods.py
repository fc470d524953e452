"""All methods of recalibration, of the score alone or of the size too."""
from typing import Any, Dict, Optional, Union

import numpy as np

from tcal_det.errors import InvalidValueError
from .score_maps import SCORE_MAPS, ScoreMap, score_map_from
from .size_dependent_map import SizeDependentPlattMap

METHODS = {**SCORE_MAPS, SizeDependentPlattMap.type: SizeDependentPlattMap}
AnyMap = Union[ScoreMap, SizeDependentPlattMap]


def fit_map(method: str, scores: np.ndarray, targets: np.ndarray,
            relative_areas: np.ndarray) -> AnyMap:
    """Fit the map of a method.

    Args:
        method (str): Key of ``METHODS``.
        scores (ndarray): In [0, 1], shape (D,), D > 0.
        targets (ndarray): In [0, 1], shape (D,).
        relative_areas (ndarray): Areas of the boxes as fractions of their
            images, NaN where unknown, shape (D,).
    """
    if method == SizeDependentPlattMap.type:
        return SizeDependentPlattMap.fit(scores, targets, relative_areas)
    return SCORE_MAPS[method].fit(scores, targets)


def apply_map(score_map: AnyMap, scores: np.ndarray,
              relative_areas: Optional[np.ndarray]) -> np.ndarray:
    """Recalibrate scores by a map of any method.

    Args:
        score_map (AnyMap): From :func:`fit_map`.
        scores (ndarray): In [0, 1], shape (D,).
        relative_areas (ndarray, optional): As for :func:`fit_map`.

    Raises:
        InvalidValueError: If the map needs areas and there are none.
    """
    if not isinstance(score_map, SizeDependentPlattMap):
        return score_map(scores)
    if relative_areas is None:
        raise InvalidValueError(
            f'recalibration by {score_map.type!r} needs the sizes of the '
            'images, but got none: name the annotations that hold them '
            '(--ground-truth), or fit another method')
    return score_map(scores, relative_areas)


def map_from(form: Dict[str, Any]) -> AnyMap:
    """The map of a JSON form, of any method.

    Args:
        form (Dict[str, Any]): From ``to_json_dict``.

    Raises:
        InvalidTypeError, InvalidValueError: See :func:`score_map_from`.
    """
    return score_map_from(form, METHODS)
