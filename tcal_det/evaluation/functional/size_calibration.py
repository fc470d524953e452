"""D-ECE that depends on the size of the predicted box.

Shape shorthand:
    D: detections
    S: size ranges
"""
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Dict, Sequence, Tuple, Union

import numpy as np

from .detection_calibration import (DetectionCalibrationError,
                                    detection_calibration_error)
from .matching import DROPPED, DetectionMatches

# COCO's small, medium and large: areas below 32^2, below 96^2 and above.
COCO_SIZES = ('small', 'medium', 'large')
COCO_AREA_EDGES = (0.0, 32.0**2, 96.0**2, math.inf)


@dataclass(frozen=True, eq=False)
class CalibrationErrorBySize:
    """D-ECE of the detections of each size.

    Attributes:
        sizes (Tuple[str, ...]): 'small', 'medium' and 'large'.
        area_edges (Tuple[float, ...]): Area of the predicted box in square
            pixels: size s has [edge s, edge s + 1). Shape (S + 1,).
        errors (Tuple[DetectionCalibrationError, ...]): One for each size;
            NaN for a size without counted detections.
    """
    sizes: Tuple[str, ...]
    area_edges: Tuple[float, ...]
    errors: Tuple[DetectionCalibrationError, ...]

    @property
    def ece(self) -> float:
        """Mean of the sizes' errors, weighted by their detections.

        D-ECE in cells of score and size: never below that of score alone.
        """
        counts = [error.num_samples for error in self.errors]
        weighted = [
            count * error.ece for count, error in zip(counts, self.errors)
            if count
        ]
        return sum(weighted) / sum(counts) if weighted else math.nan

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers and lists; NaN stays NaN, the last edge is None."""
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

    :func:`detection_calibration_error` with features 'w' and 'h', relative
    to the image, and the paper's bins: 8 in each dimension, of which cells
    with fewer than 8 detections are not used.

    Args:
        matches (DetectionMatches): At the IoU threshold wanted, usually .5.
        num_bins (int | Sequence[int]): Bins of equal width, one number or
            one for each of score, width and height. Defaults to 8.
        closed (str): See :func:`bin_index`. Defaults to 'right'.
        min_samples (int): Cells with fewer detections count as perfectly
            calibrated. Defaults to 8.

    Returns:
        DetectionCalibrationError: Read ``.coverage`` beside ``.ece``;
        ``.bins`` is a BinGrid. NaN, with a warning, if no detection counts.

    Raises:
        InvalidTypeError, InvalidValueError: If an option is wrong, or the
            size of an image is unknown.

    Reference:
        Kueppers et al., Multivariate Confidence Calibration for Object
        Detection, CVPR Workshops 2020.
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
    """D-ECE of small, medium and large detections, each on its own.

    A detection's size is that of its own box in pixels, as a user of the
    score sees it, true positive or not. (COCO's AP by size goes by the area
    of the object instead.) Image sizes are not needed.

    Args:
        matches (DetectionMatches): At the IoU threshold wanted, usually .5.
        num_bins (int): Bins of equal width of the score. Defaults to 10.
        closed (str): See :func:`bin_index`. Defaults to 'right'.

    Returns:
        CalibrationErrorBySize: ``.errors`` by size and their weighted mean
        ``.ece``; NaN, with a warning, if no detection counts.

    Raises:
        InvalidTypeError, InvalidValueError: If an option is wrong.
    """
    area = matches.boxes[:, 2] * matches.boxes[:, 3]
    size_index = np.searchsorted(COCO_AREA_EDGES[1:-1], area, side='right')
    if not matches.is_counted.any():
        warnings.warn(
            'no detection counts, so D-ECE by size is NaN', stacklevel=2)
    errors = []
    with warnings.catch_warnings():
        # A size without detections is common, and its NaN says so.
        warnings.filterwarnings('ignore', 'no detection counts')
        for size in range(len(COCO_SIZES)):
            status = np.where(size_index == size, matches.status,
                              np.int8(DROPPED))
            errors.append(
                detection_calibration_error(
                    replace(matches, status=status), num_bins, closed))
    return CalibrationErrorBySize(COCO_SIZES, COCO_AREA_EDGES, tuple(errors))
