"""Statistical tests that an expected loss is small (Learn then Test)."""
import math
from typing import List, Sequence

from scipy.special import bdtr

from tcal_det.checks import check_count, check_fraction, check_non_negative
from tcal_det.errors import InvalidValueError

# Tolerance for the rounding of a sum of fractions, so that ceil does not add
# 1.
ROUNDING = 1e-9


def hoeffding_bentkus_p_value(total_loss: float, num_samples: int,
                              alpha: float) -> float:
    """P-value of "the expected loss exceeds alpha" for losses in [0, 1].

    It is the smaller of Hoeffding's ``exp(-n h(min(R, alpha), alpha))``, where
    h is the relative entropy of two Bernoulli distributions, and Bentkus'
    ``e P(Bin(n, alpha) <= ceil(n R))``, where R is the mean loss.

    Args:
        total_loss (float): Sum of the losses of all samples, n R.
        num_samples (int): Number n of independent samples.
        alpha (float): Upper bound on the expected loss, in (0, 1).

    Returns:
        float: P-value in [0, 1]; 1 without samples.

    Reference:
        Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", J.
        ACM 2021; Angelopoulos et al., "Learn then Test: Calibrating Predictive
        Algorithms to Achieve Risk Control", arXiv 2110.01052.

    Example:
        >>> round(hoeffding_bentkus_p_value(0, 10, 0.25), 6)  # 0.75**10
        0.056314
    """
    alpha = check_level('alpha', alpha)
    check_count('num_samples', num_samples, lowest=0)
    if check_non_negative('total_loss', total_loss) > num_samples + ROUNDING:
        raise InvalidValueError(
            '`total_loss` must be in [0, num_samples], but got '
            f'{total_loss} of {num_samples} sample(s)')
    if num_samples == 0:
        return 1.0
    mean = min(total_loss / num_samples, alpha)
    entropy = (1 - mean) * math.log((1 - mean) / (1 - alpha))
    if mean > 0:
        entropy += mean * math.log(mean / alpha)
    bentkus = math.e * bdtr(
        min(math.ceil(total_loss - ROUNDING), num_samples), num_samples, alpha)
    return float(min(math.exp(-num_samples * entropy), bentkus, 1.0))


def fixed_sequence_tests(total_loss: Sequence[float],
                         num_samples: Sequence[int], alpha: float,
                         delta: float, starts: Sequence[int]) -> List[int]:
    """Find the rejected hypotheses "the expected loss exceeds alpha".

    Beginning at each start, the hypotheses are tested in descending order
    until one cannot be rejected at level ``delta / number of starts``. The
    probability that any true hypothesis is rejected is at most ``delta``: in
    each sequence, it is the probability of rejecting the first true one, which
    is at most that level.

    Args:
        total_loss (Sequence[float]): Sum of the losses of each hypothesis,
            with losses in [0, 1], shape (H,).
        num_samples (Sequence[int]): Number of independent samples of each
            hypothesis, shape (H,).
        alpha (float): Upper bound on the expected loss, in (0, 1).
        delta (float): Upper bound on the probability of an error, in (0, 1).
        starts (Sequence[int]): Indices of the hypotheses to start from,
            without repetition. They must be chosen before the losses are
            known.

    Returns:
        list[int]: Indices of rejected hypotheses, descending.

    Reference:
        Angelopoulos et al., "Learn then Test: Calibrating Predictive
        Algorithms to Achieve Risk Control", arXiv 2110.01052, fixed sequence
        testing.

    Example:
        >>> fixed_sequence_tests([9, 0, 0], [50, 50, 50], 0.1, 0.1, [2])
        [2, 1]
    """
    level = delta / len(starts)
    rejected: List[int] = []
    for start in sorted(starts, reverse=True):
        if rejected and start >= rejected[-1]:
            continue  # already tested by the previous sequence
        for index in range(start, -1, -1):
            if hoeffding_bentkus_p_value(total_loss[index], num_samples[index],
                                         alpha) > level:
                break
            rejected.append(index)
    return rejected


def check_level(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in (0, 1).

    Args:
        name (str): Name of the argument, for the message.
        value (float): Value to check.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is outside (0, 1) or NaN.
    """
    level = check_fraction(name, value)
    if not 0 < level < 1:
        raise InvalidValueError(f'`{name}` must be in (0, 1), but got '
                                f'{value}; nothing can be guaranteed at 0, '
                                'and 1 guarantees nothing')
    return level
