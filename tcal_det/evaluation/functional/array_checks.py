"""Checks of the arrays and options that users pass to this package.

This module does not import torch; tensors are recognised by their methods.
"""
from typing import Any, Iterator, Sequence, Sized

import numpy as np
from numpy.typing import ArrayLike

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError

NUMBERS = (int, float, np.integer, np.floating)


def without_tensor(value: Any) -> Any:
    """Convert a tensor to an array, and return any other value unchanged.

    Args:
        value (Any): Tensor of any type, on any device, with or without a
            gradient; or any other value.

    Returns:
        Any: Array if the value is a tensor, float64 for floating point.
    """
    if not hasattr(value, 'detach'):
        return value
    value = value.detach().cpu()
    if value.is_floating_point():
        value = value.double()  # numpy has no bfloat16
    return value.numpy()


def number_array(value: Any) -> np.ndarray:
    """Convert a value to an array of numbers, or raise any exception.

    Args:
        value (Any): Array, tensor on any device, or list of numbers.
    """
    value = without_tensor(value)
    # numpy would convert booleans and small tensors in a list to numbers.
    if isinstance(value,
                  (list, tuple)) and not are_numbers(list(_leaves(value))):
        raise TypeError(value)
    array = np.asarray(value)
    if array.dtype.kind not in 'iuf':
        raise TypeError(array.dtype)
    return array


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers; booleans do not count as numbers."""
    # Checked by type, as there are few types. bool is a subclass of int.
    return all(
        issubclass(kind, NUMBERS) and kind is not bool
        for kind in set(map(type, values)))


def _leaves(rows: Sequence[Any]) -> Iterator[Any]:
    for item in rows:
        if isinstance(item, (list, tuple)):
            yield from _leaves(item)
        else:
            yield item


def as_unit_interval(name: str,
                     values: ArrayLike,
                     ndim: int = 1) -> np.ndarray:
    """Return ``values`` as a float64 array whose entries lie in [0, 1].

    Args:
        name (str): Name of the argument, for the message.
        values (Sequence[float]): Numbers or booleans with ``ndim`` dimensions,
            also as a tensor.
        ndim (int): Number of dimensions. Defaults to 1.

    Raises:
        InvalidTypeError: If the values are not numbers.
        InvalidValueError: If the shape is wrong, or a value is NaN or
            outside [0, 1].
    """
    try:
        array = np.asarray(without_tensor(values))
        if array.dtype.kind not in 'biuf':  # '0.5' would become 0.5
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        raise InvalidTypeError(
            f'`{name}` must be an array of numbers in [0, 1], but got '
            f'{shortened(values)}') from None
    array = array.astype(np.float64, copy=False)
    if array.ndim != ndim:
        raise InvalidValueError(f'`{name}` must have {ndim} dimension(s), '
                                f'but got shape {array.shape}')
    # The comparison is written so that NaN fails it.
    bad = ~((array >= 0) & (array <= 1))
    if bad.any():
        position = np.unravel_index(np.argmax(bad), array.shape)
        where = ', '.join(str(int(i)) for i in position)
        raise InvalidValueError(
            f'`{name}` must be in [0, 1], but got {array[position]} at '
            f'[{where}] ({int(bad.sum())} such value(s)); pass '
            'probabilities, not logits')
    return array


def as_labels(name: str, values: ArrayLike, num_samples: int,
              num_classes: int) -> np.ndarray:
    """Return ``values`` as int64 class labels in [0, num_classes).

    Args:
        name (str): Name of the argument, for the message.
        values (Sequence[int]): Class labels, shape (num_samples,), also as a
            tensor.
        num_samples (int): Required number of labels.
        num_classes (int): Number of classes; labels must be below it.

    Raises:
        InvalidTypeError: If the labels are not whole numbers.
        InvalidValueError: If the length is wrong or a label is out of
            range.
    """
    try:
        labels = np.asarray(without_tensor(values))
    except (TypeError, ValueError, RuntimeError):
        raise InvalidTypeError(
            f'`{name}` must be an array of whole numbers, one per sample, but '
            f'got {shortened(values)}') from None
    if labels.size == 0:
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in 'iu':
        raise InvalidTypeError(f'`{name}` must be whole numbers, but got '
                               f'an array of {labels.dtype}')
    if labels.shape != (num_samples, ):
        raise InvalidValueError(f'`{name}` must have shape ({num_samples},), '
                                f'one per sample, but got {labels.shape}')
    bad = (labels < 0) | (labels >= num_classes)
    if bad.any():
        position = int(np.argmax(bad))
        raise InvalidValueError(
            f'`{name}` must be in [0, {num_classes - 1}], one label per '
            f'column of the probabilities, but got {labels[position]} at '
            f'[{position}]')
    return labels.astype(np.int64, copy=False)


def check_same_length(name: str, values: Sized, other_name: str,
                      other: Sized) -> None:
    """Raise unless two arrays have the same number of samples."""
    if len(values) != len(other):
        raise InvalidValueError(
            f'`{name}` and `{other_name}` must have the same length, but '
            f'got {len(values)} and {len(other)}')
