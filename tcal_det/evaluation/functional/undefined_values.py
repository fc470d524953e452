"""NaN stands for an undefined figure: how to average it."""
from typing import Sequence

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
