"""The tables of docs/study.md about teachers and what they pass on."""
from typing import Any, Dict, List

import numpy as np

from .estimates import Correlation, holm
from .markdown import (NOT_MEASURED, change, interval, number, p_value,
                       percent, spread, table)
from .plan import FRESH_TEACHER
from .teacher_points import (TEACHER_FIGURES, TeacherPoint,
                             changes_of_teachers, correlate_with_d_ece,
                             correlate_with_map, scopes, taught_points,
                             teacher_points)

_INTERVALS = ('Intervals: 95 %, by Fisher\'s transformation. n/a: fewer than '
              'three teachers, or all with the same figure.')


def teachers_table(results: Dict[str, Any]) -> str:
    """Each teacher and copy, and what its students became."""
    points = teacher_points(results)
    if not points:
        return NOT_MEASURED
    rows = [[
        point.label,
        percent(point.figure('val_mAP')),
        percent(point.figure('ece'), 2),
        percent(point.figure('over'), 2),
        percent(point.figure('under'), 2),
        percent(point.figure('ace'), 2),
        number(point.figure('nll'), 3),
        number(point.figures['fitted_temperature'], 3),
        str(point.student('mAP').count),
        spread(point.student('mAP')),
        spread(point.student('D-ECE'), 2)
    ] for point in points]
    heading = [
        'teacher', 'mAP', 'ECE', 'over', 'under', 'ACE', 'NLL', 'fitted T',
        'students', 'student mAP', 'student D-ECE'
    ]
    return (f'{table(heading, rows)}\n\nTeachers: on val, their head on the '
            'RoIs of distillation; mAP without a temperature. Students: on '
            'the test split, mean ± standard deviation over seeds. x 100, '
            f'but for NLL (nats) and T.{_certainty(points)}')


def _certainty(points: List[TeacherPoint]) -> str:
    """How uncertain the students' means are, and how far apart."""
    estimates = [point.student('mAP') for point in points]
    halves = [
        50 * (estimate.high - estimate.low) for estimate in estimates
        if estimate.high > estimate.low
    ]
    if not halves:
        return ''
    means = [100 * estimate.mean for estimate in estimates if estimate.count]
    return (' The 95 % intervals of the students\' mean mAP reach '
            f'{min(halves):.1f} to {max(halves):.1f} to either side (median '
            f'{np.median(halves):.1f}); the means span {np.ptp(means):.1f}.')


def teacher_differences_table(results: Dict[str, Any]) -> str:
    """The students of each teacher beside those of one."""
    changes = {
        figure: changes_of_teachers(results, figure)
        for figure in ('mAP', 'D-ECE', 'LaECE_0', 'LRP_0')
    }
    adjusted = holm([estimate.p_value for _, estimate in changes['mAP']])
    rows = [[
        label,
        str(estimate.count),
        change(estimate),
        p_value(p_holm),
        *(change(others[index][1])
          for figure, others in changes.items() if figure != 'mAP')
    ] for index, ((label, estimate),
                  p_holm) in enumerate(zip(changes['mAP'], adjusted))]
    if not rows:
        return NOT_MEASURED
    heading = ['teacher', 'seeds', 'mAP', 'p (Holm)', *list(changes)[1:]]
    return (f'{table(heading, rows)}\n\nStudents of each teacher minus '
            f'students of {FRESH_TEACHER}, by seed, on test, x 100, with '
            '95 % confidence interval. p (Holm): paired t-test, adjusted for '
            'the number of rows, mAP only.')


def r2_table(results: Dict[str, Any]) -> str:
    """What of a teacher foretells its student's mAP."""
    points = taught_points(results)
    if not points:
        return NOT_MEASURED
    rows = []
    for scope, chosen in scopes(points):
        for key, name in TEACHER_FIGURES.items():
            fit = correlate_with_map(chosen, key)
            rows.append([
                scope, name,
                str(fit.count),
                _slope(fit),
                number(fit.r2, 2),
                interval(fit.r2_interval, 2),
                p_value(fit.p_value)
            ])
    heading = [
        'teachers', 'figure', 'number', 'slope', 'R^2', '95 % interval', 'p'
    ]
    return (f'{table(heading, rows, num_text_columns=2)}\n\nOf a straight '
            'line from the teacher\'s figure (val) to its students\' mean '
            f'mAP (test). {_INTERVALS}')


def inheritance_table(results: Dict[str, Any]) -> str:
    """Whether an over-confident teacher makes over-confident students."""
    points = taught_points(results)
    if not points:
        return NOT_MEASURED
    rows = []
    for scope, chosen in scopes(points):
        for key, is_signed in (('miscalibration', False),
                               ('miscalibration', True), ('val_mAP', False)):
            fit = correlate_with_d_ece(chosen, key, is_signed)
            rows.append([
                scope, TEACHER_FIGURES[key],
                'signed D-ECE' if is_signed else 'D-ECE',
                str(fit.count),
                number(fit.r, 2, '+'),
                interval(fit.r_interval, 2, '+'),
                number(fit.r2, 2),
                interval(fit.r2_interval, 2),
                p_value(fit.p_value)
            ])
    heading = [
        'teachers', 'of the teacher', 'of the student', 'number', 'r',
        '95 % interval', 'R^2', '95 % interval', 'p'
    ]
    return (f'{table(heading, rows, num_text_columns=3)}\n\nThe teacher\'s '
            'figure on val and its students\' mean D-ECE on test, as it is '
            f'and signed (over - under). {_INTERVALS}')


def _slope(fit: Correlation) -> str:
    if fit.r != fit.r:
        return 'n/a'
    return 'rising' if fit.r > 0 else 'falling'
