"""Recalibration methods: maps of the score, with or without the box size."""
from typing import Any, Dict, Optional, Union

import numpy as np

from tcal_det.errors import InvalidValueError
from .score_maps import SCORE_MAPS, ScoreMap, score_map_from_dict
from .size_dependent_map import SizeDependentPlattMap

METHODS = {**SCORE_MAPS, SizeDependentPlattMap.type: SizeDependentPlattMap}
AnyMap = Union[ScoreMap, SizeDependentPlattMap]


def fit_map(method: str, scores: np.ndarray, targets: np.ndarray,
            relative_areas: np.ndarray) -> AnyMap:
    """Fit the map of a method.

    Args:
        method (str): Name of the method, a key of ``METHODS``.
        scores (ndarray): Scores in [0, 1], shape (D,), D > 0.
        targets (ndarray): Targets in [0, 1], shape (D,).
        relative_areas (ndarray): Areas of the boxes as fractions of their
            images, NaN where unknown, shape (D,).

    Returns:
        AnyMap: Fitted map.
    """
    if method == SizeDependentPlattMap.type:
        return SizeDependentPlattMap.fit(scores, targets, relative_areas)
    return SCORE_MAPS[method].fit(scores, targets)


def apply_map(score_map: AnyMap, scores: np.ndarray,
              relative_areas: Optional[np.ndarray]) -> np.ndarray:
    """Recalibrate scores with a map of any method.

    Args:
        score_map (AnyMap): Map from :func:`fit_map`.
        scores (ndarray): Scores in [0, 1], shape (D,).
        relative_areas (ndarray, optional): Areas of the boxes as fractions of
            their images, shape (D,). Required by a map that depends on the
            box size; ignored by all others.

    Returns:
        ndarray: Recalibrated scores, shape (D,).

    Raises:
        InvalidValueError: If the map needs areas and ``relative_areas`` is
            None, or an area is invalid.
    """
    if not isinstance(score_map, SizeDependentPlattMap):
        return score_map(scores)
    if relative_areas is None:
        raise InvalidValueError(
            f'recalibration with {score_map.type!r} needs the sizes of the '
            'images, but got none: give annotations that contain them '
            '(--ground-truth), or fit another method')
    return score_map(scores, relative_areas)


def map_from_dict(form: Dict[str, Any]) -> AnyMap:
    """Build a map of any method from its JSON form.

    Args:
        form (dict[str, Any]): Result of ``to_json_dict``.

    Raises:
        InvalidTypeError: See :func:`score_map_from_dict`.
        InvalidValueError: See :func:`score_map_from_dict`.
    """
    return score_map_from_dict(form, METHODS)
