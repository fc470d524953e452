"""What all figures of the study share: signs, axes, labels.

All values are drawn x 100. Individual seeds are small pale dots, means are
large marks, from three seeds on with the 95 % interval of :mod:`estimates`.
"""
import math
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from tcal_det.visualization.figures import (BLACK, GREEN, GREY, VERMILION,
                                            new_figure)
from .estimates import Mean
from .rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Temperatures are steps of one hue, from light to dark; other methods have
# hues of their own. The marks tell all of them apart in grey.
_TCAL_COLORS = ('#7FB9E0', '#4292C6', '#2171B5', '#08519C', '#08306B')
_TCAL_MARKERS = ('o', 's', '^', 'D', 'v')
PURPLE = '#AA4499'
_POINT_SIZE = 7
# The interval of two values is 13 times as long as they are apart.
FEWEST_FOR_BAR = 3

# Where a label may stand around its point, nearest first.
_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1),
               (1, -1))
_DISTANCES = (9, 16, 24, 33)


def empty_figure() -> 'Figure':
    """Stands for a figure whose runs have not been made."""
    figure = new_figure((6.0, 1.5))
    figure.text(0.5, 0.5, 'Not measured yet.', ha='center', va='center')
    return figure


def styles_of(rows: Iterable[Row]) -> Dict[Row, Dict[str, Any]]:
    """Colour, mark and line of each method.

    Args:
        rows (Iterable[Row]): All methods of a figure.

    Returns:
        dict[Row, dict]: Arguments for matplotlib, by method.
    """
    fixed = dict(
        kd=(BLACK, 'P', '--'),
        wttm=(GREEN, 'X', '-.'),
        dkd=(VERMILION, '<', ':'))
    styles = {}
    num_temperatures = 0
    for row in sorted(set(rows), key=lambda row: row.sort_key):
        if row.method == 'tcal' and not row.fitted:
            index = num_temperatures % len(_TCAL_COLORS)
            num_temperatures += 1
            style = _TCAL_COLORS[index], _TCAL_MARKERS[index], '-'
        elif row.method == 'tcal':
            style = PURPLE, '*', '-'
        elif row.method == 'dkd' and row.temperature != 1.0:
            style = VERMILION, '>', '-'
        else:
            style = fixed.get(row.method, (GREY, 'h', '-'))
        styles[row] = dict(zip(('color', 'marker', 'linestyle'), style))
    return styles


def _has_bar(estimate: Mean) -> bool:
    return estimate.count >= FEWEST_FOR_BAR and not math.isnan(estimate.low)


def bar_ends(estimate: Mean) -> Tuple[float, float]:
    """Where the bar of a mean ends; without an interval it has none."""
    if not _has_bar(estimate):
        return 100 * estimate.mean, 100 * estimate.mean
    return 100 * estimate.low, 100 * estimate.high


def draw_mean(axes: 'Axes', position: float, estimate: Mean, along: str,
              color: str, marker: str, **style: Any) -> None:
    """A mean with its interval.

    Args:
        axes (Axes): To draw on.
        position (float): On the axis across.
        estimate (Mean): To be drawn.
        along (str): The axis of its value, 'x' or 'y'.
        color (str): Of mark and interval.
        marker (str): Of the mean.
        **style: Further arguments of ``errorbar``.
    """
    value = 100 * estimate.mean
    low, high = bar_ends(estimate)
    x, y = (value, position) if along == 'x' else (position, value)
    axes.errorbar(
        x,
        y,
        **{f'{along}err': [[value - low], [high - value]]},
        color=color,
        marker=marker,
        linestyle='none',
        markersize=_POINT_SIZE,
        capsize=3,
        **style)


def draw_seeds(axes: 'Axes', position: float, values: Iterable[float],
               along: str, color: str) -> None:
    """Single runs, at one position on the axis across."""
    values = 100 * np.array(list(values), dtype=float)
    across = np.full(len(values), position)
    x, y = (values, across) if along == 'x' else (across, values)
    axes.plot(
        x,
        y,
        'o',
        color=color,
        alpha=0.5,
        markersize=4,
        markeredgewidth=0,
        zorder=1.5)


def mark_baseline(axes: 'Axes', estimate: Mean, along: str) -> None:
    """The student alone, as a line across with its interval as a band."""
    line, band = ((axes.axvline, axes.axvspan) if along == 'x' else
                  (axes.axhline, axes.axhspan))
    line(
        100 * estimate.mean,
        color=GREY,
        linestyle='--',
        linewidth=1.2,
        zorder=1,
        label='baseline')
    if _has_bar(estimate):
        band(
            100 * estimate.low,
            100 * estimate.high,
            color=GREY,
            alpha=0.15,
            linewidth=0,
            zorder=0)


def format_axes(axes: 'Axes') -> None:
    """A faint grid behind, no frame above and to the right."""
    axes.set_axisbelow(True)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.5)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def set_log_ticks(axes: 'Axes', values: Iterable[float]) -> None:
    """A logarithmic x axis that names the values that were measured."""
    ticks = sorted(set(values))
    axes.set_xscale('log')
    axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
    axes.set_xticks([], minor=True)


def place_labels(axes: 'Axes', points: Sequence[Tuple[float, float]],
                 labels: Sequence[str], bars: Sequence[Tuple[float,
                                                             float]]) -> None:
    """Write a short label beside each point, none over another.

    Each takes the best place around its point: clear of points and labels,
    then clear of error bars, then near; a line leads to it if it is not near.
    To be called when all else is drawn.

    Args:
        axes (Axes): With its final limits.
        points (Sequence[tuple[float, float]]): In data coordinates.
        labels (Sequence[str]): One each.
        bars (Sequence[tuple[float, float]]): Ends of each one's upright
            error bar, NaN if it has none.
    """
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox
    figure = axes.figure
    # Places are in pixels, which the layout decides.
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    to_pixels = axes.transData.transform
    pixels = to_pixels(np.array(points))
    radius = 0.5 * _POINT_SIZE * scale
    taken = [Bbox([xy - radius, xy + radius]) for xy in pixels]
    upright = [
        Bbox(to_pixels([(x, low), (x, high)]))
        for (x, _), (low, high) in zip(points, bars)
    ]
    for point, xy, label in zip(points, pixels, labels):
        half = scale * np.array([3.2 * len(label), 4.5])
        places = []
        for ring, distance in enumerate(_DISTANCES):
            for direction in _DIRECTIONS:
                offset = distance * np.array(direction) / np.hypot(*direction)
                center = xy + scale * offset
                box = Bbox([center - half, center + half])
                # The way there always leaves the point's own mark.
                way = Path([xy, center])
                cost = (5 * box.count_overlaps(taken) +
                        5 * sum(map(way.intersects_bbox, taken)) +
                        box.count_overlaps(upright) + 0.6 * ring)
                if not (axes.bbox.contains(*box.min)
                        and axes.bbox.contains(*box.max)):
                    cost += 5
                places.append((cost, len(places), ring, offset, box))
        _, _, ring, offset, box = min(places, key=lambda place: place[:2])
        taken.append(box)
        axes.annotate(
            label,
            point,
            xytext=offset,
            textcoords='offset points',
            ha='center',
            va='center',
            fontsize=8,
            arrowprops=dict(
                arrowstyle='-', color=BLACK, linewidth=0.6, shrinkB=3)
            if ring else None)


def legend_below(figure: 'Figure', handles: List[Any], num_columns: int,
                 **style: Any) -> None:
    """A legend under all panels."""
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=num_columns,
        frameon=False,
        fontsize=9,
        **style)


def signs(has_baseline: bool) -> List[Any]:
    """Legend entries for a mean, a single run and the baseline."""
    from matplotlib.lines import Line2D
    handles = [
        Line2D((), (),
               color=BLACK,
               marker='o',
               markersize=_POINT_SIZE,
               label='mean with 95 % interval'),
        Line2D((), (),
               color=GREY,
               marker='o',
               markersize=4,
               linestyle='none',
               label='one seed')
    ]
    if has_baseline:
        handles.append(
            Line2D((), (), color=GREY, linestyle='--', label='baseline'))
    return handles
