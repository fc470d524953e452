"""Which runs of the study are compared with which, on the test split."""
from typing import (Any, Callable, Dict, Iterable, Iterator, List, NamedTuple,
                    Optional, Tuple)

from .estimates import Mean, mean_of, paired_difference
from .plan import FRESH_SEEDS, FRESH_TEACHER, TEACHER_OF
from .rows import (Record, Row, as_temperature, by_row, by_seed, finished_runs,
                   row_of)

# The figures of the comparison, as tables name them, with their decimals.
FIGURES = {
    'mAP': 1,
    'AP50': 1,
    'AP75': 1,
    'D-ECE': 2,
    'LaECE_0': 2,
    'LRP_0': 1
}

BASELINE = Row('baseline')
UNCALIBRATED = Row('tcal')
PAPER = Row('tcal', 1.5)

# Pulls that are called equal differ by less: the grid's step is 4.
_EQUAL_GRADIENT = 2.0


class Entry(NamedTuple):
    """Runs that differ in their seed only.

    Attributes:
        row (Row): The method.
        weight (float, optional): Its loss weight.
        runs (list[dict]): Finished.
    """
    row: Row
    weight: Optional[float]
    runs: List[Record]

    def by_seed(self, figure: str, split: str = 'test') -> Dict[int, float]:
        """A figure on test, or on val."""
        return by_seed(self.runs, split, figure)

    def mean(self, figure: str) -> Mean:
        """A figure on test, over seeds."""
        return mean_of(list(self.by_seed(figure).values()))

    def change(self,
               reference: 'Entry',
               figure: str,
               split: str = 'test') -> Mean:
        """Its difference to another entry, over the seeds of both."""
        return paired_difference(
            self.by_seed(figure, split), reference.by_seed(figure, split))


def entries_of(runs: Iterable[Record]) -> List[Entry]:
    """Finished and tested runs, in the order of a table."""
    tested = (run for run in runs if run['test'])
    return [
        Entry(row, weight, group)
        for (row, weight), group in by_row(tested).items()
    ]


def main_entries(results: Dict[str, Any], stage: str = 'seeds') -> List[Entry]:
    """The comparison of methods by a stage, all taught by its teacher."""
    return entries_of(
        run for run in finished_runs(results['runs'], stage)
        if run['teacher'] in (None, TEACHER_OF[stage]))


def grid_baseline(results: Dict[str, Any]) -> Mean:
    """What the student alone reaches beside the grid: mAP on val."""
    runs = [
        run for run in finished_runs(results['runs'], 'grid')
        if row_of(run) == BASELINE
    ]
    return mean_of(list(by_seed(runs, 'val', 'mAP').values()))


def find(entries: Iterable[Entry], row: Row) -> Optional[Entry]:
    """The entry of a method, if it was measured."""
    return next((entry for entry in entries if entry.row == row), None)


def contrasts(entries: List[Entry]) -> List[Tuple[Entry, Entry]]:
    """Pairs of methods that answer the study's first question.

    Does a temperature help beside the teacher as it is; does the paper's
    beside two-sided KD; what do other losses make of a calibrated teacher.
    Where the reference was run at several weights, beside each of them.
    """

    def pairs(chosen: Callable[[Row], bool],
              reference: Row) -> Iterator[Tuple[Entry, Entry]]:
        for entry in entries:
            for other in entries:
                if (chosen(entry.row) and other.row == reference
                        and entry.row != reference):
                    yield entry, other

    return [
        *pairs(lambda row: row.method == 'tcal', UNCALIBRATED),
        *pairs(lambda row: row == PAPER, Row('kd')),
        *pairs(lambda row: row.method == 'wttm', PAPER),
        *pairs(lambda row: row.method == 'dkd', Row('dkd')),
    ]


def gradient_scale(results: Dict[str, Any], row: Row,
                   weight: Optional[float]) -> float:
    """RMS gradient on the student's logits at a loss weight.

    Args:
        results (dict): The study's.
        row (Row): The method.
        weight (float, optional): Its loss weight.

    Returns:
        float: NaN if that of the method was not measured.
    """
    for scale in results['gradient_scales']:
        same_temperature = (
            as_temperature(scale['temperature']) == row.temperature)
        # The temperatures fitted to two teachers differ a little, and what
        # they do to a gradient less.
        both_fitted = row.fitted and scale['fitted']
        if (weight is not None and scale['method'] == row.method
                and (same_temperature or both_fitted)):
            return weight * scale['rms_gradient']
    return float('nan')


def gradient_entries(results: Dict[str, Any]) -> List[Entry]:
    """The comparison at equal gradient scale: that of the paper's method.

    Runs on fresh seeds, of the same teacher, that pull as hard; and the
    baseline, on which nothing pulls.
    """
    entries = entries_of(
        run for run in finished_runs(results['runs'], 'confirmation', 'copies',
                                     'gradient')
        if run['seed'] in FRESH_SEEDS and run['teacher'] in (None,
                                                             FRESH_TEACHER))
    paper = find(entries, PAPER)
    if paper is None or not results['gradient_scales']:
        return []
    wanted = gradient_scale(results, paper.row, paper.weight)
    return [
        entry for entry in entries
        if entry.row == BASELINE or wanted / _EQUAL_GRADIENT < gradient_scale(
            results, entry.row, entry.weight) < wanted * _EQUAL_GRADIENT
    ]
