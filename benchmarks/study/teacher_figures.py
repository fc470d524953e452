"""The figures of docs/study.md about teachers and what they pass on."""
import math
import string
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple

from tcal_det.visualization.figures import BLUE, VERMILION, new_figure
from .drawing import (bar_ends, draw_mean, empty_figure, format_axes,
                      legend_below, place_labels)
from .estimates import Correlation, Mean
from .teacher_points import (TeacherPoint, correlate_with_d_ece,
                             correlate_with_map, scopes, taught_points)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Dict[str, Any]

# A teacher as it is, and a copy at a temperature.
_STYLES = {
    False: dict(color=BLUE, marker='o'),
    True: dict(color=VERMILION, marker='^')
}
_TEACHER_AXES = dict(
    ece='ECE of the teacher (%)',
    ace='ACE of the teacher (%)',
    val_mAP='mAP of the teacher on val (%)')


class _Panel(NamedTuple):
    """One scatter of teachers.

    Attributes:
        x (list[float]): A figure of each teacher.
        y (list[Mean]): A figure of each one's students.
        x_name (str): With unit.
        y_name (str): With unit.
        fits (dict[str, Correlation]): By the teachers they are about.
    """
    x: List[float]
    y: List[Mean]
    x_name: str
    y_name: str
    fits: Dict[str, Correlation]


def teachers_figure(results: Results) -> 'Figure':
    """Show mAP of students over calibration and mAP of their teachers."""
    points = taught_points(results)
    mean_ap = [point.student('mAP') for point in points]
    panels = [
        _Panel(
            [point.figure(key) for point in points], mean_ap, name,
            'mAP of its students on test (%)', {
                scope: correlate_with_map(chosen, key)
                for scope, chosen in scopes(points)
            }) for key, name in _TEACHER_AXES.items()
    ]
    return _scatter(points, panels, width=11.0)


def inheritance_figure(results: Results) -> 'Figure':
    """D-ECE of students over the signed miscalibration of their teachers."""
    points = taught_points(results)
    panels = [
        _Panel(
            [point.figure('miscalibration') for point in points], [
                point.student_miscalibration()
                if is_signed else point.student('D-ECE') for point in points
            ], 'miscalibration of the teacher, over - under (%)',
            f'{name} of its students on test (%)', {
                scope: correlate_with_d_ece(chosen, 'miscalibration',
                                            is_signed)
                for scope, chosen in scopes(points)
            })
        for name, is_signed in (('D-ECE', False), ('signed D-ECE', True))
    ]
    return _scatter(points, panels, width=9.0)


def _scatter(points: List[TeacherPoint], panels: List[_Panel],
             width: float) -> 'Figure':
    """Panels side by side, with letters for the teachers."""
    if not points:
        return empty_figure()
    num_columns = 3 if len(panels) == 2 else 4
    letters = [_letter(index) for index in range(len(points))]
    figure = new_figure(
        (width, 4.4 + 0.2 * math.ceil(len(points) / num_columns)))
    all_axes = figure.subplots(1, len(panels))
    for axes, panel in zip(all_axes, panels):
        for point, x, y in zip(points, panel.x, panel.y):
            draw_mean(
                axes,
                100 * x,
                y,
                'y',
                elinewidth=0.7,
                capthick=0.7,
                zorder=2,
                **_STYLES[point.is_copy])
        axes.set_xlabel(panel.x_name)
        axes.set_ylabel(panel.y_name)
        axes.set_title(
            '\n'.join(_explained(*fit) for fit in panel.fits.items()),
            fontsize=8.5,
            loc='left')
        axes.margins(0.08)
        format_axes(axes)
    legend_below(
        figure,
        _key(points, letters),
        num_columns,
        columnspacing=1.2,
        handletextpad=0.5)
    for axes, panel in zip(all_axes, panels):
        place_labels(axes, [(100 * x, 100 * y.mean)
                            for x, y in zip(panel.x, panel.y)], letters,
                     [bar_ends(y) for y in panel.y])
    return figure


def _letter(index: int) -> str:
    """A, B, ... Z, a, b, ..., and numbers if these do not suffice."""
    letters = string.ascii_uppercase + string.ascii_lowercase
    return letters[index] if index < len(letters) else str(index)


def _key(points: List[TeacherPoint], letters: List[str]) -> List[Any]:
    from matplotlib.lines import Line2D
    return [
        Line2D((), (),
               linestyle='none',
               label=f'{letter}: {point.label}',
               **_STYLES[point.is_copy])
        for letter, point in zip(letters, points)
    ]


def _explained(scope: str, fit: Correlation) -> str:
    if math.isnan(fit.r):
        return f'{scope}: no R² ({fit.count} points)'
    direction = 'rising' if fit.r > 0 else 'falling'
    return f'{scope}: R² = {fit.r2:.2f}, {direction} ({fit.count} points)'
