"""Samples of plain arithmetic, of which other packages were asked."""
from typing import Tuple

import numpy as np


def plain_samples(power: float, top: float) -> Tuple[np.ndarray, np.ndarray]:
    """400 distinct confidences f, right about ``top * f**power`` of the time.

    Returns:
        Tuple[ndarray, ndarray]: ``confidence`` and ``correct``, float64.
    """
    number = np.arange(1, 401)
    confidence = (number * 61 % 401) / 401
    draw = (number * number * 29 % 401) / 401
    return confidence, (draw < top * confidence**power).astype(float)
