"""Checks of numbers that come from a config or a command line."""
import math

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
    number = _as_number(name, value, '(0, inf)')
    if not 0 < number < math.inf:
        raise InvalidValueError(
            f'`{name}` must be in (0, inf), but got {value!r}')
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
    number = _as_number(name, value, '[0, inf)')
    if not 0 <= number < math.inf:
        raise InvalidValueError(
            f'`{name}` must be in [0, inf), but got {value!r}')
    return number


def _as_number(name: str, value: float, interval: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(
            f'`{name}` must be a number in {interval}, but got {value!r} of '
            f'type {type(value).__name__}')
    return float(value)
