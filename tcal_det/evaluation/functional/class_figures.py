"""A figure of scores and targets, for all detections and for each class.

Shape shorthand:
    D: counted detections
    K: classes
"""
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple

import numpy as np

from .matching import DetectionMatches


@dataclass(frozen=True, eq=False)
class FiguresByClass:
    """The same figure of all classes pooled, and of each class alone.

    Attributes:
        overall (Any): All counted detections together: a detection of a
            class without objects is a false positive like any other.
        per_class (Tuple): One for each class; NaN for a class without
            counted detections.
    """
    overall: Any
    per_class: Tuple[Any, ...]

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers and lists; NaN stays NaN."""
        return dict(
            overall=self.overall.to_dict(),
            per_class=[figure.to_dict() for figure in self.per_class])


def figures_by_class(matches: DetectionMatches,
                     measure: Callable[[np.ndarray, np.ndarray],
                                       Any], figure: str) -> FiguresByClass:
    """Measure scores against being a true positive.

    Args:
        matches (DetectionMatches): At the IoU threshold wanted.
        measure (Callable): Takes scores and 0/1 targets, float64, shape
            (D,), D >= 0, and returns an object with ``to_dict``. It gives
            no warning.
        figure (str): Name in the warning that it is undefined.
    """
    counted = matches.is_counted
    scores = matches.scores[counted]
    target = matches.is_tp[counted].astype(np.float64)
    class_index = matches.class_index[counted]
    if len(scores) == 0:
        warnings.warn(f'no detection counts, so {figure} is NaN', stacklevel=3)
    order = np.argsort(class_index, kind='stable')
    ends = np.cumsum(np.bincount(class_index, minlength=matches.num_classes))
    members = np.split(order, ends)[:-1]
    return FiguresByClass(
        measure(scores, target),
        tuple(measure(scores[which], target[which]) for which in members))
