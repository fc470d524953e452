"""Checks of the samples that a calibrator is fitted to.

Shapes: N samples; C classes, for softmax with background last; a sigmoid
head has C = K columns, and the label K means background, the row of zeros.
"""
import warnings
from typing import Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from tcal_det.arguments import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError

ACTIVATIONS = ('softmax', 'sigmoid')
# Beyond, sums over the samples leave float64.
LARGEST_LOGIT = 1e290


def check_calibration_data(logits: Union[Tensor, Sequence[Sequence[float]]],
                           labels: Union[Tensor, Sequence[int]],
                           activation: str) -> Tuple[np.ndarray, np.ndarray]:
    """Return the samples as arrays, if a calibrator can be fitted to them.

    Args:
        logits (Tensor | Sequence): Unnormalised scores, shape (N, C), N > 0.
        labels (Tensor | Sequence): Whole numbers, shape (N,): in [0, C) for
            softmax, in [0, C] for sigmoid, where C is background.
        activation (str): 'softmax' or 'sigmoid'.

    Returns:
        Tuple[ndarray, ndarray]: Logits, float32 or float64 as given (half
        precision becomes float32), and labels, int64.

    Raises:
        InvalidTypeError: If the logits are not numbers, or the labels not
            whole ones.
        InvalidValueError: If there is no sample, the shapes do not belong
            together, a logit is not finite or beyond 1e290, or a label out
            of range.
    """
    logits = _as_float_array('logits', logits)
    labels = _as_array('labels', labels)
    fewest = 2 if activation == 'softmax' else 1
    if logits.ndim != 2 or logits.shape[1] < fewest:
        raise InvalidValueError(
            f'`logits` must have shape (N, C) with C >= {fewest} for '
            f'{activation}, but got {logits.shape}')
    num_samples, num_classes = logits.shape
    if num_samples == 0:
        raise InvalidValueError(
            '`logits` must hold at least one sample, but got none: give '
            'images on which the teacher has proposals')
    if labels.shape != (num_samples, ):
        raise InvalidValueError(
            f'`labels` must have shape ({num_samples},), one per row of '
            f'`logits`, but got {labels.shape}')
    if labels.dtype.kind not in 'iu':
        raise InvalidTypeError('`labels` must be whole numbers, but got '
                               f'{labels.dtype}')
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
    highest = num_classes - 1 if activation == 'softmax' else num_classes
    bad = (labels < 0) | (labels > highest)
    if bad.any():
        raise InvalidValueError(
            f'`labels` must be in [0, {highest}] for {num_classes} columns '
            f'of {activation} logits, but got {labels[bad.argmax()]} at '
            f'[{int(bad.argmax())}]: labels and logits must come from the '
            'same classes')
    if (labels == labels[0]).all():
        warnings.warn(
            f'all {num_samples} labels are {labels[0]}: a calibrator fitted '
            'to one class says nothing about the others',
            stacklevel=3)
    return logits, labels.astype(np.int64, copy=False)


def check_fitted(name: str, values: Union[float, np.ndarray],
                 dtype: np.dtype) -> None:
    """Refuse what a fit to extreme samples can come to.

    Args:
        name (str): Name of the parameter, for the message.
        values (float | ndarray): What was fitted.
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
