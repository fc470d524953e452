"""Paired differences, with what chance may do to them.

Differences and margins have one unit, here hundredths (mAP x 100). Where too
little was measured for a figure, it is NaN.

Two kinds of runs are paired. With *seeds* alone, differences are independent
and Student's t is used. With *folds*, the differences of a fold are averaged
over its seeds first, as they share their test images; one value a fold
remains. Folds share training images, too, so that plain t intervals over folds
are too narrow. Their variance is corrected after Nadeau and Bengio (Inference
for the Generalization Error, Machine Learning 52, 2003): ``1 / n`` becomes
``1 / n + n_test / n_train``. The correction is a rule of thumb.
"""
import math
from functools import lru_cache
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy import optimize, special, stats

from tcal_det.errors import InvalidValueError
from .rows import Key

LEVEL = 0.95
ALPHA = 1 - LEVEL
# The chance of a significant result that is commonly asked of an experiment.
POWER = 0.8
NAN = math.nan
# Up to 16 pairs all flips of signs are tried, from 17 on so many random ones.
NUM_FLIPS = 99_999
MOST_PAIRS = 100_000
# A spread below this share of the largest value is rounding.
_ROUNDING = 1e-12

Differences = Dict[Key, float]


class Estimate(NamedTuple):
    """A mean difference with its interval by Student's t.

    Attributes:
        count (int): Number of independent differences: pairs of runs, or
            folds.
        mean (float): Their mean.
        sd (float): Their standard deviation, with ``count - 1`` degrees of
            freedom.
        error (float): Standard error of the mean; NaN without a spread.
        low (float): Lower end of the 95 % interval of the mean.
        high (float): Upper end of the interval.
        p_value (float): Two-sided p value of a mean of 0.
    """
    count: int
    mean: float
    sd: float
    error: float
    low: float
    high: float
    p_value: float


def paired_differences(values: Mapping[Key, float],
                       reference: Mapping[Key, float]) -> Differences:
    """Differences between runs that share their key.

    Args:
        values (Mapping[Key, float]): A figure by key.
        reference (Mapping[Key, float]): The same figure of another arm, or
            differences between two others.

    Returns:
        dict[Key, float]: ``values - reference``, of the keys of both.
    """
    return {
        key: values[key] - reference[key]
        for key in values if key in reference
    }


def has_folds(differences: Mapping[Key, float]) -> bool:
    """Whether any of the differences is one of a fold."""
    return any(key.fold is not None for key in differences)


def independent_values(differences: Mapping[Key, float]) -> List[float]:
    """One value a pair of runs or, with folds, one a fold.

    Args:
        differences (Mapping[Key, float]): Differences, all with a fold or all
            without.

    Returns:
        list[float]: The differences, or their means by fold.

    Raises:
        InvalidValueError: If some have a fold and some have none.
    """
    if not has_folds(differences):
        return list(differences.values())
    by_fold: Dict[Optional[int], List[float]] = {}
    for key, difference in differences.items():
        by_fold.setdefault(key.fold, []).append(difference)
    if None in by_fold:
        raise InvalidValueError(
            'differences must all have a fold or all have none, but got both; '
            'compare them apart')
    return [float(np.mean(by_fold[fold])) for fold in sorted(by_fold)]


def estimate(differences: Mapping[Key, float],
             test_to_train: float = 0.0) -> Estimate:
    """Mean, spread, interval and test of paired differences.

    Args:
        differences (Mapping[Key, float]): Differences by key.
        test_to_train (float): Number of test images of a fold by that of its
            training images, for the corrected variance; not used without
            folds. Defaults to 0, the plain t interval.

    Returns:
        Estimate: Over pairs or over folds, see above.
    """
    values = independent_values(differences)
    count = len(values)
    if count < 2:
        mean = values[0] if values else NAN
        return Estimate(count, mean, NAN, NAN, NAN, NAN, NAN)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    if sd <= _ROUNDING * max(map(abs, values)):
        # Values without any spread tell nothing of chance.
        return Estimate(count, mean, 0.0, NAN, NAN, NAN, NAN)
    shared = test_to_train if has_folds(differences) else 0.0
    error = sd * math.sqrt(1 / count + shared)
    low, high = stats.t.interval(LEVEL, count - 1, mean, error)
    p_value = 2 * stats.t.sf(abs(mean) / error, count - 1)
    return Estimate(count, mean, sd, error, float(low), float(high),
                    float(p_value))


def sign_flip_p(differences: Mapping[Key, float]) -> float:
    """Two-sided p value of the mean when signs are due to chance.

    Exact for up to 16 pairs, else over ``NUM_FLIPS`` random flips from a fixed
    seed. It assumes nothing but independent and symmetric differences, which
    folds do not have: there it is NaN.

    Args:
        differences (Mapping[Key, float]): Differences by key.
    """
    if len(differences) < 2 or has_folds(differences):
        return NAN
    result = stats.permutation_test(
        # The order of keys decides nothing, nor which arm is the reference.
        (
            sorted(differences.values(), key=abs), ),
        np.mean,
        permutation_type='samples',
        vectorized=True,
        n_resamples=NUM_FLIPS,
        batch=NUM_FLIPS // 9,
        random_state=0)
    return float(result.pvalue)


def equivalence_p(estimated: Estimate, margin: float) -> float:
    """The p value of two one-sided t tests (TOST).

    Args:
        estimated (Estimate): Mean difference.
        margin (float): Differences of at least this, either way, matter.

    Returns:
        float: Below 0.05 if the 90 % interval is inside of the margin.
    """
    freedom = estimated.count - 1
    above_low = stats.t.sf((estimated.mean + margin) / estimated.error,
                           freedom)
    below_high = stats.t.cdf((estimated.mean - margin) / estimated.error,
                             freedom)
    return float(max(above_low, below_high))


def holm(p_values: Sequence[float]) -> List[float]:
    """Adjust p values for their number, after Holm (1979).

    Args:
        p_values (Sequence[float]): p values. A NaN stays NaN but counts: a
            contrast that was planned is one of the family before it has runs.
    """
    return list(_holm(tuple(p_values)))


# statsmodels collects garbage in each call, which takes a while.
@lru_cache(maxsize=None)
def _holm(p_values: Tuple[float, ...]) -> Tuple[float, ...]:
    from statsmodels.stats.multitest import multipletests
    values = np.array(p_values, dtype=float)
    adjusted = multipletests(
        np.nan_to_num(values, nan=1.0), alpha=ALPHA, method='holm')[1]
    return tuple(np.where(np.isnan(values), NAN, adjusted).tolist())


def power(difference: float, error: float, freedom: int) -> float:
    """The chance that a two-sided t test at 5 % finds a true difference.

    Args:
        difference (float): True mean.
        error (float): Standard error of the estimated mean, > 0.
        freedom (int): Degrees of freedom of the test, > 0.

    Returns:
        float: NaN without a standard error or a degree of freedom.
    """
    if not error > 0 or freedom < 1:
        return NAN
    # The square of a noncentral t has a noncentral F distribution, whose
    # upper tail is both tails of t. The noncentral t itself, which statsmodels
    # uses, is NaN in newer versions of scipy at many of its arguments.
    limit = stats.f.ppf(LEVEL, 1, freedom)
    return 1 - float(
        special.ncfdtr(1, freedom, (difference / error)**2, limit))


def least_detectable(error: float, freedom: int) -> float:
    """The least true difference that is found with a power of 80 %.

    Args:
        error (float): Standard error of the estimated mean.
        freedom (int): Degrees of freedom of the test.

    Returns:
        float: In the unit of ``error``; NaN where :func:`power` is.
    """
    if not error > 0 or freedom < 1:
        return NAN
    # Power depends on the difference in units of the error alone. One degree
    # of freedom, the worst case, reaches 80 % at 16.3 of them.
    return error * float(
        optimize.brentq(lambda units: power(units, 1.0, freedom) - POWER, 0,
                        20))


def pairs_needed(difference: float, sd: float) -> float:
    """The least number of pairs that finds a difference with 80 % power.

    Args:
        difference (float): True mean difference, > 0.
        sd (float): True standard deviation of the paired differences.

    Returns:
        float: A whole number of at least 2; NaN without a spread, and
        infinity above ``MOST_PAIRS``.
    """
    if not sd > 0:
        return NAN

    def reaches(count: int) -> bool:
        return power(difference, sd / math.sqrt(count), count - 1) >= POWER

    if not reaches(MOST_PAIRS):
        return math.inf
    # Power rises with the number of pairs.
    low, high = 1, MOST_PAIRS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def pooled_sd(samples: Sequence[Sequence[float]]) -> float:
    """The common standard deviation of several samples.

    Args:
        samples (Sequence[Sequence[float]]): Values; each sample has a mean of
            its own. Samples of fewer than two values tell nothing.

    Returns:
        float: Root of the mean variance, weighted by degrees of freedom; NaN
        without any.
    """
    samples = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in samples)
    if not freedom:
        return NAN
    squares = sum(
        (len(sample) - 1) * np.var(sample, ddof=1) for sample in samples)
    return math.sqrt(float(squares) / freedom)
