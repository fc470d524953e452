"""Checks of numbers that come from a config, a file or a command line.

A number is what Python counts as real, numpy's scalars and arrays of no
dimension included. Booleans are refused, as ``True`` for 1 is a slip.
"""
import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from .errors import InvalidTypeError, InvalidValueError


def check_positive(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in (0, inf).

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is zero, negative, infinite or NaN.
    """
    number = _as_float(name, value, 'a number in (0, inf)')
    if not 0 < number < math.inf:
        raise InvalidValueError(
            f'`{name}` must be in (0, inf), but got {shortened(value)}')
    return number


def check_non_negative(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in [0, inf).

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is negative, infinite or NaN.
    """
    number = _as_float(name, value, 'a number in [0, inf)')
    if not 0 <= number < math.inf:
        raise InvalidValueError(
            f'`{name}` must be in [0, inf), but got {shortened(value)}')
    return number


def check_finite(name: str, value: float) -> float:
    """Return ``value`` as a float if it is neither infinite nor NaN.

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is infinite or NaN.
    """
    number = _as_float(name, value, 'a finite number')
    if not math.isfinite(number):
        raise InvalidValueError(
            f'`{name}` must be a finite number, but got {shortened(value)}')
    return number


def check_fraction(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in [0, 1].

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is outside or NaN.
    """
    number = _as_float(name, value, 'a number in [0, 1]')
    if not 0 <= number <= 1:
        raise InvalidValueError(
            f'`{name}` must be in [0, 1], but got {shortened(value)}')
    return number


def check_whole(name: str, value: int, lowest: int = 0) -> int:
    """Return ``value`` as an int if it is whole and at least ``lowest``.

    Args:
        name (str): The argument's name, for the message.
        value (int): What the user gave.
        lowest (int): Smallest number allowed. Defaults to 0.

    Raises:
        InvalidTypeError: If it is not a whole number.
        InvalidValueError: If it is smaller.
    """
    number = _without_array(value)
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise InvalidTypeError(
            f'`{name}` must be a whole number >= {lowest}, but got '
            f'{shortened(value)} of type {type(value).__name__}')
    if number < lowest:
        raise InvalidValueError(
            f'`{name}` must be >= {lowest}, but got {shortened(value)}')
    return int(number)


def shortened(value: Any, limit: int = 80) -> str:
    """What the user gave, in one line that a message can hold.

    Args:
        value (Any): Of any type and size.
        limit (int): Largest number of characters. Defaults to 80.
    """
    text = ' '.join(repr(value).split())
    return text if len(text) <= limit else text[:limit] + '...'


def _as_float(name: str, value: Any, allowed: str) -> float:
    number = _without_array(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise InvalidTypeError(
            f'`{name}` must be {allowed}, but got {shortened(value)} of type '
            f'{type(value).__name__}')
    try:
        return float(number)
    except OverflowError:  # a whole number beyond float64
        return math.inf if number > 0 else -math.inf


def _without_array(value: Any) -> Any:
    is_scalar_array = isinstance(value, np.ndarray) and value.ndim == 0
    return value[()] if is_scalar_array else value
