"""Accuracy and calibration errors under corruptions and attacks."""
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .figures import BLACK, BLUE, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title of each column, and the colours of its heat map: darker is worse.
COLUMNS = dict(
    mAP=('mAP x 100, higher is better', 'Blues_r'),
    d_ece=('D-ECE x 100, lower is better', 'Oranges'),
    laece_0=('LaECE_0 x 100, lower is better', 'Oranges'))
# Markers and line styles differ, too, for print in grey.
ATTACK_STYLES = ((VERMILION, 's', '--'), (BLUE, 'o', '-'), (BLACK, '^', ':'))
_WIDTH, _LINES_HEIGHT, _ROW_HEIGHT = 11.0, 2.7, 0.25
# The legend is slightly transparent, because lines pass below it.
_LEGEND = dict(fontsize=8, framealpha=0.85, edgecolor='none')
# Weights of red, green and blue in the luma, and the luma below which a
# background is dark.
_LUMA, _DARK = (0.299, 0.587, 0.114), 0.5

Row = Dict[str, Any]


def robustness_figure(content: Dict[str, Any],
                      title: Optional[str] = None) -> 'Figure':
    """Draw figures over severity and epsilon, and the values of all cells.

    Args:
        content (dict): Result of ``RobustnessSummary.to_dict()``, or the
            content of its JSON file, with None for NaN.
        title (str, optional): Title of the figure. Defaults to None.

    Returns:
        Figure: Figure for :func:`save_figure` with a column for each of mAP,
        D-ECE and LaECE_0. Rows without measurements are left out.
    """
    corrupted, attacked = ([
        cell for cell in content['cells'] if cell['kind'] == kind
    ] for kind in ('corruption', 'attack'))
    names = list(dict.fromkeys(cell['name'] for cell in corrupted))
    heights = ([_LINES_HEIGHT] * (bool(corrupted) + bool(attacked)) +
               [1.2 + _ROW_HEIGHT * len(names)] * bool(corrupted))
    figure = new_figure((_WIDTH, 0.6 + sum(heights or [_LINES_HEIGHT])))
    grid = figure.add_gridspec(
        max(len(heights), 1), len(COLUMNS), height_ratios=heights or None)
    for column, (key, (name, colors)) in enumerate(COLUMNS.items()):
        clean = _triple(content['clean'], key)
        row, above = 0, None
        if corrupted:
            above = figure.add_subplot(grid[row, column])
            _draw_severities(above, content, corrupted, key, clean)
            row += 1
        if attacked or not corrupted:
            axes = figure.add_subplot(grid[row, column], sharey=above)
            _draw_attacks(axes, attacked, key, clean)
            above = above or axes
            row += 1
        above.set_title(name, fontsize=10, fontweight='bold')
        above.set_ylim(bottom=0)
        if corrupted:
            axes = figure.add_subplot(grid[row, column])
            _draw_cells(
                axes,
                corrupted,
                names,
                key,
                clean[0],
                colors,
                has_names=column == 0)
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure


def _triple(row: Row, key: str) -> Tuple[float, float, float]:
    """Value and interval x 100, NaN where undefined."""
    figure = row[key]
    return tuple(np.nan if figure[part] is None else 100 * figure[part]
                 for part in ('value', 'low', 'high'))


def _draw_severities(axes: 'Axes', content: Dict[str,
                                                 Any], corrupted: List[Row],
                     key: str, clean: Tuple[float, float, float]) -> None:
    by_name: Dict[str, List[Tuple[float, float]]] = {}
    for cell in corrupted:
        by_name.setdefault(cell['name'], []).append(
            (cell['strength'], _triple(cell, key)[0]))
    for index, points in enumerate(by_name.values()):
        severities, values = zip(*sorted(points))
        axes.plot((0, *severities), (clean[0], *values),
                  color=GREY,
                  linewidth=0.7,
                  alpha=0.6,
                  label='each corruption' if index == 0 else None)
    # The keys of a JSON file are strings.
    means = sorted((int(severity), _triple(row, key))
                   for severity, row in content['by_severity'].items())
    _draw_line(axes, [(0, clean), *means], BLUE, 'o', '-', 'mean')
    axes.set_xticks([0, *(severity for severity, _ in means)])
    axes.set_xlabel('severity of the corruption, 0 is clean')
    axes.legend(**_LEGEND)


def _draw_attacks(axes: 'Axes', attacked: List[Row], key: str,
                  clean: Tuple[float, float, float]) -> None:
    by_name: Dict[str, List[Tuple[float, Tuple]]] = {}
    for cell in attacked:
        by_name.setdefault(cell['name'], []).append(
            (cell['strength'], _triple(cell, key)))
    for style, (name, points) in zip(ATTACK_STYLES, by_name.items()):
        points = [point for point in sorted(points) if point[0] > 0]
        _draw_line(axes, [(0, clean), *points], *style, name.upper())
    if not attacked:
        _draw_line(axes, [(0, clean)], BLUE, 'o', '-', 'clean')
    axes.set_xticks(sorted({0, *(cell['strength'] for cell in attacked)}))
    axes.set_xlabel('epsilon of the attack in 1/255, 0 is clean')
    axes.legend(**_LEGEND)


def _draw_line(axes: 'Axes', points: Sequence[Tuple[float, Tuple]], color: str,
               marker: str, style: str, label: str) -> None:
    """Draw a line through values, with their intervals as a band."""
    places = [place for place, _ in points]
    values, low, high = np.array([triple for _, triple in points]).T
    if not np.isnan(low).all():
        label += ', 95 % interval'
    axes.plot(
        places,
        values,
        color=color,
        marker=marker,
        markersize=5,
        linestyle=style,
        label=label)
    axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_axisbelow(True)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.5)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _draw_cells(axes: 'Axes', corrupted: List[Row], names: Sequence[str],
                key: str, clean: float, colors: str, has_names: bool) -> None:
    """Draw a heat map over corruption and severity, clean images first."""
    from matplotlib import colormaps
    severities = sorted({cell['strength'] for cell in corrupted})
    values = np.full((len(names), 1 + len(severities)), np.nan)
    values[:, 0] = clean
    for cell in corrupted:
        values[names.index(cell['name']),
               1 + severities.index(cell['strength'])] = _triple(cell, key)[0]
    color_map = colormaps[colors].copy()
    color_map.set_bad('white')
    largest = max(np.nanmax(values, initial=0), 1e-6)
    axes.imshow(
        np.ma.masked_invalid(values),
        cmap=color_map,
        vmin=0,
        vmax=largest,
        aspect='auto')
    for (row, column), value in np.ndenumerate(values):
        ground = color_map(value / largest)[:3]
        is_dark = np.dot(ground, _LUMA) < _DARK
        axes.text(
            column,
            row,
            'n/a' if np.isnan(value) else f'{value:.1f}',
            ha='center',
            va='center',
            fontsize=7.5,
            color='white' if is_dark else 'black')
    axes.axvline(0.5, color='white', linewidth=3)
    axes.set_xticks(
        range(values.shape[1]),
        ['clean', *(f'{severity:g}' for severity in severities)])
    axes.set_yticks(
        range(len(names)),
        [name.replace('_', ' ')
         for name in names] if has_names else [''] * len(names))
    axes.tick_params(length=0)
    axes.set_xlabel('severity; darker is worse')
    for spine in axes.spines.values():
        spine.set_visible(False)
