"""Checks of arguments that come from a config, a file or a command line.

Numbers are Python's real numbers, numpy scalars and zero-dimensional arrays.
Booleans are refused, because ``True`` in place of 1 is usually a mistake.
"""
import math
import reprlib
from numbers import Integral, Real
from typing import Any, Callable, Optional, Sequence

import numpy as np

from .errors import InvalidTypeError, InvalidValueError

# A file may hold lists of a million entries, or lists nested a thousand deep.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


def check_positive(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in (0, inf).

    Args:
        name (str): Name of the argument in the message.
        value (float): Value that the user gave.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is zero, negative, infinite or NaN.
    """
    return _in_interval(name, value, '(0, inf)',
                        lambda number: 0 < number < math.inf)


def check_non_negative(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in [0, inf).

    Args:
        name (str): Name of the argument in the message.
        value (float): Value that the user gave.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is negative, infinite or NaN.
    """
    return _in_interval(name, value, '[0, inf)',
                        lambda number: 0 <= number < math.inf)


def check_finite(name: str, value: float) -> float:
    """Return ``value`` as a float if it is neither infinite nor NaN.

    Args:
        name (str): Name of the argument in the message.
        value (float): Value that the user gave.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is infinite or NaN.
    """
    number = _as_float(name, value, 'a finite number')
    if not math.isfinite(number):
        raise InvalidValueError(
            f'`{name}` must be a finite number, but got {shortened(value)}')
    return number


def check_fraction(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in [0, 1].

    Args:
        name (str): Name of the argument in the message.
        value (float): Value that the user gave.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is outside the interval, or NaN.
    """
    return _in_interval(name, value, '[0, 1]', lambda number: 0 <= number <= 1)


def check_count(name: str,
                value: int,
                lowest: int = 1,
                highest: Optional[int] = None) -> int:
    """Return ``value`` as an int if it is a whole number in the range.

    Args:
        name (str): Name of the argument in the message.
        value (int): Value that the user gave.
        lowest (int): Smallest number allowed. Defaults to 1.
        highest (int, optional): Largest number allowed. Defaults to None, no
            limit.

    Raises:
        InvalidTypeError: If the value is not a whole number.
        InvalidValueError: If the value is out of range.
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

    1 is not allowed, because LRP divides by 1 - threshold.

    Args:
        name (str): Name of the argument in the message.
        value (float): IoU threshold that the user gave.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is outside the interval, or NaN.
    """
    return _in_interval(name, value, '[0, 1)', lambda number: 0 <= number < 1)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of the allowed words.

    Args:
        name (str): Name of the argument in the message.
        value (str): Value that the user gave.
        allowed (Sequence[str]): Allowed words.

    Raises:
        InvalidValueError: If the value is not one of the allowed words.
    """
    if value not in allowed:
        words = ' or '.join(repr(word) for word in allowed)
        raise InvalidValueError(f'`{name}` must be {words}, but got '
                                f'{shortened(value)}')
    return value


def check_type(name: str, value: Any, kind: type, remedy: str) -> None:
    """Raise unless a value is an object of the given class.

    Args:
        name (str): Name of the argument in the message.
        value (Any): Value that the user gave.
        kind (type): Allowed class.
        remedy (str): Advice, for the end of the message.

    Raises:
        InvalidTypeError: If the value is not an object of the class.
    """
    if not isinstance(value, kind):
        raise InvalidTypeError(
            f'`{name}` must be a {kind.__name__}, but got a '
            f'{type(value).__name__}; {remedy}')


def shortened(value: object, limit: int = 80) -> str:
    """Return a short text of a value for messages.

    Args:
        value (object): Any object, of any size or nesting depth.
        limit (int): Maximum number of characters. Defaults to 80.

    Returns:
        str: Text on one line, cut after ``limit`` characters.
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
