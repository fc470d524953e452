"""A map from scores and box sizes to recalibrated scores.

Detectors are often over-confident on small boxes and under-confident on
large ones, or the other way round; a map of the score alone averages over
sizes.

Shape shorthand:
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

# A box of no area has no logarithm: one pixel of a 10,000 x 10,000 image.
_SMALLEST_AREA = 1e-8
# Sizes between which the map changes: a few odd boxes do not decide them.
_END_QUANTILES = (0.01, 0.99)


@dataclass(frozen=True)
class SizeDependentPlattMap(ScoreMap):
    """sigmoid(scale * logit(s) + bias), both linear in the log of the area.

    Scale and bias are given for two areas, linear in the logarithm between
    them and constant beyond. So the log odds are a + b z + c l + d z l with
    z = logit(s) and l = log(area): logistic regression with the score, the
    size and their product.

    Among boxes of one area the order of the scores is kept. Boxes of
    different areas can change places, so AP can rise or fall: compare it
    before and after.

    Args:
        log_areas (List[float]): Natural logarithms of the two areas, as
            fractions of the image, the smaller first.
        scales (List[float]): At either area, in (0, inf).
        biases (List[float]): At either area, finite.

    Reference:
        Kueppers et al., Multivariate Confidence Calibration for Object
        Detection, CVPR Workshops 2020 (logistic calibration of the score
        with box features; there centre, width and height).
    """
    log_areas: List[float]
    scales: List[float]
    biases: List[float]
    type: ClassVar[str] = 'size_platt'

    def __post_init__(self):
        self._keep(
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
        """Find the map under which scores are the mean of targets.

        Minimises the cross entropy, which is convex. The mean recalibrated
        score becomes the mean target, also weighted by log area.

        Args:
            scores (ndarray): In [0, 1], shape (D,), D > 0.
            targets (ndarray): In [0, 1], shape (D,).
            relative_areas (ndarray): From :func:`relative_areas`, shape
                (D,).

        Raises:
            InvalidValueError: If an area is NaN or outside [0, 1].
        """
        log_area = _log_area(relative_areas)
        low, high = np.quantile(log_area, _END_QUANTILES)
        logits = _logit(scores)
        if low == high:  # one size: a plain Platt map, wherever the ends lie
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
        """Recalibrate scores in [0, 1], which are not changed.

        Args:
            scores (ndarray): Shape (D,).
            relative_areas (ndarray): From :func:`relative_areas`, shape
                (D,).

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
        boxes (ndarray): x, y, width, height, shape (D, 4).
        image_sizes (ndarray): Width and height of each box's image, shape
            (D, 2).

    Returns:
        ndarray: In [0, 1], NaN where the size is unknown, shape (D,).

    Example:
        >>> relative_areas(np.array([[5, 5, 20, 20]]), np.array([[100, 40]]))
        array([0.1])
    """
    return relative_box_features(boxes, image_sizes, ('w', 'h')).prod(axis=1)


def _log_area(areas: np.ndarray) -> np.ndarray:
    areas = np.asarray(areas, dtype=np.float64)
    # Written so that NaN fails it.
    bad = ~((areas >= 0) & (areas <= 1))
    if bad.any():
        raise InvalidValueError(
            '`relative_areas` must be in [0, 1], but got '
            f'{areas[bad.argmax()]} at [{bad.argmax()}]; recalibration by '
            'size needs the width and height of every image')
    return np.log(np.maximum(areas, _SMALLEST_AREA))


def _share(log_area: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at and below the smaller area, 1 at and above the larger."""
    return np.clip((log_area - low) / (high - low), 0, 1)


def _pair(name: str, values: Sequence[float], check: Any) -> List[float]:
    """Two checked numbers, as plain floats."""
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise InvalidTypeError(f'`{name}` must be a list of two numbers, but '
                               f'got {shortened(values)}')
    return [
        check(f'{name}[{index}]', value) for index, value in enumerate(values)
    ]
