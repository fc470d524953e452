"""What counts as a number, and what each check allows."""
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from tcal_det.checks import (check_count, check_finite, check_fraction,
                             check_non_negative, check_positive, shortened)
from tcal_det.errors import InvalidTypeError, InvalidValueError

REAL = (check_positive, check_non_negative, check_finite, check_fraction)
NUMBERS = [
    0.5,
    np.float32(0.5),
    np.float16(0.5),
    np.float64(0.5),
    np.array(0.5),
    Fraction(1, 2)
]
WHOLE = [2, np.int64(2), np.uint8(2), np.array(2)]
NO_NUMBERS = [
    True,
    np.bool_(True),
    np.array(True), '1', None, [1], {},
    np.array([1.0]), 1j,
    Decimal(1)
]


@pytest.mark.parametrize('check', REAL)
@pytest.mark.parametrize('value', NUMBERS, ids=repr)
def test_numbers_become_plain_floats(check, value):
    number = check('x', value)
    assert number == 0.5 and type(number) is float


@pytest.mark.parametrize('value', WHOLE, ids=repr)
def test_whole_numbers(value):
    assert type(check_count('x', value)) is int
    assert check_count('x', value, lowest=2, highest=2) == 2
    assert check_positive('x', value) == 2
    with pytest.raises(InvalidValueError, match='`x` must be >= 3.*2'):
        check_count('x', value, lowest=3)
    with pytest.raises(InvalidValueError, match=r'`x` must be in .0, 1.*2'):
        check_count('x', value, lowest=0, highest=1)


@pytest.mark.parametrize('check', [*REAL, check_count])
@pytest.mark.parametrize('value', NO_NUMBERS, ids=repr)
def test_other_types_are_refused(check, value):
    with pytest.raises(InvalidTypeError, match='`x` must be .*number.*type'):
        check('x', value)


def test_whole_numbers_have_no_point():
    for value in (2.0, np.float64(2)):
        with pytest.raises(InvalidTypeError, match='whole number'):
            check_count('x', value)


@pytest.mark.parametrize('check, allowed, refused', [
    (check_positive, [5e-324, 1e308], [0, -5e-324, math.inf, math.nan]),
    (check_non_negative, [0, 1e308], [-5e-324, math.inf, math.nan]),
    (check_finite, [-1e308, 0], [math.inf, -math.inf, math.nan]),
    (check_fraction, [0, 1], [-5e-324, np.nextafter(1, 2), math.nan]),
])
def test_ends_of_the_intervals(check, allowed, refused):
    for value in allowed:
        assert check('x', value) == value
    for value in refused:
        with pytest.raises(InvalidValueError, match='`x` must be'):
            check('x', value)


@pytest.mark.parametrize('check', REAL)
def test_a_number_beyond_float64_is_one_line(check):
    for value in (10**400, -10**400):
        with pytest.raises(InvalidValueError) as caught:
            check('x', value)
        assert len(str(caught.value)) < 200


def test_shortened():
    assert shortened('a\nb') == r"'a\nb'"
    assert shortened(np.eye(2)) == 'array([[1., 0.], [0., 1.]])'
    assert len(shortened('x' * 1000)) <= 83
    deep = []
    for _ in range(100000):
        deep = [deep]
    assert len(shortened(deep)) <= 83
    assert len(shortened(10**4000)) <= 83
    del deep
