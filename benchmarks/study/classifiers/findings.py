"""What the rows say of each rule of the preregistration.

Accuracies are in percentage points. Shapes: P teachers, S students of each
arm, ordered by seed.
"""
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np
from scipy import stats

from ..rows import Row
from ..statistics import holm
from .estimates import (NO_ESTIMATE, Estimate, bootstrap, mean, paired_t,
                        partial_r_squared, r_squared, r_squared_difference,
                        slope, slope_given)
from .plan import ARMS, ORACLE_PREFIX

# Figures of a teacher, as the tables call them.
FIGURES = dict(
    ace='ACE on val',
    accuracy='accuracy on val, clean labels',
    nll='NLL on val',
    kl="KL(p\\* to teacher) on the student's crops",
    non_target_variance='non-target variance',
    entropy='entropy')
CELL = ('width', 'epochs', 'label_smoothing')


@dataclass(frozen=True, eq=False)
class Teachers:
    """Teachers that all arms are there of.

    Attributes:
        rows (list[dict]): Rows of the teachers.
        accuracy (dict[str, ndarray]): Mean accuracy of the students by arm,
            shape (P,).
    """
    rows: List[Row]
    accuracy: Dict[str, np.ndarray]

    def figure(self, name: str, arm: str = 't1') -> np.ndarray:
        """A figure of each teacher at the temperature of an arm."""
        return np.array([row['figures'][arm][name] for row in self.rows])

    def removed(self, name: str) -> np.ndarray:
        """What the fitted temperature takes from a figure."""
        return self.figure(name) - self.figure(name, 'fitted')

    def gain(self, arm: str) -> np.ndarray:
        """Accuracy of an arm less that of T = 1."""
        return self.accuracy[arm] - self.accuracy['t1']

    @property
    def fitted(self) -> np.ndarray:
        """Fitted temperatures."""
        return np.array([row['fitted_temperature'] for row in self.rows])

    def select(self, mask: Sequence[bool]) -> 'Teachers':
        """Some of the teachers."""
        kept = np.flatnonzero(mask)
        return Teachers([self.rows[place] for place in kept], {
            arm: values[kept]
            for arm, values in self.accuracy.items()
        })

    def of_data(self, data: str) -> 'Teachers':
        """The seen or the unseen ones."""
        return self.select([row['data'] == data for row in self.rows])


def students_by_arm(rows: Sequence[Row]) -> Dict[Tuple, Dict[int, Row]]:
    """Students by (teacher, arm) and seed.

    Args:
        rows (sequence[dict]): Rows of the results file.

    Returns:
        dict[tuple, dict[int, dict]]: Rows of students.
    """
    found: Dict[Tuple, Dict[int, Row]] = {}
    for row in rows:
        if row['kind'] == 'student':
            group = found.setdefault((row['teacher'], row['arm']), {})
            group[row['seed']] = row
    return found


def accuracies(students: Dict[int, Row]) -> np.ndarray:
    """Accuracy on test in percentage points, ordered by seed."""
    return np.array([
        100 * students[seed]['test']['accuracy'] for seed in sorted(students)
    ])


def teachers_of(rows: Sequence[Row]) -> Teachers:
    """Teachers and the mean accuracy of their students.

    Args:
        rows (sequence[dict]): Rows of the results file; a unit is whole.

    Returns:
        Teachers: Ordered by name.
    """
    students = students_by_arm(rows)
    teachers = sorted((row for row in rows if row['kind'] == 'teacher'),
                      key=lambda row: row['name'])
    return Teachers(
        teachers, {
            arm:
            np.array([
                accuracies(students[row['teacher'], arm]).mean()
                for row in teachers
            ])
            for arm in ARMS
        })


@dataclass(frozen=True)
class Line:
    """How a figure of the teachers goes with their students at T = 1.

    Attributes:
        r_squared (Estimate): Share of explained variance.
        slope (Estimate): Slope over the standardised figure.
        given_accuracy (Estimate): Partial R^2 beside the teacher's accuracy.
        seen (Estimate): ``r_squared`` of the seen teachers alone.
        unseen (Estimate): The same of the unseen ones.
    """
    r_squared: Estimate
    slope: Estimate
    given_accuracy: Estimate
    seen: Estimate
    unseen: Estimate


def line_of(teachers: Teachers, name: str) -> Line:
    """The line of the students' accuracy over a figure.

    Args:
        teachers (Teachers): All teachers.
        name (str): Key of ``FIGURES``.

    Returns:
        Line: With its intervals.
    """
    figure, students = teachers.figure(name), teachers.accuracy['t1']
    # Points per standard deviation over all teachers, not of each resample.
    spread = figure.std() if len(figure) else 1.0
    parts = [teachers.of_data(data) for data in ('seen', 'unseen')]
    # Beside itself a figure has nothing to add.
    given = NO_ESTIMATE if name == 'accuracy' else bootstrap(
        partial_r_squared, figure, students, teachers.figure('accuracy'))
    return Line(
        bootstrap(r_squared, figure, students),
        bootstrap(slope, figure / (spread or 1.0), students), given,
        *(bootstrap(r_squared, part.figure(name), part.accuracy['t1'])
          for part in parts))


def primary(teachers: Teachers) -> Tuple[Estimate, str]:
    """R^2 with ACE less R^2 with the teacher's accuracy, and the verdict.

    Args:
        teachers (Teachers): All teachers.

    Returns:
        tuple: The difference, and 'yes', 'no' or 'not settled'.
    """
    difference = bootstrap(r_squared_difference,
                           teachers.figure('ace'), teachers.accuracy['t1'],
                           teachers.figure('accuracy'))
    is_decreasing = line_of(teachers, 'ace').slope.sign < 0
    if difference.sign < 0:
        return difference, 'no'
    return difference, 'yes' if difference.sign > 0 and is_decreasing else (
        'not settled')


def interventions(teachers: Teachers) -> Dict[str, Estimate]:
    """What another temperature of the same teacher does.

    Args:
        teachers (Teachers): All teachers.

    Returns:
        dict[str, Estimate]: By name.
    """
    gain, log_t = teachers.gain('fitted'), np.log(teachers.fitted)
    # Per percentage point of ACE.
    ace, kl = 100 * teachers.removed('ace'), teachers.removed('kl')
    found = {
        'slope over ACE': bootstrap(slope, ace, gain),
        'slope over ACE given log T': bootstrap(slope_given, ace, gain, log_t),
        'slope over KL': bootstrap(slope, kl, gain),
        'slope over KL given log T': bootstrap(slope_given, kl, gain, log_t),
    }
    sharpened = teachers.select(teachers.fitted < 1)
    found['sharpened'] = bootstrap(mean, sharpened.gain('fitted'))
    for arm in ('fitted', 't3'):
        found[arm] = bootstrap(mean, teachers.gain(arm))
        by_data = {
            data: _by_cell(teachers.of_data(data), arm)
            for data in ('seen', 'unseen')
        }
        for data, gains in by_data.items():
            found[f'{arm}, {data}'] = bootstrap(mean, list(gains.values()))
        both = [cell for cell in by_data['seen'] if cell in by_data['unseen']]
        found[f'{arm}, seen - unseen'] = bootstrap(
            mean,
            [by_data['seen'][cell] - by_data['unseen'][cell] for cell in both])
    return found


def _by_cell(teachers: Teachers, arm: str) -> Dict[Tuple, float]:
    """Gain of each teacher by all of its settings but the data."""
    return {
        tuple(row[key] for key in CELL): gain
        for row, gain in zip(teachers.rows, teachers.gain(arm))
    }


def oracle_students(rows: Sequence[Row]) -> Dict[float, Dict[int, Row]]:
    """Students of p* by temperature and seed, coldest first."""
    found = {
        float(arm[len(ORACLE_PREFIX):]): students
        for (_, arm), students in students_by_arm(rows).items()
        if arm.startswith(ORACLE_PREFIX)
    }
    return dict(sorted(found.items()))


def oracle_differences(
        rows: Sequence[Row]) -> Dict[float, Tuple[Estimate, float]]:
    """Accuracy of each temperature of p* less that of T = 1.

    Args:
        rows (sequence[dict]): Rows of the results file.

    Returns:
        dict[float, tuple]: Difference, and p value after Holm's correction.
    """
    by_temperature = {
        temperature: accuracies(students)
        for temperature, students in oracle_students(rows).items()
    }
    if 1.0 not in by_temperature:
        return {}
    reference = by_temperature.pop(1.0)
    p_values = holm([
        stats.ttest_rel(values, reference).pvalue
        for values in by_temperature.values()
    ])
    return {
        temperature: (paired_t(values - reference), p_value)
        for (temperature,
             values), p_value in zip(by_temperature.items(), p_values)
    }
