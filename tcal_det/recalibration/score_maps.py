r"""Maps from scores in [0, 1] to recalibrated scores in [0, 1].

A map is fitted to scores and targets in [0, 1] (whether a detection is
correct, or its IoU). A fitted map is a plain function and has a JSON form
``{"type": ..., parameters}``.

The parametric maps are logistic regressions on functions of the score s.
With targets u and recalibrated scores q, the fit minimises the cross entropy
:math:`-\sum_i u_i \log q_i + (1 - u_i) \log(1 - q_i)`. At the optimum of a
map with a bias the mean of q equals the mean of u, also for fractional
targets.

All maps but :class:`HistogramMap` are strictly increasing, so they keep the
order of the detections of a class and therefore its average precision.
(Scores within 1e-12 of 0 or of 1 are equal for the parametric maps.) The
constructors check the parameters on which this depends: finite numbers,
positive slopes, sorted knots and values in [0, 1].
"""
from dataclasses import asdict, dataclass, fields
from typing import (Any, ClassVar, Dict, List, Mapping, Optional, Sequence,
                    Tuple, Type)

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from tcal_det.checks import (check_finite, check_fraction, check_positive,
                             shortened)
from tcal_det.errors import InvalidTypeError, InvalidValueError, UserError
from tcal_det.evaluation.functional import bin_index
from tcal_det.evaluation.functional.isotonic import isotonic_regression

# Scores are clipped, because exactly 0 and 1 have no finite logit.
_CLOSEST = 1e-12
# Bounds of slopes and biases: if a threshold separates the data, there is no
# finite optimum.
_SLOPES = (1e-2, 1e2)
_BIASES = (-30.0, 30.0)
_HISTOGRAM_BINS = 15
# Weight of the score itself in an isotonic map. It turns blocks of equal
# values into slopes, which keep the order of the scores; no value changes by
# more than this.
_TIE_BREAKING = 1e-3


class ScoreMap:
    """Base class of the maps.

    Attributes:
        type (str): Name of the map in the JSON form and on the command line.
    """
    type: ClassVar[str]

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray) -> 'ScoreMap':
        """Fit the map, so that its scores estimate the mean of the targets.

        Args:
            scores (ndarray): Scores in [0, 1], shape (D,), D > 0.
            targets (ndarray): Targets in [0, 1], shape (D,).
        """
        raise NotImplementedError

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Recalibrate scores in [0, 1], shape (D,), without changing them."""
        raise NotImplementedError

    def to_json_dict(self) -> Dict[str, Any]:
        """JSON form of the map, which :func:`score_map_from_dict` reads."""
        return dict(type=self.type, **asdict(self))

    def _replace_fields(self, **parameters: Any) -> None:
        """Replace the given parameters by the checked ones."""
        for name, value in parameters.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen


@dataclass(frozen=True)
class TemperatureMap(ScoreMap):
    """sigmoid(logit(s) / temperature), which never changes a score of 0.5.

    Args:
        temperature (float): Temperature in (0, inf).
    """
    temperature: float
    type: ClassVar[str] = 'temperature'

    def __post_init__(self):
        self._replace_fields(
            temperature=check_positive('temperature', self.temperature))

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray) -> 'TemperatureMap':
        inverse, = _fit_logistic([_logit(scores)], targets, [_SLOPES], [1.0])
        return cls(1 / inverse)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        with np.errstate(over='ignore'):  # expit of infinity is 1
            return expit(_logit(scores) / self.temperature)


@dataclass(frozen=True)
class PlattMap(ScoreMap):
    """sigmoid(scale * logit(s) + bias).

    Args:
        scale (float): Factor of the logit, in (0, inf).
        bias (float): Finite offset.
    """
    scale: float
    bias: float
    type: ClassVar[str] = 'platt'

    def __post_init__(self):
        self._replace_fields(
            scale=check_positive('scale', self.scale),
            bias=check_finite('bias', self.bias))

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray) -> 'PlattMap':
        logits = _logit(scores)
        return cls(*_fit_logistic([logits, np.ones_like(logits)], targets,
                                  [_SLOPES, _BIASES], [1.0, 0.0]))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        with np.errstate(over='ignore'):
            return expit(self.scale * _logit(scores) + self.bias)


@dataclass(frozen=True)
class BetaMap(ScoreMap):
    """sigmoid(a log(s) - b log(1 - s) + c); the Platt map if a equals b.

    Args:
        a (float): Factor of log(s), in (0, inf).
        b (float): Factor of -log(1 - s), in (0, inf).
        c (float): Finite offset.

    Reference:
        Kull et al., "Beta calibration", AISTATS 2017.
    """
    a: float
    b: float
    c: float
    type: ClassVar[str] = 'beta'

    def __post_init__(self):
        self._replace_fields(
            a=check_positive('a', self.a),
            b=check_positive('b', self.b),
            c=check_finite('c', self.c))

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray) -> 'BetaMap':
        low, high = _logs(scores)
        return cls(*_fit_logistic([low, -high, np.ones_like(
            low)], targets, [_SLOPES, _SLOPES, _BIASES], [1.0, 1.0, 0.0]))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        low, high = _logs(scores)
        with np.errstate(over='ignore'):
            return expit(self.a * low - self.b * high + self.c)


@dataclass(frozen=True)
class IsotonicMap(ScoreMap):
    """Isotonic regression, made strictly increasing.

    The regression is linear between the knots and constant beyond them. The
    map is 0.999 times the regression plus 0.001 times the score, so that
    different scores never become equal.

    Args:
        scores (list[float]): Knots in [0, 1], strictly increasing, at least
            one.
        values (list[float]): Values at the knots, in [0, 1], not decreasing.
    """
    scores: List[float]
    values: List[float]
    type: ClassVar[str] = 'isotonic'

    def __post_init__(self):
        scores = _fractions('scores', self.scores)
        values = _fractions('values', self.values)
        if len(scores) != len(values):
            raise InvalidValueError(
                '`values` must have one number for each of the '
                f'{len(scores)} `scores`, but has {len(values)}')
        for name, numbers, is_right, order in (('scores', scores, np.greater,
                                                'larger than the one before'),
                                               ('values', values,
                                                np.greater_equal,
                                                'at least the one before')):
            is_wrong = ~is_right(numbers[1:], numbers[:-1])
            if is_wrong.any():
                position = int(is_wrong.argmax())
                raise InvalidValueError(
                    f'`{name}` must be sorted, each {order}, but got '
                    f'{numbers[position + 1]!r} after {numbers[position]!r}')
        self._replace_fields(scores=scores, values=values)

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray) -> 'IsotonicMap':
        knots, values = isotonic_regression(
            np.asarray(scores, dtype=np.float64),
            np.asarray(targets, dtype=np.float64)).knots()
        # Rounding can move a mean slightly out of the range of its terms.
        return cls(knots.tolist(), np.clip(values, 0, 1).tolist())

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        scores = np.asarray(scores, dtype=np.float64)
        level = np.interp(scores, self.scores, self.values)
        # Between knots that are nearly equal the slope can overflow.
        level = np.clip(level, self.values[0], self.values[-1])
        return (1 - _TIE_BREAKING) * level + _TIE_BREAKING * scores


@dataclass(frozen=True)
class HistogramMap(ScoreMap):
    """Mean target of the bin that contains the score.

    Scores in a bin without samples do not change. The map makes many ties and
    can change the order of the scores, so AP can fall.

    Args:
        values (list): Mean targets in [0, 1], float, of bins of
            equal width, at least one; None for a bin without samples.
    """
    values: List[Optional[float]]
    type: ClassVar[str] = 'histogram'

    def __post_init__(self):
        self._replace_fields(
            values=_fractions('values', self.values, with_none=True))

    @classmethod
    def fit(cls, scores: np.ndarray, targets: np.ndarray) -> 'HistogramMap':
        index = bin_index(scores, _HISTOGRAM_BINS)
        count = np.bincount(index, minlength=_HISTOGRAM_BINS)
        total = np.bincount(index, targets, minlength=_HISTOGRAM_BINS)
        return cls([t / n if n else None for t, n in zip(total, count)])

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        values = np.array(self.values, dtype=np.float64)  # None becomes NaN
        calibrated = values[bin_index(scores, len(values))]
        return np.where(np.isnan(calibrated), scores, calibrated)


SCORE_MAPS = {
    score_map.type: score_map
    for score_map in (TemperatureMap, PlattMap, BetaMap, IsotonicMap,
                      HistogramMap)
}


def score_map_from_dict(
        form: Dict[str, Any],
        maps: Mapping[str, Type[ScoreMap]] = SCORE_MAPS) -> ScoreMap:
    """Build a map from its JSON form.

    Args:
        form (dict[str, Any]): Result of ``to_json_dict``.
        maps (Mapping[str, type]): Classes of the known maps by type. Defaults
            to the maps that depend on the score alone.

    Raises:
        InvalidTypeError: If a parameter has the wrong type.
        InvalidValueError: If the type is unknown, a parameter is missing or
            unknown, or its value is out of range.

    Example:
        >>> half = score_map_from_dict(dict(type='temperature', temperature=2))
        >>> half(np.array([0.5, 0.8])).round(3)
        array([0.5  , 0.667])
    """
    kind = form.get('type') if isinstance(form, dict) else None
    if not isinstance(kind, str) or kind not in maps:
        raise InvalidValueError(
            f'a score map must be {{"type": one of {sorted(maps)}, '
            f'...its parameters...}}, but got {shortened(form)}')
    parameters = {key: form[key] for key in form if key != 'type'}
    expected = [field.name for field in fields(maps[kind])]
    if set(parameters) != set(expected):
        raise InvalidValueError(
            f'a score map of type {kind!r} must have the keys {expected} '
            f'besides `type`, but has {shortened(sorted(parameters, key=str))}'
        )
    try:
        return maps[kind](**parameters)
    except UserError as error:
        raise type(error)(
            f'a score map of type {kind!r} is wrong: {error}') from None


def _fractions(name: str,
               values: Sequence[Optional[float]],
               with_none: bool = False) -> List[Optional[float]]:
    """Check a list of at least one number in [0, 1]; return plain floats."""
    if not isinstance(values, (list, tuple)) or len(values) == 0:
        raise InvalidTypeError(
            f'`{name}` must be a list of at least one number in [0, 1], but '
            f'got {shortened(values)}')
    return [
        None if with_none and value is None else check_fraction(
            f'{name}[{index}]', value) for index, value in enumerate(values)
    ]


def _clipped(scores: np.ndarray) -> np.ndarray:
    return np.clip(
        np.asarray(scores, dtype=np.float64), _CLOSEST, 1 - _CLOSEST)


def _logs(scores: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """log(s) and log(1 - s)."""
    scores = _clipped(scores)
    return np.log(scores), np.log1p(-scores)


def _logit(scores: np.ndarray) -> np.ndarray:
    low, high = _logs(scores)
    return low - high


def _fit_logistic(features: Sequence[np.ndarray], targets: np.ndarray,
                  bounds: Sequence[Tuple[float, float]],
                  start: Sequence[float]) -> List[float]:
    """Weights of the features with the least mean cross entropy."""
    design = np.stack(features, axis=1)

    def cross_entropy(weights: np.ndarray) -> Tuple[float, np.ndarray]:
        z = design @ weights
        # log(1 + e^z) - u z, without overflow
        loss = np.logaddexp(0, z) - targets * z
        slope = design.T @ (expit(z) - targets)
        return float(loss.mean()), slope / len(targets)

    # The loss is convex, so the result does not depend on the start.
    found = minimize(
        cross_entropy,
        start,
        jac=True,
        method='L-BFGS-B',
        bounds=bounds,
        options=dict(maxiter=1000, ftol=1e-15, gtol=1e-9))
    return [float(weight) for weight in found.x]
