"""The differences that the study's conclusions rest on, with their power."""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .comparisons import (BASELINE, PAPER, UNCALIBRATED, Entry, contrasts,
                          main_entries)
from .estimates import Mean, least_detectable, pooled_std, power
from .markdown import NOT_MEASURED, change, number, percent, table
from .plan import BCCD_TEACHER, FRESH_TEACHER, SEEDS, TEACHER
from .rows import Row, finished_runs, row_of
from .teacher_points import changes_of_teachers

Results = Dict[str, Any]

# What Kim et al. report to have gained on COCO, the least and the most.
PAPERS_GAINS = (0.0068, 0.0177)
_SOFTENED = Row('tcal', 3.0)
_KD = Row('kd')
_DIGITS, _BCCD = 'digits', 'BCCD'
# Loss weights: that of the confirmation, and two-sided KD's, of equal pull.
_WEIGHT, _KD_WEIGHT = 16.0, 4.0
_EARLY_TEACHER, _FIRST_EARLY_TEACHER = 'r18-half-s1_e4', 'r18-half_e4'
_FIRST_SEEDS = (6, 7, 8, 9, 10)
_LAST_SEEDS = (11, 12, 13, 14, 15)


class Side(NamedTuple):
    """Runs of one method with one teacher.

    Attributes:
        row (Row): The method.
        weight (float, optional): Its loss weight.
        teacher (str, optional): Its name.
    """
    row: Row
    weight: Optional[float] = None
    teacher: Optional[str] = None

    def entry(self, results: Results, stages: Tuple[str, ...],
              seeds: Tuple[int, ...]) -> Entry:
        """Its finished runs of some stages, with some seeds or all."""
        runs = [
            run for run in finished_runs(results['runs'], *stages)
            if (row_of(run), run['loss_weight'], run['teacher']) == self
            and run['test'] and (not seeds or run['seed'] in seeds)
        ]
        return Entry(self.row, self.weight, runs)


class Headline(NamedTuple):
    """A difference between two kinds of runs.

    Attributes:
        label (str): What is compared.
        data (str): 'digits' or 'BCCD'.
        stages (tuple[str]): Of its runs.
        side (Side): Whose figures are compared.
        reference (Side): With which.
        seeds (tuple[int]): Of its runs; all that there are if empty.
        is_short (bool): Whether README has it, too.
    """
    label: str
    data: str
    stages: Tuple[str, ...]
    side: Side
    reference: Side
    seeds: Tuple[int, ...] = ()
    is_short: bool = False

    def entries(self, results: Results) -> Tuple[Entry, Entry]:
        """The runs of both sides."""
        side, reference = (
            chosen.entry(results, self.stages, self.seeds)
            for chosen in (self.side, self.reference))
        return side, reference


def _distilled(row: Row, teacher: str, weight: float = _WEIGHT) -> Side:
    return Side(row, weight, teacher)


_FRESH = _distilled(UNCALIBRATED, FRESH_TEACHER)
_FRESH_SOFTENED = _distilled(_SOFTENED, FRESH_TEACHER)
_EARLY = _distilled(UNCALIBRATED, _EARLY_TEACHER)
_BCCD_PLAIN = _distilled(UNCALIBRATED, BCCD_TEACHER)
_BCCD_PAPER = _distilled(PAPER, BCCD_TEACHER)
_TEACHERS = ('confirmation', 'copies')
HEADLINES = (
    Headline(
        'Teacher after epoch 4 vs. after epoch 12, both T = 1',
        _DIGITS,
        _TEACHERS,
        _EARLY,
        _FRESH,
        is_short=True),
    Headline('The same, the first teacher', _DIGITS, ('copies', ),
             _distilled(UNCALIBRATED, _FIRST_EARLY_TEACHER),
             _distilled(UNCALIBRATED, TEACHER)),
    Headline('Teacher after epoch 4, T = 1 vs. after epoch 12, T = 3', _DIGITS,
             _TEACHERS, _EARLY, _FRESH_SOFTENED),
    Headline(
        'T = 1 vs. no teacher',
        _DIGITS, ('confirmation', ),
        _FRESH,
        Side(BASELINE),
        is_short=True),
    Headline(
        'T = 3 vs. T = 1',
        _DIGITS, ('confirmation', ),
        _FRESH_SOFTENED,
        _FRESH,
        is_short=True),
    Headline('The same, its first five seeds', _DIGITS, ('confirmation', ),
             _FRESH_SOFTENED, _FRESH, _FIRST_SEEDS),
    Headline('The same, its last five seeds', _DIGITS, ('confirmation', ),
             _FRESH_SOFTENED, _FRESH, _LAST_SEEDS),
    Headline(
        'T = 1.5 vs. T = 1',
        _DIGITS, ('confirmation', ),
        _distilled(PAPER, FRESH_TEACHER),
        _FRESH,
        is_short=True),
    Headline(
        'T = 1.5 vs. KD',
        _DIGITS, ('seeds', ),
        _distilled(PAPER, TEACHER),
        _distilled(_KD, TEACHER, _KD_WEIGHT),
        SEEDS,
        is_short=True),
    Headline(
        'T = 1 vs. no teacher',
        _BCCD, ('bccd', ),
        _BCCD_PLAIN,
        Side(BASELINE),
        is_short=True),
    Headline(
        'T = 3 vs. T = 1',
        _BCCD, ('bccd', ),
        _distilled(_SOFTENED, BCCD_TEACHER),
        _BCCD_PLAIN,
        is_short=True),
    Headline(
        'T = 1.5 vs. T = 1',
        _BCCD, ('bccd', ),
        _BCCD_PAPER,
        _BCCD_PLAIN,
        is_short=True),
    Headline(
        'T = 1.5 vs. KD',
        _BCCD, ('bccd', ),
        _BCCD_PAPER,
        _distilled(_KD, BCCD_TEACHER, _KD_WEIGHT),
        is_short=True),
)


def headlines_table(results: Results, is_short: bool = False) -> str:
    """The differences that the conclusions rest on, on test and on val.

    Args:
        results (dict): The study's.
        is_short (bool): Whether to leave out what README has no room for.
            Defaults to False.
    """
    rows = []
    for headline in HEADLINES:
        side, reference = headline.entries(results)
        estimate = side.change(reference, 'mAP')
        if is_short and not headline.is_short or not estimate.count:
            continue
        cells = [
            headline.label, headline.data,
            str(estimate.count),
            change(estimate),
            change(side.change(reference, 'mAP', 'val'))
        ]
        if not is_short:
            cells += [
                percent(estimate.std, 2),
                change(side.change(reference, 'D-ECE')),
                change(side.change(reference, 'LaECE_0'))
            ]
        rows.append([*cells, change(side.change(reference, 'LRP_0'), 1)])
    if not rows:
        return NOT_MEASURED
    heading = ['difference', 'data', 'seeds', 'mAP', 'mAP on val']
    if not is_short:
        heading += ['sd of mAP', 'D-ECE', 'LaECE_0']
    lower = 'LRP_0 is' if is_short else 'D-ECE, LaECE_0 and LRP_0 are'
    return (f'{table([*heading, "LRP_0"], rows, num_text_columns=2)}\n\n'
            'Differences between runs of the same seed, x 100, with their '
            '95 % confidence interval (Student\'s t, not corrected for their '
            'number); on test but where val is named. TCal at weight '
            f'{_WEIGHT:g}, KD at {_KD_WEIGHT:g}; one teacher a row. {lower} '
            'better when lower.')


def power_table(results: Results) -> str:
    """Which differences in mAP the comparisons could have shown."""
    groups: Dict[str, List[Mean]] = {}
    for name, stage in (('first comparison', 'seeds'),
                        ('fresh seeds', 'confirmation'), ('BCCD', 'bccd')):
        groups[name] = [
            entry.change(other, 'mAP')
            for entry, other in contrasts(main_entries(results, stage))
        ]
    groups['teachers and copies'] = [
        estimate for _, estimate in changes_of_teachers(results, 'mAP')
    ]
    rows = []
    for name, estimates in groups.items():
        std = pooled_std(estimates)
        if not std > 0:
            continue
        count = max(estimate.count for estimate in estimates)
        rows.append([
            name,
            str(len(estimates)),
            str(count),
            percent(std, 2),
            percent(least_detectable(std, count)),
            *(number(100 * power(gain, std, count), 0) + ' %'
              for gain in PAPERS_GAINS)
        ])
    if not rows:
        return NOT_MEASURED
    heading = [
        'comparison', 'differences', 'seeds', 'pooled sd', 'least difference'
    ] + [f'power for {100 * gain:.2f}' for gain in PAPERS_GAINS]
    return (f'{table(heading, rows)}\n\nDifferences in mAP on test, x 100, '
            'between runs of the same seed. Pooled sd: their standard '
            'deviation over seeds, over all differences of a comparison. '
            'Least difference: the true one that this many seeds show with a '
            'chance of 80 % (p < 0.05, two-sided, one test). Power for: that '
            'chance for the least and the largest gain that the paper '
            'reports on COCO.')
