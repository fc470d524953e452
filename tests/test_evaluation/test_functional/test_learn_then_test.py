import math

import numpy as np
import pytest
from scipy.stats import binom

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional.learn_then_test import (
    fixed_sequence_tests, hoeffding_bentkus_p_value)


@pytest.mark.parametrize('mean, num_samples, alpha, expected', [
    (0.1, 100, 0.2, 0.015484368840113737),
    (0.05, 400, 0.1, 0.0005676079452857908),
    (1 / 60, 60, 0.1, 0.03229344618220305),
    (0.29, 1000, 0.3, 0.6983494338968744),
    (1 / 3, 30, 0.5, 0.13419769584157695),
])
def test_equals_mapie(mean, num_samples, alpha, expected):
    """Values of MAPIE 1.6.0, ``compute_hoeffding_bentkus_p_value``."""
    assert hoeffding_bentkus_p_value(mean * num_samples, num_samples,
                                     alpha) == pytest.approx(
                                         expected, rel=1e-9)


def test_p_values_by_hand():
    # Hoeffding's: nothing lost. Bentkus' is e times this.
    assert hoeffding_bentkus_p_value(0, 20, .1) == pytest.approx(.9**20)
    # Bentkus': e * P(at most 2 heads of 20 coins), below Hoeffding's here.
    bentkus = math.e * (1 + 20 + 190) / 2**20
    for total in (2, 1.95):
        assert hoeffding_bentkus_p_value(total, 20,
                                         .5) == pytest.approx(bentkus)
    assert hoeffding_bentkus_p_value(2, 20, .1) == 1
    assert hoeffding_bentkus_p_value(20, 20, .1) == 1
    assert hoeffding_bentkus_p_value(0, 0, .1) == 1


def test_rounding_of_a_sum_does_not_count_as_one_more():
    total = sum([1 / 49] * 98) + 1e-14
    assert total > 2
    assert hoeffding_bentkus_p_value(total, 20, .5) == pytest.approx(
        hoeffding_bentkus_p_value(2, 20, .5), rel=1e-9)


@pytest.mark.parametrize('alpha', [0.05, 0.1, 0.3, 0.7])
@pytest.mark.parametrize('num_samples', [1, 5, 30, 200])
def test_p_value_is_valid(num_samples, alpha):
    """If the loss is 1 with probability alpha: P(p <= u) <= u, exactly."""
    losses = np.arange(num_samples + 1)
    p_values = np.array([
        hoeffding_bentkus_p_value(int(loss), num_samples, alpha)
        for loss in losses
    ])
    assert (np.diff(p_values) >= 0).all()
    probability = binom.cdf(losses, num_samples, alpha)
    assert (probability <= p_values + 1e-12).all()


def test_sequences():
    samples = [100] * 6
    total = [0, 0, 30, 0, 0, 30]
    assert fixed_sequence_tests(total, samples, .1, .1, [4]) == [4, 3]
    assert fixed_sequence_tests(total, samples, .1, .1, [5]) == []
    assert fixed_sequence_tests(total, samples, .1, .1, [1, 4]) == [4, 3, 1, 0]
    # A start that another sequence has passed.
    assert fixed_sequence_tests([0] * 6, samples, .1, .1,
                                [1, 5]) == [5, 4, 3, 2, 1, 0]


def test_each_start_has_its_share_of_delta():
    p_value = hoeffding_bentkus_p_value(0, 30, .1)
    for delta, passed in ((p_value, [0]), (p_value * .999, [])):
        assert fixed_sequence_tests([0], [30], .1, delta, [0]) == passed
        assert fixed_sequence_tests([0, 30], [30, 30], .1, 2 * delta,
                                    [0, 1]) == passed


@pytest.mark.parametrize('args, error, words', [
    ((-1, 5, .1), InvalidValueError, 'total_loss'),
    ((6, 5, .1), InvalidValueError, r'total_loss.*\[0, num_samples\].*6 of 5'),
    ((float('nan'), 5, .1), InvalidValueError, 'total_loss'),
    ((1, -1, .1), InvalidValueError, 'num_samples'),
    ((1, 5, 0), InvalidValueError, r'alpha.*\(0, 1\)'),
    ((1, 5, 1), InvalidValueError, r'alpha.*\(0, 1\)'),
    ((1, 5, '0.1'), InvalidTypeError, 'alpha'),
])
def test_bad_input(args, error, words):
    with pytest.raises(error, match=words):
        hoeffding_bentkus_p_value(*args)
