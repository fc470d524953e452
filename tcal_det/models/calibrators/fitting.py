r"""Fit of calibrator parameters to logits and labels, as pure functions.

Every function is scale-equivariant: if the logits are multiplied by a > 0,
the temperature is multiplied by a, and a scale is divided by a. To ensure
this, the searches have bounds in units of the logits' own spread s, not in
absolute numbers: a temperature is in [s / 100, 100 s], a bias is at most 15
nats. At 1/100 of the spread the probabilities are one-hot, at 100 times the
spread they are uniform. So a search ends on a bound, with a warning, only for
data without an optimum (separable, one class, random labels).

Shapes: N samples; C columns of logits, for softmax with background last. A
sigmoid head has C = K columns; its label K means background. ``logits`` and
``labels`` are results of ``check_calibration_data``; for sigmoid the labels
may be soft targets, shape (N, C), and the likelihood is then the expected one
under these targets. Samples are converted to float64 in slices, so that little
memory is needed beyond the logits and targets themselves.
"""
import math
import warnings
from typing import Callable, Iterator, Sequence, Tuple, Union

import numpy as np
from scipy.optimize import minimize, minimize_scalar, root_scalar
from scipy.special import expit

from tcal_det.errors import TcalDetWarning
from tcal_det.evaluation.functional.calibration_error import calibration_error

# Largest ratio of a temperature to the logits' spread, and of the spread to
# a temperature.
LARGEST_RATIO = 100.0
LARGEST_BIAS = 15.0
# Below this negative log-likelihood, in nats, samples count as separable.
SEPARABLE_NLL = 1e-6
# Largest projected gradient, in nats per unit of a parameter, at which a
# search counts as converged.
GRADIENT_TOLERANCE = 1e-6
# The ECE is searched from 1/4 to 4 times the NLL's optimum.
ECE_SEARCH_RATIO = 4.0
ECE_SEARCH_POINTS = 49
ECE_NUM_BINS = 15
# 32 MB of float64 per temporary array.
NUMBERS_PER_SLICE = 2**22


def fit_temperature(logits: np.ndarray,
                    labels: np.ndarray,
                    activation: str = 'softmax') -> float:
    """Fit the temperature with the smallest negative log-likelihood.

    The negative log-likelihood is convex in 1/T, so the root of its slope is
    the optimum. For sigmoid it is the sum of the binary negative
    log-likelihoods of all columns.

    Args:
        logits (ndarray): Unnormalised scores, shape (N, C).
        labels (ndarray): Labels, shape (N,), or soft targets, shape (N, C).
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.
            Defaults to 'softmax'.

    Returns:
        float: Temperature T. If there is no optimum within the bounds of the
        search, the bound, with a warning; if all logits of each sample are
        equal, 1, with a warning.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
        section 4.2.
    """
    center, spread = _center_and_spread(logits, activation)
    if spread == 0:
        _warn('all logits of a sample are equal, so the temperature has no '
              'effect: 1 is used')
        return 1.0
    slope_of = (_softmax_slope if activation == 'softmax' else _sigmoid_slope)
    if activation == 'sigmoid':
        center = 0.0  # a sigmoid is not invariant to shifts

    def slope(log_inverse: float) -> float:
        inverse = math.exp(log_inverse)
        total = sum(
            slope_of((z - center) / spread, labels[rows], inverse)
            for rows, z in _slices(logits))
        return total / len(labels)

    bound = math.log(LARGEST_RATIO)
    if slope(bound) <= 0:
        _warn('the samples are separable: the likelihood grows as the '
              'temperature falls, and its smallest allowed value, 1/100 of '
              'the spread of the logits, is used; use more samples')
        return spread / LARGEST_RATIO
    if slope(-bound) >= 0:
        _warn('the logits do not favour the true classes: the likelihood '
              'grows with the temperature, and its largest allowed value, '
              '100 times the spread of the logits, is used; check that '
              'labels and logits belong together')
        return spread * LARGEST_RATIO
    found = root_scalar(slope, bracket=(-bound, bound), xtol=1e-12)
    if not found.converged:
        _warn(f'the temperature did not converge: {found.flag}')
    return spread / math.exp(found.root)


def fit_temperature_by_ece(logits: np.ndarray,
                           labels: np.ndarray,
                           activation: str = 'softmax') -> float:
    """Fit the temperature with the smallest top-label ECE of 15 bins.

    The ECE has steps and several minima. It is computed on a grid from 1/4 to
    4 times the temperature of the largest likelihood; a second search refines
    the best point of the grid.

    Args:
        logits (ndarray): Unnormalised scores, shape (N, C).
        labels (ndarray): Labels, shape (N,).
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.
            Defaults to 'softmax'.

    Returns:
        float: Temperature T.
    """
    start = fit_temperature(logits, labels, activation)
    correct = logits.argmax(axis=1) == labels

    def error(log_ratio: float) -> float:
        confidence = top_confidence(logits, start * math.exp(log_ratio),
                                    activation)
        return calibration_error(confidence, correct, ECE_NUM_BINS).ece

    limit = math.log(ECE_SEARCH_RATIO)
    grid = np.linspace(-limit, limit, ECE_SEARCH_POINTS)
    errors = [error(log_ratio) for log_ratio in grid]
    best = int(np.argmin(errors))
    if best in (0, len(grid) - 1):
        _warn('the smallest ECE is on a bound of the search, 1/4 or 4 times '
              "the temperature of objective='nll': use objective='nll'")
        return start * math.exp(grid[best])
    refined = minimize_scalar(
        error, bounds=(grid[best - 1], grid[best + 1]), method='bounded')
    log_ratio = refined.x if refined.fun < errors[best] else grid[best]
    return start * math.exp(log_ratio)


def fit_vector_scaling(logits: np.ndarray,
                       labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Fit the scale and bias of each class with the smallest softmax NLL.

    The search begins at the fitted temperature, so its NLL is never larger
    than that of the temperature. The biases are shifted to a sum of 0, as a
    common bias has no effect on the softmax.

    Args:
        logits (ndarray): Unnormalised scores, shape (N, C).
        labels (ndarray): Labels, shape (N,).

    Returns:
        tuple[ndarray, ndarray]: Scale, > 0, and bias, shape (C,) each.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
        section 4.2.
    """
    num_samples, cls_channels = logits.shape
    absent = np.setdiff1d(np.arange(cls_channels), labels)
    if len(absent):
        _warn(f'{len(absent)} of {cls_channels} classes have no sample (the '
              f'first is {absent[0]}): vector scaling suppresses these '
              'classes; use more samples or TemperatureScaling')
    center, spread = _center_and_spread(logits, 'softmax')
    if spread == 0:
        _warn('all logits of a sample are equal: the scales stay 1')
        spread = 1.0
    temperature = fit_temperature(logits, labels)

    def nll(parameters: np.ndarray) -> Tuple[float, np.ndarray]:
        scale, bias = np.split(parameters, 2)
        value, gradient = 0.0, np.zeros((2, cls_channels))
        for rows, z in _slices(logits):
            z = (z - center) / spread
            residual, log_likelihood = _softmax_residual(
                z * scale + bias, labels[rows])
            value -= log_likelihood.sum()
            gradient[0] += (residual * z).sum(axis=0)
            gradient[1] += residual.sum(axis=0)
        return value / num_samples, gradient.ravel() / num_samples

    start = np.zeros((2, cls_channels))
    start[0] = np.clip(spread / temperature, 1 / LARGEST_RATIO, LARGEST_RATIO)
    scale, bias = np.split(
        minimize_bounded(nll, start.ravel(),
                         [(1 / LARGEST_RATIO, LARGEST_RATIO)] * cls_channels +
                         [(-LARGEST_BIAS, LARGEST_BIAS)] * cls_channels), 2)
    scale = scale / spread
    bias = bias - scale * center
    return scale, bias - bias.mean()


def fit_platt_scaling(logits: np.ndarray,
                      labels: np.ndarray) -> Tuple[float, float]:
    """Fit one scale and one bias with the smallest sigmoid NLL of all columns.

    This is plain logistic regression: Platt's smoothed targets are not used.

    Args:
        logits (ndarray): Unnormalised scores, shape (N, K).
        labels (ndarray): Labels in [0, K], where K is background, shape
            (N,), or soft targets, shape (N, K).

    Returns:
        tuple[float, float]: Scale, > 0, and bias.

    Reference:
        Platt, "Probabilistic outputs for support vector machines", 1999;
        Guo et al., ICML 2017, section 4.1.
    """
    center, spread = _center_and_spread(logits, 'sigmoid')
    if spread == 0:
        _warn('all logits are equal: the scale stays near 1')
        spread = 1.0

    def nll(parameters: np.ndarray) -> Tuple[float, np.ndarray]:
        scale, bias = parameters
        value, gradient = 0.0, np.zeros(2)
        for rows, z in _slices(logits):
            z = (z - center) / spread
            v = z * scale + bias
            target = _as_targets(labels[rows], z.shape[1])
            value += (np.logaddexp(0, v) - target * v).sum()
            residual = expit(v) - target
            gradient += (residual * z).sum(), residual.sum()
        return value / len(labels), gradient / len(labels)

    scale, bias = minimize_bounded(nll, np.array([1.0, 0.0]),
                                   [(1 / LARGEST_RATIO, LARGEST_RATIO),
                                    (-LARGEST_BIAS, LARGEST_BIAS)])
    scale = scale / spread
    return float(scale), float(bias - scale * center)


def top_confidence(logits: np.ndarray,
                   temperature: float,
                   activation: str = 'softmax') -> np.ndarray:
    """Compute the probability of the predicted class at a temperature.

    Args:
        logits (ndarray): Unnormalised scores, shape (N, C).
        temperature (float): Divisor of the logits, > 0.
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.
            Defaults to 'softmax'.

    Returns:
        ndarray: Probabilities, float64, shape (N,).
    """
    parts = []
    for _, z in _slices(logits):
        top = z.max(axis=1)
        if activation == 'softmax':
            z = np.exp((z - top[:, None]) / temperature)
            parts.append(1 / z.sum(axis=1))
        else:
            parts.append(expit(top / temperature))
    return np.concatenate(parts)


def softmax_confidence_and_nll(logits: np.ndarray, labels: np.ndarray,
                               temperature: float) -> Tuple[np.ndarray, float]:
    """Compute confidence and NLL at a temperature in one pass.

    Args:
        logits (ndarray): Unnormalised scores, shape (N, C).
        labels (ndarray): Labels in [0, C), shape (N,).
        temperature (float): Divisor of the logits, > 0.

    Returns:
        tuple[ndarray, float]: Probability of the predicted class, shape
        (N,), and mean negative log-likelihood, in nats.
    """
    confidence, nll = [], 0.0
    for rows, z in _slices(logits):
        true = z[np.arange(len(z)), labels[rows]]
        top = z.max(axis=1)
        z -= top[:, None]
        z /= temperature
        total = np.exp(z, out=z).sum(axis=1)
        confidence.append(1 / total)
        nll += (np.log(total) - (true - top) / temperature).sum()
    return np.concatenate(confidence), float(nll) / len(labels)


def minimize_bounded(function: Callable[[np.ndarray],
                                        Tuple[float,
                                              np.ndarray]], start: np.ndarray,
                     bounds: Sequence[Tuple[float, float]]) -> np.ndarray:
    """Minimise a convex function by L-BFGS-B.

    A warning is given if a parameter ends on a bound, or if the search does
    not converge. The gradient decides on convergence, not the flag of the
    library: that flag also reports failure if a search stops because the last
    digit no longer improves.

    Args:
        function (callable): Function that returns its value, a negative
            log-likelihood in nats, and its gradient, shape (P,).
        start (ndarray): Parameters at which the search begins, shape (P,).
        bounds (sequence[tuple[float, float]]): Lowest and highest value of
            each parameter.

    Returns:
        ndarray: Parameters at the minimum, shape (P,).
    """
    found = minimize(
        function,
        start,
        jac=True,
        method='L-BFGS-B',
        bounds=bounds,
        options=dict(maxiter=2000, maxfun=4000, ftol=0, gtol=1e-9, maxcor=20))
    low, high = np.array(bounds).T
    _, gradient = function(found.x)
    projected = np.clip(found.x - gradient, low, high) - found.x
    if np.abs(projected).max() > GRADIENT_TOLERANCE:
        _warn('the calibration did not converge '
              f'({_as_text(found.message)}; projected gradient '
              f'{np.abs(projected).max():.1e}): the result may not be '
              'optimal')
    width = high - low
    on_bound = ((found.x - low < 1e-6 * width) |
                (high - found.x < 1e-6 * width))
    if on_bound.any() or found.fun < SEPARABLE_NLL:
        _warn(f'{int(on_bound.sum())} of {len(start)} parameters ended on '
              'their bounds, at a negative log-likelihood of '
              f'{found.fun:.1e} nats: the samples are separable, of one '
              'class, or too few; use TemperatureScaling or more samples')
    return found.x


def _slices(logits: np.ndarray) -> Iterator[Tuple[slice, np.ndarray]]:
    """Yield slices of rows in float64 that keep temporary arrays small."""
    step = max(NUMBERS_PER_SLICE // logits.shape[1], 1)
    for begin in range(0, len(logits), step):
        rows = slice(begin, begin + step)
        yield rows, logits[rows].astype(np.float64)


def _center_and_spread(logits: np.ndarray,
                       activation: str) -> Tuple[float, float]:
    """Compute the mean of all logits and their root mean square.

    For softmax the root mean square is that of the differences from the mean
    of each row, as the softmax depends on nothing else.
    """
    largest = float(np.abs(logits).max())
    if largest == 0:
        return 0.0, 0.0
    # Divide by the largest, so that squares cannot overflow.
    total = squares = 0.0
    for _, z in _slices(logits):
        z = z / largest
        total += z.sum()
        if activation == 'softmax':
            z = z - z.mean(axis=1, keepdims=True)
        squares += np.square(z).sum()
    return (largest * total / logits.size,
            largest * math.sqrt(squares / logits.size))


def _softmax_slope(z: np.ndarray, labels: np.ndarray,
                   inverse_temperature: float) -> float:
    """Differentiate the summed NLL by the inverse temperature."""
    residual, _ = _softmax_residual(z * inverse_temperature, labels)
    return float((residual * z).sum())


def _sigmoid_slope(z: np.ndarray, labels: np.ndarray,
                   inverse_temperature: float) -> float:
    """Differentiate the summed NLL by the inverse temperature."""
    residual = expit(z * inverse_temperature)
    residual -= _as_targets(labels, z.shape[1])
    return float((residual * z).sum())


def _softmax_residual(v: np.ndarray,
                      labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return softmax minus one-hot labels (N, C) and log-likelihoods (N,)."""
    v = v - v.max(axis=1, keepdims=True)
    probs = np.exp(v)
    total = probs.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    log_likelihood = v[rows, labels] - np.log(total[:, 0])
    probs /= total
    probs[rows, labels] -= 1
    return probs, log_likelihood


def _as_targets(labels: np.ndarray, cls_channels: int) -> np.ndarray:
    """Convert labels to one-hot rows, float64 (N, K); keep soft targets.

    The row of the label ``cls_channels`` is zero.
    """
    if labels.ndim == 2:
        return labels.astype(np.float64, copy=False)
    return (labels[:, None] == np.arange(cls_channels)).astype(np.float64)


def _warn(message: str) -> None:
    """Give a warning at the line that called a calibrator's ``fit``."""
    warnings.warn(message, TcalDetWarning, stacklevel=4)


def _as_text(message: Union[str, bytes]) -> str:
    return message.decode() if isinstance(message, bytes) else str(message)
