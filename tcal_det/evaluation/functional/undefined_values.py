"""Averages of figures, where NaN stands for an undefined figure."""

import numpy as np
from numpy.typing import ArrayLike


def mean_of_defined(values: ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN if there are none.

    Args:
        values (Sequence[float]): Figures, NaN where undefined, shape (N,).

    Example:
        >>> mean_of_defined([0.25, float('nan'), 0.75])
        0.5
    """
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else float('nan')
