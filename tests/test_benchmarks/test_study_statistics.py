"""The study's statistics, by hand and by other means."""
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from benchmarks.study.rows import Key
from benchmarks.study.statistics import (MOST_PAIRS, equivalence_p, estimate,
                                         holm, independent_values,
                                         least_detectable, paired_differences,
                                         pairs_needed, pooled_sd, power,
                                         sign_flip_p)
from tcal_det.errors import InvalidValueError

# Student's t at 97.5 % with 2 and 3 degrees of freedom, from a table.
T_2, T_3 = 4.302653, 3.182446
# Standard deviation, least differences with 8, 16 and 32 pairs, and pairs for
# 0.7, 1.0 and 1.77: what another program gave before this one was written.
POWERS = [(2.75, (3.2, 2.1, 1.4), (124, 62, 21)),
          (1.5, (1.7, 1.1, 0.8), (39, 20, 8)),
          (1.2, (1.4, 0.9, 0.6), (26, 14, 6)),
          (1.06, (1.2, 0.8, 0.5), (21, 11, 6))]


def by_seed(values):
    return {
        Key('digits', 'softmax', seed, None): value
        for seed, value in enumerate(values)
    }


def by_fold(*folds):
    return {
        Key('bccd', 'focal', seed, fold): value
        for fold, values in enumerate(folds)
        for seed, value in enumerate(values)
    }


# Hundredths to two decimals: sums are exact enough for every identity.
samples = st.lists(
    st.integers(-3000, 3000).map(lambda value: value / 100),
    min_size=2,
    max_size=12,
    unique=True)


def test_only_keys_of_both_are_paired():
    values = by_seed([5.0, 7.0, 9.0])
    reference = by_seed([4.0, 9.0])
    assert list(paired_differences(values, reference).values()) == [1.0, -2.0]


def test_interval_by_hand():
    found = estimate(by_seed([1.0, 2.0, 3.0, 4.0]))
    error = math.sqrt(5 / 3) / 2
    assert found.count == 4
    assert found.mean == 2.5
    assert found.sd == pytest.approx(math.sqrt(5 / 3))
    assert found.low == pytest.approx(2.5 - T_3 * error, abs=1e-6)
    assert found.high == pytest.approx(2.5 + T_3 * error, abs=1e-6)


@settings(max_examples=50)
@given(samples)
def test_p_value_is_that_of_scipys_paired_test(differences):
    other = np.linspace(3, 9, len(differences))
    reference = stats.ttest_rel(other + differences, other)
    found = estimate(by_seed(differences))
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-6)


@settings(max_examples=50)
@given(samples)
def test_an_exchange_of_the_arms_flips_the_sign(values):
    values, reference = by_seed(values), by_seed(reversed(values))
    there = paired_differences(values, reference)
    back = paired_differences(reference, values)
    one, other = estimate(there), estimate(back)
    assert one.mean == pytest.approx(-other.mean)
    assert (one.sd, one.p_value) == pytest.approx((other.sd, other.p_value),
                                                  nan_ok=True)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low),
                                                nan_ok=True)
    assert sign_flip_p(there) == sign_flip_p(back)


@settings(max_examples=50)
@given(samples, st.integers(-500, 500))
def test_what_is_added_to_all_runs_of_an_arm_moves_the_interval(values, shift):
    plain = estimate(by_seed(values))
    moved = estimate(by_seed([value + shift for value in values]))
    assert (moved.mean, moved.low, moved.high) == pytest.approx(
        (plain.mean + shift, plain.low + shift, plain.high + shift))
    assert moved.sd == pytest.approx(plain.sd)


@settings(max_examples=50)
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_runs_changes_nothing(values, random):
    items = list(by_seed(values).items())
    random.shuffle(items)
    plain, shuffled = estimate(by_seed(values)), estimate(dict(items))
    assert shuffled == pytest.approx(plain)
    assert sign_flip_p(dict(items)) == sign_flip_p(by_seed(values))


def test_one_pair_has_a_mean_only():
    found = estimate(by_seed([1.5]))
    assert found[:2] == (1, 1.5)
    assert all(map(math.isnan, found[2:]))
    assert estimate({}).count == 0


def test_equal_differences_tell_nothing_of_chance():
    found = estimate(by_seed([0.3 - 0.1, 0.2, 0.4 - 0.2]))
    assert found.mean == pytest.approx(0.2)
    assert found.sd == 0
    assert math.isnan(found.error) and math.isnan(found.p_value)


def test_seeds_of_a_fold_are_averaged():
    differences = by_fold([1.0, 3.0], [4.0, 4.0], [6.0])
    assert independent_values(differences) == [2.0, 4.0, 6.0]


def test_the_corrected_interval_of_folds_by_hand():
    """Sd 2 of 3 folds; tests as large as a third of the training images."""
    found = estimate(by_fold([1.0, 3.0], [4.0, 4.0], [6.0]), 1 / 3)
    half = T_2 * 2.0 * math.sqrt(1 / 3 + 1 / 3)
    assert found.count == 3
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half),
                                                    abs=1e-5)
    statistic = 4 / (2 * math.sqrt(2 / 3))
    assert found.p_value == pytest.approx(2 * stats.t.sf(statistic, 2))


def test_folds_without_shared_images_have_the_plain_interval():
    values = [2.0, 4.0, 6.0]
    folds = estimate(by_fold(*([value] for value in values)))
    assert folds == pytest.approx(estimate(by_seed(values)))


def test_the_correction_is_for_folds_alone():
    values = by_seed([2.0, 4.0, 6.0])
    assert estimate(values, 1 / 3) == estimate(values)


def test_folds_and_seeds_are_not_mixed():
    both = dict(by_seed([1.0]), **{})
    both.update(by_fold([2.0]))
    with pytest.raises(InvalidValueError, match='compare them apart'):
        estimate(both)


def test_sign_flips_by_hand():
    # Of 8 sums of +-1 +-2 +-3 two are at least 6 away from 0.
    assert sign_flip_p(by_seed([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)
    # |-1 + 2 + 3| = 4: also 4, 6 and their negatives.
    assert sign_flip_p(by_seed([-1.0, 2.0, 3.0])) == pytest.approx(4 / 8)


@pytest.mark.parametrize(('count', 'tolerance'), [(9, 1e-12), (17, 0.005)])
def test_sign_flips_are_those_of_all_flips(count, tolerance):
    """Exact for few pairs; five standard errors of 99,999 flips for more."""
    values = np.random.default_rng(0).normal(0.5, 1, count)
    signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    expected = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9)
    assert 0.01 < expected < 0.5
    assert sign_flip_p(by_seed(values)) == pytest.approx(
        expected, abs=tolerance)


def test_random_flips_know_neither_the_order_nor_the_reference():
    values = np.random.default_rng(0).normal(0.4, 1, 20)
    p_value = sign_flip_p(by_seed(values))
    assert sign_flip_p(by_seed(values[::-1])) == p_value
    assert sign_flip_p(by_seed(-values)) == p_value


def test_folds_have_no_sign_flips():
    assert math.isnan(sign_flip_p(by_fold([1.0], [2.0], [3.0])))
    assert math.isnan(sign_flip_p(by_seed([1.0])))


@settings(max_examples=50)
@given(samples)
def test_equivalence_is_that_of_statsmodels(differences):
    other = np.linspace(3, 9, len(differences))
    expected, _, _ = ttost_paired(other + differences, other, -0.7, 0.7)
    found = equivalence_p(estimate(by_seed(differences)), 0.7)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


@settings(max_examples=100)
@given(samples, st.sampled_from([0.7, 3.0, 20.0]))
def test_equivalence_is_a_90_percent_interval_within_the_margin(
        differences, margin):
    found = estimate(by_seed(differences))
    low, high = stats.t.interval(0.9, found.count - 1, found.mean,
                                 stats.sem(differences))
    inside = -margin < low and high < margin
    assert (equivalence_p(found, margin) < 0.05) == inside


def test_holm_by_hand():
    # 3 x 0.01, 2 x 0.03, and 0.04 not below the one before it.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_its_steps_reject(p_values):
    """Step down: compare the k-th smallest with 0.05 / (m - k + 1)."""
    corrected = np.array(holm(p_values))
    rejected = np.zeros(len(p_values), bool)
    for step, place in enumerate(np.argsort(p_values)):
        # A rounding of the product is not what is tested.
        if not p_values[place] * (len(p_values) - step) <= 0.05:
            break
        rejected[place] = True
    assert (rejected == (corrected <= 0.05)).all()


def test_a_contrast_without_runs_counts_in_its_family():
    adjusted = holm([0.02, float('nan'), 0.03])
    assert [adjusted[0], adjusted[2]] == pytest.approx([0.06, 0.06])
    assert math.isnan(adjusted[1])


@pytest.mark.parametrize('count', [3, 5, 8, 16, 32])
@pytest.mark.parametrize('difference', [0.0, 0.7, 1.77])
def test_power_is_that_of_statsmodels(count, difference):
    expected = TTestPower().power(difference / 1.2, count, 0.05)
    if math.isnan(expected):
        pytest.skip('this scipy has no noncentral t at these arguments')
    found = power(difference, 1.2 / math.sqrt(count), count - 1)
    assert found == pytest.approx(expected, abs=1e-4)


def test_power_is_a_share_of_significant_experiments():
    random = np.random.default_rng(0)
    experiments = random.normal(1.0, 1.2, (20_000, 10))
    p_values = stats.ttest_1samp(experiments, 0, axis=1).pvalue
    # Four standard errors of a share.
    assert power(1.0, 1.2 / math.sqrt(10), 9) == pytest.approx(
        np.mean(p_values < 0.05), abs=4 * 0.5 / math.sqrt(20_000))


@pytest.mark.parametrize(('sd', 'least', 'pairs'), POWERS)
def test_power_table_of_the_plan(sd, least, pairs):
    found = [
        least_detectable(sd / math.sqrt(count), count - 1)
        for count in (8, 16, 32)
    ]
    assert found == pytest.approx(least, abs=0.05)
    assert tuple(pairs_needed(gain, sd) for gain in (0.7, 1.0, 1.77)) == pairs


@pytest.mark.parametrize('freedom', [1, 4, 31])
def test_the_least_difference_is_found_four_times_in_five(freedom):
    least = least_detectable(0.3, freedom)
    assert power(least, 0.3, freedom) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize('sd', [0.2, 1.0, 6.0])
def test_one_pair_less_is_too_few(sd):
    count = pairs_needed(0.7, sd)
    assert power(0.7, sd / math.sqrt(count), count - 1) >= 0.8
    assert not power(0.7, sd / math.sqrt(count - 1), count - 2) >= 0.8


def test_no_spread_has_no_power():
    assert math.isnan(power(1.0, float('nan'), 3))
    assert math.isnan(least_detectable(1.0, 0))
    assert math.isnan(pairs_needed(1.0, float('nan')))
    assert pairs_needed(1e-6, 1.0) == math.inf > MOST_PAIRS


def test_pooled_spread_by_hand():
    # Variances 2 and 9 with 1 and 2 degrees of freedom; one value has none.
    assert pooled_sd([[0.0, 2.0], [1.0, 4.0, 7.0],
                      [5.0]]) == pytest.approx(math.sqrt((2 + 18) / 3))
    assert math.isnan(pooled_sd([[1.0], []]))
