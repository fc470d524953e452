"""D-ECE that depends on the size of the predicted box.

Shapes:
    D: detections
    S: size ranges
"""
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Dict, Sequence, Tuple, Union

import numpy as np

from tcal_det.errors import TcalDetWarning
from .detection_calibration import (DetectionCalibrationError,
                                    detection_calibration_error)
from .matching import DROPPED, DetectionMatches, check_matches

# COCO's small, medium and large: areas below 32^2, below 96^2 and above.
COCO_SIZES = ('small', 'medium', 'large')
COCO_AREA_EDGES = (0.0, 32.0**2, 96.0**2, math.inf)


@dataclass(frozen=True, eq=False)
class CalibrationErrorBySize:
    """D-ECE of the detections of each size.

    Attributes:
        sizes (tuple[str, ...]): 'small', 'medium' and 'large'.
        area_edges (tuple[float, ...]): Bounds of the area of the predicted box
            in square pixels; size s covers [edge s, edge s + 1). Shape
            (S + 1,).
        errors (tuple[DetectionCalibrationError, ...]): D-ECE of each size; NaN
            for a size without counted detections.
    """
    sizes: Tuple[str, ...]
    area_edges: Tuple[float, ...]
    errors: Tuple[DetectionCalibrationError, ...]

    @property
    def ece(self) -> float:
        """Mean of the errors of all sizes, weighted by their detections.

        This is D-ECE in cells of score and size, which is never below D-ECE of
        the score alone.
        """
        counts = [error.num_samples for error in self.errors]
        weighted = [
            count * error.ece for count, error in zip(counts, self.errors)
            if count
        ]
        return sum(weighted) / sum(counts) if weighted else math.nan

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain values; NaN stays NaN, the last edge is None."""
        return dict(
            ece=self.ece,
            sizes=list(self.sizes),
            area_edges=[*self.area_edges[:-1], None],
            errors=[error.to_dict() for error in self.errors])


def size_dependent_calibration_error(
        matches: DetectionMatches,
        num_bins: Union[int, Sequence[int]] = 8,
        closed: str = 'right',
        min_samples: int = 8) -> DetectionCalibrationError:
    """D-ECE in cells of score, box width and box height.

    This is :func:`detection_calibration_error` with features 'w' and 'h',
    relative to the image, and the bins of the paper: 8 in each dimension,
    where cells with fewer than 8 detections are not used.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.
        num_bins (int | Sequence[int]): Number of bins of equal width, one
            number or one for each of score, width and height. Defaults to 8.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.
        min_samples (int): Minimum number of detections of a cell; cells with
            fewer count as perfectly calibrated. Defaults to 8.

    Returns:
        DetectionCalibrationError: The error; read ``.coverage`` together with
        ``.ece``. ``.bins`` is a BinGrid. NaN, with a warning, if no detection
        is counted.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range, or the size of an
            image is unknown.

    Reference:
        Kueppers et al., "Multivariate Confidence Calibration for Object
        Detection", CVPR Workshops 2020.
    """
    return detection_calibration_error(
        matches,
        num_bins,
        closed,
        features=('w', 'h'),
        min_samples=min_samples)


def calibration_error_by_size(matches: DetectionMatches,
                              num_bins: int = 10,
                              closed: str = 'right') -> CalibrationErrorBySize:
    """D-ECE of small, medium and large detections separately.

    The size of a detection is the area of its own box in pixels, for true and
    false positives alike, as a user of the score knows only this box. (COCO's
    AP by size uses the area of the object instead.) Image sizes are not
    needed.

    Args:
        matches (DetectionMatches): Matches at the required IoU threshold,
            usually 0.5.
        num_bins (int): Number of score bins of equal width. Defaults to 10.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.

    Returns:
        CalibrationErrorBySize: ``.errors`` by size and their weighted mean
        ``.ece``; NaN, with a warning, if no detection is counted.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.
    """
    check_matches(matches)
    area = matches.boxes[:, 2] * matches.boxes[:, 3]
    size_index = np.searchsorted(COCO_AREA_EDGES[1:-1], area, side='right')
    if not matches.is_counted.any():
        warnings.warn(
            'no detection is counted, so D-ECE by size is NaN',
            TcalDetWarning,
            stacklevel=2)
    errors = []
    with warnings.catch_warnings():
        # A size without detections is common; its NaN needs no warning.
        warnings.filterwarnings('ignore', 'no detection is counted')
        for size in range(len(COCO_SIZES)):
            status = np.where(size_index == size, matches.status,
                              np.int8(DROPPED))
            errors.append(
                detection_calibration_error(
                    replace(matches, status=status), num_bins, closed))
    return CalibrationErrorBySize(COCO_SIZES, COCO_AREA_EDGES, tuple(errors))
