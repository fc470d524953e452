"""Averages of figures, where NaN stands for an undefined figure."""
from typing import Sequence

import numpy as np


def mean_of_defined(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN if there are none.

    Args:
        values (Sequence[float]): Figures, NaN where undefined, shape (N,).

    Example:
        >>> mean_of_defined([0.25, float('nan'), 0.75])
        0.5
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float('nan')
