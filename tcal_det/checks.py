"""Checks of numbers that come from a config, a file or a command line.

A number is what Python counts as real, numpy's scalars and arrays of no
dimension included. Booleans are refused, as ``True`` for 1 is a slip.
"""
import math
import reprlib
from numbers import Integral, Real
from typing import Any, Callable, Optional, Sequence

import numpy as np

from .errors import InvalidTypeError, InvalidValueError

# A file may hold lists of a million entries, or a thousand lists deep.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


def check_positive(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in (0, inf).

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is zero, negative, infinite or NaN.
    """
    return _in_interval(name, value, '(0, inf)',
                        lambda number: 0 < number < math.inf)


def check_non_negative(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in [0, inf).

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is negative, infinite or NaN.
    """
    return _in_interval(name, value, '[0, inf)',
                        lambda number: 0 <= number < math.inf)


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
    return _in_interval(name, value, '[0, 1]', lambda number: 0 <= number <= 1)


def check_count(name: str,
                value: int,
                lowest: int = 1,
                highest: Optional[int] = None) -> int:
    """Return ``value`` as an int if it is a whole number in the range.

    Args:
        name (str): The argument's name, for the message.
        value (int): What the user gave.
        lowest (int): Least number allowed. Defaults to 1.
        highest (int, optional): Largest number allowed. Defaults to None,
            any.

    Raises:
        InvalidTypeError: If it is not a whole number.
        InvalidValueError: If it is out of range.
    """
    number = _without_array(value)
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise InvalidTypeError(
            f'`{name}` must be a whole number, but got {shortened(value)} of '
            f'type {type(value).__name__}')
    if number < lowest or (highest is not None and number > highest):
        allowed = f'>= {lowest}' if highest is None else (
            f'in [{lowest}, {highest}]')
        raise InvalidValueError(
            f'`{name}` must be {allowed}, but got {shortened(value)}')
    return int(number)


def check_iou_thr(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in [0, 1).

    1 is left out: LRP divides by 1 - threshold.

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is outside or NaN.
    """
    return _in_interval(name, value, '[0, 1)', lambda number: 0 <= number < 1)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of the words allowed.

    Args:
        name (str): The argument's name, for the message.
        value (str): What the user gave.
        allowed (sequence[str]): The words.

    Raises:
        InvalidValueError: If it is another.
    """
    if value not in allowed:
        words = ' or '.join(repr(word) for word in allowed)
        raise InvalidValueError(f'`{name}` must be {words}, but got '
                                f'{shortened(value)}')
    return value


def shortened(value: object, limit: int = 80) -> str:
    """The value as a message shows it, whatever its length or depth.

    Args:
        value (object): Anything, of any size.
        limit (int): Largest number of characters. Defaults to 80.
    """
    text = ' '.join(_REPR.repr(value).split())
    return text if len(text) <= limit else text[:limit] + '...'


def _in_interval(name: str, value: Any, interval: str,
                 contains: Callable[[float], bool]) -> float:
    number = _as_float(name, value, f'a number in {interval}')
    if not contains(number):
        raise InvalidValueError(
            f'`{name}` must be in {interval}, but got {shortened(value)}')
    return number


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
