"""Checks of the samples that a calibrator is fitted to.

Shapes: N samples; C columns of logits, for softmax with background last. A
sigmoid head has C = K columns; its label K means background, for which all
targets are 0. Soft targets, one for each column of a sigmoid head, replace the
labels for scores that are not only right or wrong: IoU-aware heads predict the
IoU.
"""
import warnings
from typing import Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError, TcalDetWarning

ACTIVATIONS = ('softmax', 'sigmoid')
# Sums over samples with larger logits would overflow float64.
LARGEST_LOGIT = 1e290

Logits = Union[Tensor, Sequence[Sequence[float]]]
Labels = Union[Tensor, Sequence[int], Sequence[Sequence[float]]]


def check_calibration_data(logits: Logits, labels: Labels,
                           activation: str) -> Tuple[np.ndarray, np.ndarray]:
    """Check samples for a calibrator and convert them to arrays.

    Args:
        logits (Tensor | Sequence): Unnormalised scores, shape (N, C), N > 0.
        labels (Tensor | Sequence): Whole numbers, shape (N,): in [0, C) for
            softmax, in [0, C] for sigmoid, where C is background. Or, for
            sigmoid, soft targets: floats in [0, 1], shape (N, C).
        activation (str): Activation of the head, 'softmax' or 'sigmoid'.

    Returns:
        tuple[ndarray, ndarray]: Logits, float32 or float64 as given (half
        precision becomes float32), and labels, int64, shape (N,), or soft
        targets, float32 or float64, shape (N, C).

    Raises:
        InvalidTypeError: If the logits are not numbers, the labels are not
            whole numbers, or the soft targets are not floats.
        InvalidValueError: If there is no sample, the shapes do not match, a
            logit is not finite or has a magnitude above 1e290, or a label or
            target is out of range.
    """
    logits = _as_float_array('logits', logits)
    labels = _as_array('labels', labels)
    fewest = 2 if activation == 'softmax' else 1
    if logits.ndim != 2 or logits.shape[1] < fewest:
        raise InvalidValueError(
            f'`logits` must have shape (N, C) with C >= {fewest} for '
            f'{activation}, but got {logits.shape}')
    num_samples = len(logits)
    if num_samples == 0:
        raise InvalidValueError(
            '`logits` must hold at least one sample, but got none: give '
            'images on which the teacher has proposals')
    is_soft = activation == 'sigmoid' and labels.shape == logits.shape
    if not is_soft and labels.shape != (num_samples, ):
        soft = (f', or {logits.shape} for soft targets'
                if activation == 'sigmoid' else '')
        raise InvalidValueError(
            f'`labels` must have shape ({num_samples},), one per row of '
            f'`logits`{soft}, but got {labels.shape}')
    if labels.dtype.kind not in ('f' if is_soft else 'iu'):
        # Whole numbers of shape (N, 1) are ambiguous: labels or targets.
        allowed = ('floats where they are soft targets of shape '
                   f'{labels.shape}' if is_soft else 'whole numbers')
        raise InvalidTypeError(
            f'`labels` must be {allowed}, but got {labels.dtype}')
    bad_rows = ~np.isfinite(logits).all(axis=1)
    if bad_rows.any():
        raise InvalidValueError(
            f'`logits` must be finite, but {int(bad_rows.sum())} of '
            f'{num_samples} rows hold NaN or infinity, the first is row '
            f'{int(bad_rows.argmax())}: check the teacher\'s checkpoint and '
            'run it in float32')
    largest = float(np.abs(logits).max())
    if largest > LARGEST_LOGIT:
        raise InvalidValueError(
            f'`logits` must be in [{-LARGEST_LOGIT:g}, {LARGEST_LOGIT:g}], '
            f'but got one of magnitude {largest:g}: scale them down')
    if is_soft:
        labels = _as_float_array('labels', labels)
        _check_soft_targets(labels)
    else:
        labels = labels.astype(np.int64, copy=False)
        _check_hard_labels(labels, logits.shape[1], activation)
    return logits, labels


def mean_target(labels: np.ndarray, cls_channels: int) -> float:
    """Compute the mean target of the (sample, column) pairs of a sigmoid head.

    Args:
        labels (ndarray): Labels or soft targets from
            :func:`check_calibration_data`.
        cls_channels (int): Number of columns of the logits.

    Returns:
        float: Mean target, in (0, 1). A mean of 0 or 1 is moved by half a
        pair, so that its logit is finite.
    """
    num_pairs = len(labels) * cls_channels
    if labels.ndim == 2:
        mean = float(labels.mean(dtype=np.float64))
    else:
        mean = np.count_nonzero(labels < cls_channels) / num_pairs
    return min(max(mean, 0.5 / num_pairs), 1 - 0.5 / num_pairs)


def check_fitted(name: str, values: Union[float, np.ndarray],
                 dtype: np.dtype) -> None:
    """Check that fitted parameters are usable in the type of the logits.

    A fit to extreme samples may give parameters that are not.

    Args:
        name (str): Name of the parameter, for the message.
        values (float | ndarray): Fitted values.
        dtype (dtype): Type of the logits, in which the parameter is applied.

    Raises:
        InvalidValueError: If a value is NaN or infinite in that type, or so
            small that it becomes 0.
    """
    with np.errstate(over='ignore'):
        stored = np.asarray(values, dtype=np.float64).astype(dtype)
    is_lost = (stored == 0) & (np.asarray(values) != 0)
    is_wrong = ~np.isfinite(stored) | is_lost
    if is_wrong.any():
        raise InvalidValueError(
            f'`logits` must be of a magnitude that {np.dtype(dtype).name} can '
            f'calibrate, but their fitted {name} is '
            f'{np.atleast_1d(values)[is_wrong.argmax()]:g}: scale them down, '
            'and check that they are logits')


def _check_hard_labels(labels: np.ndarray, cls_channels: int,
                       activation: str) -> None:
    highest = cls_channels - 1 if activation == 'softmax' else cls_channels
    bad = (labels < 0) | (labels > highest)
    if bad.any():
        raise InvalidValueError(
            f'`labels` must be in [0, {highest}] for {cls_channels} columns '
            f'of {activation} logits, but got {labels[bad.argmax()]} at '
            f'[{int(bad.argmax())}]: labels and logits must come from the '
            'same classes')
    if (labels == labels[0]).all():
        warnings.warn(
            f'all {len(labels)} labels are {labels[0]}: a calibrator fitted '
            'to one class is not valid for the others',
            TcalDetWarning,
            stacklevel=4)


def _check_soft_targets(targets: np.ndarray) -> None:
    bad = ~((targets >= 0) & (targets <= 1))  # NaN included
    if bad.any():
        row, column = np.unravel_index(bad.argmax(), bad.shape)
        raise InvalidValueError(
            '`labels` must be in [0, 1] where they are soft targets, but got '
            f'{targets[row, column]} at [{row}, {column}]')
    if (targets == targets[0, 0]).all():
        warnings.warn(
            f'all {targets.size} soft targets are {targets[0, 0]:g}: a '
            'calibrator fitted to one target is not valid for others',
            TcalDetWarning,
            stacklevel=4)


def _as_float_array(name: str, values: Union[Tensor, Sequence]) -> np.ndarray:
    array = _as_array(name, values)
    if array.dtype.kind not in 'fiu':
        raise InvalidTypeError(
            f'`{name}` must be numbers, but got an array of {array.dtype}')
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype ==
                             np.float16 else np.float64)
    return array


def _as_array(name: str, values: Union[Tensor, Sequence]) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:  # unknown to numpy
            values = values.float()
    try:
        return np.asarray(values)
    except ValueError:  # rows of unequal length
        raise InvalidValueError(
            f'`{name}` must be an array, but the rows of '
            f'{shortened(values)} differ in length') from None
