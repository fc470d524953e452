"""The explanations that were registered, and which of them hold."""
from typing import Dict, List, NamedTuple, Sequence

from ..rows import Row
from .estimates import Estimate
from .findings import Teachers, interventions, oracle_differences

SIGNIFICANCE = 0.05


class Condition(NamedTuple):
    """Part of an explanation.

    Attributes:
        text (str): What it says.
        state (int): 1 if it holds, -1 if its opposite does, else 0.
    """
    text: str
    state: int


def explanations(teachers: Teachers,
                 rows: Sequence[Row]) -> Dict[str, List[Condition]]:
    """What each explanation demands, and whether it is so.

    Args:
        teachers (Teachers): All teachers.
        rows (sequence[dict]): Rows of the results file.

    Returns:
        dict[str, list[Condition]]: By name of the explanation.
    """
    found = interventions(teachers)
    oracle = {
        temperature: _oracle_sign(difference, p_value)
        for temperature, (difference,
                          p_value) in oracle_differences(rows).items()
    }
    unseen = found['t3, unseen'].sign
    return dict(
        calibration=[
            Condition('oracle: T = 0.5 is below T = 1', -oracle.get(0.5, 0)),
            Condition('oracle: T = 3 is below T = 1', -oracle.get(3.0, 0)),
            Condition('the fitted T gains more where it removes more ACE',
                      found['slope over ACE'].sign)
        ],
        softness=[
            Condition('oracle: T = 3 is above T = 1', oracle.get(3.0, 0)),
            Condition('unseen teachers: T = 3 is above T = 1', unseen)
        ],
        memorisation=[
            Condition('seen teachers: T = 3 is above T = 1',
                      found['t3, seen'].sign),
            Condition('T = 3 gains more with seen than with unseen teachers',
                      found['t3, seen - unseen'].sign),
            Condition('unseen teachers: T = 3 is not above T = 1',
                      _is_not_above(found['t3, unseen']))
        ])


def _oracle_sign(difference: Estimate, p_value: float) -> int:
    if not p_value < SIGNIFICANCE:
        return 0
    return 1 if difference.value > 0 else -1


def _is_not_above(estimate: Estimate) -> int:
    """1 if an interval reaches 0 or lies below; 0 where there is none."""
    if not estimate.low <= estimate.high:
        return 0
    return -1 if estimate.sign > 0 else 1


def verdict(conditions: Sequence[Condition]) -> str:
    """'holds', 'contradicted' or 'not shown'.

    Args:
        conditions (sequence[Condition]): All that an explanation demands.
    """
    states = [condition.state for condition in conditions]
    if min(states) < 0:
        return 'contradicted'
    return 'holds' if min(states) > 0 else 'not shown'
