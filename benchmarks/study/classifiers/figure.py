"""Four panels: students over ACE, over accuracy, intervention, oracle."""
from typing import TYPE_CHECKING, Sequence

import numpy as np

from tcal_det.visualization.figures import (BLACK, BLUE, GREEN, GREY,
                                            VERMILION, new_figure)
from ..rows import Row
from .estimates import Estimate, bootstrap, r_squared, slope
from .findings import (Teachers, accuracies, oracle_students, students_by_arm,
                       teachers_of)
from .plan import HARD_ARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By the teacher's epochs: colour and marker.
STYLES = {5: (BLUE, 'o'), 20: (GREEN, 's'), 80: (VERMILION, '^')}
OTHER_STYLE = (BLACK, 'D')


def classifier_figure(rows: Sequence[Row]) -> 'Figure':
    """Draw the classifier twin.

    Args:
        rows (sequence[dict]): Rows of the results file.

    Returns:
        Figure: For :func:`save_figure`.
    """
    teachers = teachers_of(rows)
    figure = new_figure((9.0, 7.4))
    (over_ace, over_accuracy), (removed, oracle) = figure.subplots(2, 2)
    students = teachers.accuracy['t1']
    for axes, name, title in ((over_ace, 'ace', 'ACE of the teacher'),
                              (over_accuracy, 'accuracy',
                               'accuracy of the teacher')):
        values = 100 * teachers.figure(name)
        _scatter(axes, teachers, values, students)
        explained = bootstrap(r_squared, values, students)
        axes.set_title(f'{title}: R² = {_text(explained)}', fontsize=11)
        axes.set_xlabel(f'{title} on val, x 100')
        axes.set_ylabel('accuracy of its students at T = 1')
    taken, gain = 100 * teachers.removed('ace'), teachers.gain('fitted')
    _scatter(removed, teachers, taken, gain)
    removed.axhline(0, color=GREY, linewidth=0.8)
    removed.set_title(
        f'fitted T: slope {_text(bootstrap(slope, taken, gain), "+")}',
        fontsize=11)
    removed.set_xlabel('ACE that the fitted T removes, x 100')
    removed.set_ylabel('points that its students gain')
    _draw_oracle(oracle, rows)
    for axes in (over_ace, over_accuracy, removed, oracle):
        axes.set_axisbelow(True)
        axes.grid(color=GREY, alpha=0.3, linewidth=0.5)
    handles, labels = over_ace.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc='outside lower center',
            ncol=3,
            frameon=False,
            fontsize=9)
    return figure


def _text(estimate: Estimate, sign: str = '') -> str:
    text = f'{estimate.value:{sign}.2f}'
    if np.isnan(estimate.low):
        return text
    return f'{text} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]'


def _scatter(axes: 'Axes', teachers: Teachers, x: np.ndarray,
             y: np.ndarray) -> None:
    """Teachers as marks: filled if they have seen the student's crops."""
    epochs = np.array([row['epochs'] for row in teachers.rows])
    is_seen = np.array([row['data'] == 'seen' for row in teachers.rows])
    for number in np.unique(epochs):
        color, marker = STYLES.get(int(number), OTHER_STYLE)
        for seen, word in ((True, 'seen'), (False, 'unseen')):
            chosen = (epochs == number) & (is_seen == seen)
            axes.plot(
                x[chosen],
                y[chosen],
                marker,
                color=color,
                markerfacecolor=color if seen else 'white',
                label=f'teacher of {number} epochs, {word}')


def _draw_oracle(axes: 'Axes', rows: Sequence[Row]) -> None:
    """Students of p* by temperature, and those of hard labels."""
    oracle = oracle_students(rows)
    for place, students in enumerate(oracle.values()):
        _draw_students(axes, place, accuracies(students), BLUE)
    names = [f'p*, T = {temperature:g}' for temperature in oracle]
    hard = students_by_arm(rows).get((None, HARD_ARM))
    if hard:
        _draw_students(axes, len(names), accuracies(hard), VERMILION)
        names.append('hard labels')
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels(names, fontsize=9)
    axes.set_title('taught the true posterior, at a temperature', fontsize=11)
    axes.set_ylabel('accuracy of the student')


def _draw_students(axes: 'Axes', place: int, values: np.ndarray,
                   color: str) -> None:
    """Single students as dots, and their mean as a bar across."""
    axes.plot(
        np.full(len(values), place),
        values,
        'o',
        color=color,
        markersize=4,
        alpha=0.5)
    axes.plot([place - 0.25, place + 0.25], [values.mean()] * 2,
              color=BLACK,
              linewidth=2)
