"""Tables of the classifier twin, from its results file."""
import math
from typing import Dict, List, Sequence

import numpy as np

from tcal_det.tables import markdown_table
from ..rows import Row
from .estimates import Estimate
from .findings import (FIGURES, Teachers, accuracies, interventions, line_of,
                       oracle_differences, oracle_students, primary,
                       students_by_arm, teachers_of)
from .plan import HARD_ARM, PLAN
from .verdicts import explanations, verdict

NOTHING = 'No classifier is trained yet.'
NO_VALUE = '-'
VERDICTS = {
    'yes':
    "**Yes**: the teacher's calibration error (ACE) predicts the accuracy of "
    'its students better than its accuracy does',
    'no':
    "**No**: the teacher's accuracy predicts the accuracy of its students "
    'better than its calibration error (ACE) does',
    'not settled':
    "**Not settled** whether the teacher's calibration error (ACE) predicts "
    'the accuracy of its students better than its accuracy does'
}


def tables(rows: Sequence[Row]) -> Dict[str, str]:
    """Markdown of each block of the study's page.

    Args:
        rows (sequence[dict]): Rows of the results file.

    Returns:
        dict[str, str]: 'classifiers': the primary question and the lines
        over teachers; 'classifiers_explanations': which explanation holds;
        'classifiers_intervention': gains by another temperature;
        'classifiers_oracle': students of p* and of hard labels;
        'classifiers_teachers': each teacher.
    """
    teachers = teachers_of(rows)
    return dict(
        classifiers=_lines(teachers, rows),
        classifiers_explanations=_explanations(teachers, rows),
        classifiers_intervention=_interventions(teachers),
        classifiers_oracle=_oracle(rows),
        classifiers_teachers=_teachers(teachers))


def headline(rows: Sequence[Row]) -> str:
    """The answer to the primary question, a sentence.

    Args:
        rows (sequence[dict]): Rows of the results file.
    """
    teachers = teachers_of(rows)
    if not teachers.rows:
        return NOTHING
    difference, answer = primary(teachers)
    num_students = sum(row['kind'] == 'student' for row in rows)
    return (f'{VERDICTS[answer]}: R^2 with ACE less R^2 with accuracy is '
            f'{_text(difference, signed=True)} ({len(teachers.rows)} of '
            f'{len(PLAN.teachers)} teachers, {num_students} of '
            f'{PLAN.num_students} students).')


def _text(estimate: Estimate, digits: int = 2, signed: bool = False) -> str:
    """'0.12 [0.01, 0.30]', without the brackets where there is none."""
    sign = '+' if signed else ''
    if math.isnan(estimate.value):
        return NO_VALUE
    text = f'{estimate.value:{sign}.{digits}f}'
    if math.isnan(estimate.low):
        return text
    return (f'{text} [{estimate.low:{sign}.{digits}f}, '
            f'{estimate.high:{sign}.{digits}f}]')


def _lines(teachers: Teachers, rows: Sequence[Row]) -> str:
    if not teachers.rows:
        return NOTHING
    table = [[
        'figure of the teacher', 'R^2', 'points per standard deviation',
        'R^2 beside accuracy', 'R^2, seen', 'R^2, unseen'
    ]]
    for name, title in FIGURES.items():
        line = line_of(teachers, name)
        table.append([
            title,
            _text(line.r_squared),
            _text(line.slope, signed=True),
            _text(line.given_accuracy),
            _text(line.seen),
            _text(line.unseen)
        ])
    return (f'{headline(rows)}\n\n{markdown_table(table)}\n\n'
            'Mean accuracy of the ten students of a teacher at T = 1 against '
            'clean labels. In brackets: 95 % over resampled teachers. R^2 is '
            'never below 0, so its interval does not tell whether there is a '
            'line: the slope does.')


def _explanations(teachers: Teachers, rows: Sequence[Row]) -> str:
    if not teachers.rows:
        return NOTHING
    states = {1: 'yes', 0: 'not shown', -1: 'the opposite'}
    table = [['explanation', 'verdict', 'demands']]
    for name, conditions in explanations(teachers, rows).items():
        requirements = '; '.join(f'{condition.text}: {states[condition.state]}'
                                 for condition in conditions)
        table.append([name, f'**{verdict(conditions)}**', requirements])
    return markdown_table(table)


def _interventions(teachers: Teachers) -> str:
    if not teachers.rows:
        return NOTHING
    found = interventions(teachers)
    table = [[
        'gain over T = 1, points', 'all', 'seen', 'unseen', 'seen - unseen'
    ]]
    for arm, title in (('fitted', 'T fitted on val'), ('t3', 'T = 3')):
        table.append([title] + [
            _text(found[key], signed=True)
            for key in (arm, f'{arm}, seen', f'{arm}, unseen',
                        f'{arm}, seen - unseen')
        ])
    slopes = [['gain of the fitted T', 'slope', 'slope given log T']]
    for figure, unit in (('ACE', 'per percentage point of ACE removed on val'),
                         ('KL', "per nat of KL(p\\* to teacher) removed on "
                          "the student's crops")):
        slopes.append([
            f'points {unit}',
            _text(found[f'slope over {figure}'], signed=True),
            _text(found[f'slope over {figure} given log T'], signed=True)
        ])
    num_sharpened = int((teachers.fitted < 1).sum())
    return (
        f'{markdown_table(table)}\n\n{markdown_table(slopes)}\n\n'
        f'The fitted T is below 1 for {num_sharpened} of '
        f'{len(teachers.rows)} teachers: it sharpens them. Their mean gain '
        f'is {_text(found["sharpened"], signed=True)} points.')


def _oracle(rows: Sequence[Row]) -> str:
    by_temperature = oracle_students(rows)
    arms = {
        f'p\\*, T = {temperature:g}': students
        for temperature, students in by_temperature.items()
    }
    hard = students_by_arm(rows).get((None, HARD_ARM))
    if hard:
        arms['hard labels'] = hard
    if not arms:
        return NOTHING
    differences = {
        f'p\\*, T = {temperature:g}': (_text(difference,
                                             signed=True), f'{p_value:.2g}')
        for temperature, (difference,
                          p_value) in oracle_differences(rows).items()
    }
    table = [[
        'taught', 'accuracy', 'less T = 1', 'p, Holm', 'NLL', 'ECE', 'students'
    ]]
    for arm, students in arms.items():
        values = accuracies(students)
        table.append([
            arm,
            _mean_and_spread(values), *differences.get(arm,
                                                       (NO_VALUE, NO_VALUE)),
            f'{_mean_of(students, "nll"):.3f}',
            f'{100 * _mean_of(students, "ece"):.1f}',
            str(len(values))
        ])
    return (f'{markdown_table(table)}\n\n'
            'Accuracy against clean labels, x 100, mean +- standard deviation '
            'over students; NLL against p\\*, in nats; ECE against noisy '
            'labels, x 100.')


def _mean_and_spread(values: np.ndarray) -> str:
    if len(values) < 2:
        return f'{values.mean():.1f}'
    return f'{values.mean():.1f} +- {values.std(ddof=1):.1f}'


def _mean_of(students: Dict[int, Row], figure: str) -> float:
    return float(np.mean([row['test'][figure] for row in students.values()]))


def _teachers(teachers: Teachers) -> str:
    if not teachers.rows:
        return NOTHING
    table: List[List[str]] = [[
        'teacher', 'accuracy', 'ACE', 'NLL', 'KL', 'fitted T',
        'ACE at fitted T', 'KL at fitted T', 'students: T = 1',
        'students: fitted T', 'students: T = 3'
    ]]
    for place, row in enumerate(teachers.rows):
        plain, fitted = row['figures']['t1'], row['figures']['fitted']
        table.append([
            row['teacher'], f'{100 * plain["accuracy"]:.1f}',
            f'{100 * plain["ace"]:.2f}', f'{plain["nll"]:.3f}',
            f'{plain["kl"]:.3f}', f'{row["fitted_temperature"]:.2f}',
            f'{100 * fitted["ace"]:.2f}', f'{fitted["kl"]:.3f}',
            *(f'{teachers.accuracy[arm][place]:.1f}'
              for arm in ('t1', 'fitted', 't3'))
        ])
    return markdown_table(table)
