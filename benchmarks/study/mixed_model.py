"""The secondary model of the primary measure: arms, teachers, seeds."""
import warnings
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy import stats

from .rows import Row
from .statistics import LEVEL


class Effect(NamedTuple):
    """A fixed effect, x 100.

    Attributes:
        value (float): Estimated difference to the reference.
        low (float): Lower end of its 95 % interval, of a normal distribution.
        high (float): Upper end of the interval.
    """
    value: float
    low: float
    high: float


class MixedModel(NamedTuple):
    """What was fitted, or why nothing was.

    Attributes:
        count (int): Number of runs.
        arms (dict[str, Effect]): Effects by arm, relative to the reference.
        teachers (dict[str, Effect]): Effects by teacher, relative to the
            first.
        seed_sd (float): Standard deviation over seeds.
        residual_sd (float): Standard deviation of what is left.
        problem (str, optional): Why there are no effects.
    """
    count: int
    arms: Dict[str, Effect] = {}
    teachers: Dict[str, Effect] = {}
    seed_sd: float = float('nan')
    residual_sd: float = float('nan')
    problem: Optional[str] = None


def fit_mixed_model(rows: Sequence[Row],
                    figure: str = 'mAP',
                    reference: str = 'baseline') -> MixedModel:
    """Fit figure ~ arm + teacher + (1 | seed) on test, by REML.

    Runs without a teacher have no effect of one.

    Args:
        rows (Sequence[dict]): Rows of one block.
        figure (str): Name of the figure. Defaults to 'mAP'.
        reference (str): Arm that the others are compared with. Defaults to
            'baseline'.

    Returns:
        MixedModel: With a problem instead of effects if the runs do not
        determine them, or the fit does not converge.
    """
    rows = [row for row in rows if row['test'].get(figure) is not None]
    arms, teachers, design = _design(rows, reference)
    problem = _reason_against_fit(rows, reference, design)
    if problem:
        return MixedModel(len(rows), problem=problem)
    fitted, problem = _fit(
        np.array([100 * row['test'][figure] for row in rows]), design,
        [row['seed'] for row in rows])
    if problem:
        return MixedModel(len(rows), problem=problem)
    half = stats.norm.ppf((1 + LEVEL) / 2) * fitted.bse_fe
    effects = [
        Effect(float(value), float(value - width), float(value + width))
        for value, width in zip(fitted.fe_params, half)
    ][1:]
    return MixedModel(
        len(rows), dict(zip(arms, effects)),
        dict(zip(teachers, effects[len(arms):])),
        float(np.sqrt(fitted.cov_re[0, 0])), float(np.sqrt(fitted.scale)))


def _design(rows: Sequence[Row],
            reference: str) -> Tuple[List[str], List[str], np.ndarray]:
    """Names of arms and teachers that have a column, and the columns."""
    arms = sorted({row['arm'] for row in rows} - {reference})
    teachers = sorted({row['teacher'] for row in rows} - {None})[1:]
    design = np.array([[
        1, *(row['arm'] == arm for arm in arms), *(row['teacher'] == teacher
                                                   for teacher in teachers)
    ] for row in rows], float)
    return arms, teachers, design


def _reason_against_fit(rows: Sequence[Row], reference: str,
                        design: np.ndarray) -> Optional[str]:
    if all(row['arm'] != reference for row in rows):
        return f'there is no run of `{reference}`'
    if len({row['seed'] for row in rows}) < 3:
        return 'there are fewer than three seeds'
    if len(rows) <= design.shape[1] + 1:
        return f'there are {len(rows)} runs for {design.shape[1]} effects'
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return 'arms and teachers cannot be told apart by these runs'
    return None


def _fit(values: np.ndarray, design: np.ndarray, seeds: List[int]):
    from statsmodels.regression.mixed_linear_model import MixedLM
    with warnings.catch_warnings():
        # A spread of 0 over seeds is said by its estimate.
        warnings.simplefilter('ignore')
        try:
            fitted = MixedLM(values, design, groups=seeds).fit()
        except (np.linalg.LinAlgError, ValueError) as error:
            return None, f'the fit failed ({error})'
    if not fitted.converged or not np.isfinite(fitted.bse_fe).all():
        return None, 'the fit did not converge'
    return fitted, None
