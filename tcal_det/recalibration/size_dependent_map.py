"""Map from scores and box sizes to recalibrated scores.

Detectors are often over-confident on small boxes and under-confident on
large ones, or the other way round. A map of the score alone averages over
the sizes.

Shapes:
    D: detections
"""
from dataclasses import dataclass
from typing import Any, ClassVar, List, Sequence

import numpy as np
from scipy.special import expit

from tcal_det.checks import check_finite, check_positive, shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import relative_box_features
from .score_maps import _BIASES, _SLOPES, ScoreMap, _fit_logistic, _logit

# An area of 0 has no logarithm and is replaced by this one: one pixel of a
# 10,000 x 10,000 image.
_SMALLEST_AREA = 1e-8
# Quantiles of the areas between which the map changes. They are not the
# extremes, so that a few unusual boxes have no influence.
_END_QUANTILES = (0.01, 0.99)


@dataclass(frozen=True)
class SizeDependentPlattMap(ScoreMap):
    """sigmoid(scale * logit(s) + bias) with area-dependent scale and bias.

    Scale and bias are given at two areas. They are linear in log(area)
    between the two and constant beyond. So the log odds between the two are
    a + b z + c l + d z l with z = logit(s) and l = log(area): a logistic
    regression on the score, the size and their product.

    Boxes of equal area keep the order of their scores. Boxes of different
    areas can change their order, so AP can rise or fall: compare it before
    and after.

    Args:
        log_areas (list[float]): Natural logarithms of the two areas as
            fractions of the image, the smaller one first.
        scales (list[float]): Scales at the two areas, in (0, inf).
        biases (list[float]): Biases at the two areas, finite.

    Reference:
        Kueppers et al., "Multivariate Confidence Calibration for Object
        Detection", CVPR Workshops 2020 (logistic calibration of the score
        with box features; there centre, width and height).
    """
    log_areas: List[float]
    scales: List[float]
    biases: List[float]
    type: ClassVar[str] = 'size_platt'

    def __post_init__(self):
        self._replace_fields(
            log_areas=_pair('log_areas', self.log_areas, check_finite),
            scales=_pair('scales', self.scales, check_positive),
            biases=_pair('biases', self.biases, check_finite))
        if not self.log_areas[0] < self.log_areas[1]:
            raise InvalidValueError(
                '`log_areas` must be two numbers, the smaller first, but got '
                f'{self.log_areas}')

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray,
            relative_areas: np.ndarray) -> 'SizeDependentPlattMap':
        """Fit the map, so that its scores estimate the mean of the targets.

        The fit minimises the cross entropy, which is convex. Afterwards the
        mean recalibrated score equals the mean target, also if both are
        weighted by the log area, clipped to the range between the two areas.

        Args:
            scores (ndarray): Scores in [0, 1], shape (D,), D > 0.
            targets (ndarray): Targets in [0, 1], shape (D,).
            relative_areas (ndarray): Areas from :func:`relative_areas`,
                shape (D,).

        Raises:
            InvalidValueError: If an area is NaN or outside [0, 1].
        """
        log_area = _log_area(relative_areas)
        low, high = np.quantile(log_area, _END_QUANTILES)
        logits = _logit(scores)
        if low == high:  # one size: a Platt map with arbitrary second area
            scale, bias = _fit_logistic([logits, np.ones_like(logits)],
                                        targets, [_SLOPES, _BIASES],
                                        [1.0, 0.0])
            return cls([low, low + 1], [scale, scale], [bias, bias])
        share = _share(log_area, low, high)
        *scales, bias_low, bias_high = _fit_logistic(
            [(1 - share) * logits, share * logits, 1 - share, share], targets,
            [_SLOPES, _SLOPES, _BIASES, _BIASES], [1.0, 1.0, 0.0, 0.0])
        return cls([low, high], scales, [bias_low, bias_high])

    def __call__(self, scores: np.ndarray,
                 relative_areas: np.ndarray) -> np.ndarray:
        """Recalibrate scores without changing the given array.

        Args:
            scores (ndarray): Scores in [0, 1], shape (D,).
            relative_areas (ndarray): Areas from :func:`relative_areas`,
                shape (D,).

        Raises:
            InvalidValueError: If an area is NaN or outside [0, 1].
        """
        share = _share(_log_area(relative_areas), *self.log_areas)
        scale = (1 - share) * self.scales[0] + share * self.scales[1]
        bias = (1 - share) * self.biases[0] + share * self.biases[1]
        with np.errstate(over='ignore'):  # expit of infinity is 1
            return expit(scale * _logit(scores) + bias)


def relative_areas(boxes: np.ndarray, image_sizes: np.ndarray) -> np.ndarray:
    """Areas of boxes as fractions of their images.

    Args:
        boxes (ndarray): Boxes as x, y, width, height, shape (D, 4).
        image_sizes (ndarray): Width and height of the image of each box,
            shape (D, 2).

    Returns:
        ndarray: Relative areas in [0, 1], NaN where the image size is
        unknown, shape (D,).

    Example:
        >>> relative_areas(np.array([[5, 5, 20, 20]]), np.array([[100, 40]]))
        array([0.1])
    """
    return relative_box_features(boxes, image_sizes, ('w', 'h')).prod(axis=1)


def _log_area(areas: np.ndarray) -> np.ndarray:
    areas = np.asarray(areas, dtype=np.float64)
    # Negated, so that NaN is bad, too.
    bad = ~((areas >= 0) & (areas <= 1))
    if bad.any():
        raise InvalidValueError(
            '`relative_areas` must be in [0, 1], but got '
            f'{areas[bad.argmax()]} at [{bad.argmax()}]; recalibration by '
            'size needs the width and height of every image')
    return np.log(np.maximum(areas, _SMALLEST_AREA))


def _share(log_area: np.ndarray, low: float, high: float) -> np.ndarray:
    """Position between the two areas: 0 at the smaller, 1 at the larger."""
    return np.clip((log_area - low) / (high - low), 0, 1)


def _pair(name: str, values: Sequence[float], check: Any) -> List[float]:
    """Check a list of two numbers; return plain floats."""
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise InvalidTypeError(f'`{name}` must be a list of two numbers, but '
                               f'got {shortened(values)}')
    return [
        check(f'{name}[{index}]', value) for index, value in enumerate(values)
    ]
