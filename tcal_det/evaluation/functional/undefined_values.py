"""NaN stands for an undefined figure: how to average and to write it."""
import math
from typing import Any, Sequence

import numpy as np


def mean_of_defined(values: Sequence[float]) -> float:
    """Mean of what is not NaN; NaN if nothing is left.

    Args:
        values (Sequence[float]): Shape (N,).

    Example:
        >>> mean_of_defined([0.25, float('nan'), 0.75])
        0.5
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float('nan')


def null_for_nan(value: Any) -> Any:
    """Copy nested dicts and lists with None for NaN, as JSON needs.

    For infinities too, which JSON does not have either.

    Args:
        value (Any): What `to_dict` of a result returned.

    Example:
        >>> null_for_nan({'ece': float('nan'), 'count': [0, 1]})
        {'ece': None, 'count': [0, 1]}
    """
    if isinstance(value, dict):
        return {key: null_for_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [null_for_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
