"""Which runs of the results JSON are alike, and may be averaged.

Only a finished run counts in a figure. A temperature of 1 and no calibrator
at all leave the teacher the same, so both are one row.
"""
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

# A run as the JSON has it.
Record = Dict[str, Any]

# From no teacher to the more involved methods.
_ORDER = ('teacher', 'baseline', 'kd', 'tcal', 'wttm', 'dkd')
_NAMES = dict(kd='KD', tcal='TCal', wttm='WTTM', dkd='DKD')


class Row(NamedTuple):
    """What a row of a table is about.

    Attributes:
        method (str): 'teacher', 'baseline', 'kd', 'tcal', 'wttm' or 'dkd'.
        temperature (float): Of the teacher's calibrator; 1 for a teacher as
            it is.
        fitted (bool): Whether the temperature was fitted on val.
    """
    method: str
    temperature: float = 1.0
    fitted: bool = False

    @property
    def label(self) -> str:
        """How tables and figures name it."""
        name = _NAMES.get(self.method, self.method.capitalize())
        temperature = f'T = {self.temperature:.3g}'
        if self.fitted:
            return f'{name}, fitted {temperature}'
        # Only of TCal a temperature of 1 is a choice worth naming.
        if self.method == 'tcal' or self.temperature != 1.0:
            return f'{name}, {temperature}'
        return name

    @property
    def sort_key(self) -> Tuple[int, bool, float]:
        """By method, then temperature, the fitted one last."""
        return _ORDER.index(self.method), self.fitted, self.temperature


def as_temperature(value: Optional[float]) -> float:
    """The temperature of a record, where null is a teacher as it is."""
    return 1.0 if value is None else float(value)


def row_of(run: Record) -> Row:
    """The row that a run belongs to."""
    return Row(run['method'], as_temperature(run['temperature']),
               bool(run['fitted']))


def finished_runs(runs: Iterable[Record], *stages: str) -> List[Record]:
    """Those of some stages that may be averaged."""
    return [
        run for run in runs
        if run['stage'] in stages and run['status'] == 'finished'
    ]


def by_row(
        runs: Iterable[Record]
) -> Dict[Tuple[Row, Optional[float]], List[Record]]:
    """Runs by row and loss weight, in the order of a table."""
    groups: Dict[Tuple[Row, Optional[float]], List[Record]] = {}
    for run in runs:
        groups.setdefault((row_of(run), run['loss_weight']), []).append(run)
    return dict(
        sorted(
            groups.items(),
            key=lambda item: (item[0][0].sort_key, item[0][1] or 0.0)))


def by_seed(runs: Iterable[Record], split: str,
            figure: str) -> Dict[int, float]:
    """A figure of runs that differ in nothing but their seed.

    A seed that was run twice is one seed, with the mean of both: counting it
    twice would narrow every interval for nothing.

    Args:
        runs (Iterable[dict]): Finished runs.
        split (str): 'val' or 'test'.
        figure (str): E.g. 'mAP'.

    Returns:
        dict[int, float]: By seed in rising order, without runs that lack
        the figure.
    """
    values: Dict[int, List[float]] = {}
    for run in runs:
        value = (run[split] or {}).get(figure)
        if value is not None:
            values.setdefault(run['seed'], []).append(value)
    return {
        seed: sum(values[seed]) / len(values[seed])
        for seed in sorted(values)
    }
