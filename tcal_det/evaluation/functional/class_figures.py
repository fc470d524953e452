"""A figure of scores and targets, for all detections and for each class.

Shapes:
    D: counted detections
    K: classes
"""
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple

import numpy as np

from tcal_det.errors import TcalDetWarning
from .matching import DetectionMatches, check_matches


@dataclass(frozen=True, eq=False)
class FiguresByClass:
    """A figure of all classes together, and of each class.

    Attributes:
        overall (Any): Figure of all counted detections. A detection of a class
            without objects counts as a false positive.
        per_class (tuple): Figure of each class; NaN for a class without
            counted detections.
    """
    overall: Any
    per_class: Tuple[Any, ...]

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            overall=self.overall.to_dict(),
            per_class=[figure.to_dict() for figure in self.per_class])


def figures_by_class(matches: DetectionMatches,
                     measure: Callable[[np.ndarray, np.ndarray],
                                       Any], figure: str) -> FiguresByClass:
    """Compute a figure of scores against true positives, also per class.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold.
        measure (Callable): Function that takes scores and 0/1 targets,
            float64, shape (D,) with D >= 0, and returns an object with
            ``to_dict``. It gives no warning.
        figure (str): Name of the figure, for the warning that it is undefined.
    """
    check_matches(matches)
    counted = matches.is_counted
    scores = matches.scores[counted]
    target = matches.is_tp[counted].astype(np.float64)
    class_index = matches.class_index[counted]
    if len(scores) == 0:
        warnings.warn(
            f'no detection is counted, so {figure} is NaN',
            TcalDetWarning,
            stacklevel=3)
    order = np.argsort(class_index, kind='stable')
    ends = np.cumsum(np.bincount(class_index, minlength=matches.num_classes))
    members = np.split(order, ends)[:-1]
    return FiguresByClass(
        measure(scores, target),
        tuple(measure(scores[index], target[index]) for index in members))
