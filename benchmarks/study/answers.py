"""The study's questions, answered by the rule of the plan."""
import math
from typing import List, NamedTuple, Sequence

from .contrasts import (FOCAL, LARGEST_GAIN, MARGIN, PRIMARY, SEEN,
                        SOFTMAX_REAL, Contrast)
from .markdown import NOTHING, change, percent, table
from .rows import Row
from .statistics import (ALPHA, Estimate, equivalence_p, has_folds, holm,
                         independent_values, power)

_DIGITS, _CELLS, _FOCAL = ('softmax, digits', 'softmax, blood cells',
                           'focal, blood cells')
_NO_RUNS = 'not measured yet'


class Question(NamedTuple):
    """What is asked, and the contrast that answers it.

    Attributes:
        text (str): A question that yes or no answers.
        scope (str): Head and data.
        contrast (Contrast): Its mean is positive if yes is right of mAP.
        family (list[Contrast]): Contrasts for whose number p values are
            corrected. Empty for a secondary question.
        figures (tuple[str]): Figures whose p values are corrected.
        is_short (bool): Whether README has it, too.
    """
    text: str
    scope: str
    contrast: Contrast
    family: List[Contrast] = []
    figures: Sequence[str] = ()
    is_short: bool = False

    def p_value(self, rows: Sequence[Row], figure: str) -> float:
        """The p value that decides, of a figure on test."""
        if figure not in self.figures:
            return self.contrast.estimate(rows, figure).p_value
        return family_p_values(self.family, rows,
                               figure)[self.family.index(self.contrast)]


def family_p_values(family: List[Contrast],
                    rows: Sequence[Row],
                    figure: str = 'mAP') -> List[float]:
    """Holm's p values of a family of contrasts, on test."""
    return holm(
        [contrast.estimate(rows, figure).p_value for contrast in family])


QUESTIONS = [
    Question('Is TCal (T = 1.5) better than KD?', _DIGITS, PRIMARY[0], PRIMARY,
             ('mAP', ), True),
    Question(
        'Is a teacher (T = 1) better than the labels alone, weighted as '
        'heavily?', _DIGITS, PRIMARY[2], PRIMARY, ('mAP', ), True),
    Question('Is a softened teacher (T = 3) better than T = 1?', _DIGITS,
             PRIMARY[1], PRIMARY, ('mAP', ), True),
    Question('Is a calibrated teacher (Platt) better than a raw one?', _FOCAL,
             FOCAL[0], FOCAL, ('mAP', 'D-ECE'), True),
    Question('Is a softened teacher (T = 1.5) better than a raw one?', _FOCAL,
             FOCAL[1], FOCAL, ('mAP', 'D-ECE'), True),
    Question(
        'Is TCal (T = 1.5) better than KD?',
        _CELLS,
        SOFTMAX_REAL[0],
        is_short=True),
    Question(
        "Is a teacher (T = 1) that has seen the student's images better?",
        _DIGITS,
        SEEN,
        is_short=True),
]


def verdict(estimated: Estimate,
            p_value: float,
            margin: float = MARGIN) -> str:
    """The answer in mAP.

    Args:
        estimated (Estimate): Mean difference; positive is better.
        p_value (float): p value of no difference, corrected if it is one of a
            family.
        margin (float): Differences of at least this matter. Defaults to 0.7.

    Returns:
        str: 'not measured yet' or 'not settled (n = ...)' if there is no
        interval; 'yes' or 'no, worse' if the p value is below 5 %, with a note
        if the difference is equivalent to none as well; else 'equivalent
        within ...' if two one-sided tests are below 5 %; else 'not settled'.
    """
    if not estimated.count:
        return _NO_RUNS
    if math.isnan(estimated.error):
        return f'not settled (n = {estimated.count})'
    is_equivalent = equivalence_p(estimated, margin) < ALPHA
    if p_value < ALPHA:
        note = f', by less than {margin:g}' if is_equivalent else ''
        return ('yes' if estimated.mean > 0 else 'no, worse') + note
    if is_equivalent:
        return f'equivalent within {margin:g}'
    freedom = estimated.count - 1
    powers = ', '.join(
        f'{gain:g}: {percent(power(gain, estimated.error, freedom))}'
        for gain in (margin, LARGEST_GAIN))
    return f'not settled (power for {powers})'


def error_verdict(estimated: Estimate, p_value: float) -> str:
    """The answer in a calibration error, for which there is no margin."""
    if not estimated.count:
        return _NO_RUNS
    if math.isnan(estimated.error):
        return f'not settled (n = {estimated.count})'
    if p_value < ALPHA:
        return 'yes' if estimated.mean < 0 else 'no, worse'
    return 'not settled'


def count_text(contrast: Contrast, rows: Sequence[Row]) -> str:
    """How many independent differences there are, and of what."""
    differences = contrast.differences(rows)
    count = len(independent_values(differences))
    unit = 'fold' if has_folds(differences) else 'seed'
    return f'{count} {unit}{"" if count == 1 else "s"}' if count else NOTHING


def answers_table(rows: Sequence[Row]) -> str:
    """A row a question."""
    cells = []
    for question in QUESTIONS:
        accuracy, error = (
            question.contrast.estimate(rows, figure)
            for figure in ('mAP', 'D-ECE'))
        name = f'**{question.text}**' if question.family else question.text
        cells.append([
            name, question.scope,
            verdict(accuracy, question.p_value(rows, 'mAP')),
            error_verdict(error, question.p_value(rows, 'D-ECE')),
            count_text(question.contrast, rows),
            change(accuracy),
            change(error)
        ])
    heading = [
        'question', 'head, data', 'in mAP', 'in D-ECE', 'n', 'mAP', 'D-ECE'
    ]
    return table(
        heading, cells, num_text_columns=4
    ) + (
        '\n\nDifferences on test x 100 with 95 % intervals, paired by seed or '
        'fold; D-ECE is better when lower. Bold: families of three, mAP (and '
        'D-ECE of the focal head) corrected after Holm; the others are '
        'secondary and uncorrected. "Equivalent": two one-sided tests, '
        f'uncorrected, exclude a difference of {MARGIN} mAP. "Not settled": '
        'neither, with the power that one test of these runs has for the '
        'least and the largest gain of the paper.')


def short_list(rows: Sequence[Row]) -> str:
    """A line a question for README; those of too few runs share one."""
    lines, waiting = [], []
    for question in QUESTIONS:
        if not question.is_short:
            continue
        accuracy, error = (
            question.contrast.estimate(rows, figure)
            for figure in ('mAP', 'D-ECE'))
        if accuracy.count < 2:
            waiting.append(f'{question.text} ({question.scope})')
            continue
        # The power, which follows in brackets, is in the study's table.
        answer, _, _ = verdict(accuracy,
                               question.p_value(rows, 'mAP')).partition(' (')
        lines.append(f'- {question.text} ({question.scope}) '
                     f'**{_capital(answer)}.** mAP {change(accuracy, 1)}, '
                     f'D-ECE {change(error, 1)}, '
                     f'{count_text(question.contrast, rows)}'
                     f'{"" if question.family else " (secondary)"}.')
    if waiting:
        lines.append('- Not answered yet, too few runs: ' + ' '.join(waiting))
    return '\n'.join(lines)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
