"""The figures of docs/study.md: about methods, and a list of all."""
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List

from tcal_det.visualization.figures import (BLACK, BLUE, GREY, VERMILION,
                                            new_figure)
from .comparisons import (BASELINE, Entry, find, gradient_entries,
                          gradient_scale, grid_baseline, main_entries)
from .drawing import (draw_mean, draw_seeds, empty_figure, format_axes,
                      legend_below, mark_baseline, set_log_ticks, signs,
                      styles_of)
from .selection import best_weight, grids_of
from .teacher_figures import inheritance_figure, teachers_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = Dict[str, Any]

# Panels, with the words of their axes.
_PANELS = {
    'mAP': 'mAP on test (%)',
    'D-ECE': 'D-ECE on test (%)',
    'LRP_0': 'LRP_0 on test (%)'
}
CHOSEN = 'weight chosen on val'
_SERIES_STYLES = ((BLUE, 'o', '-'), (VERMILION, 's', '--'))


def main_figure(results: Results, stage: str = 'seeds') -> 'Figure':
    """Show mAP, D-ECE and LRP_0 of all methods, seed by seed."""
    entries = main_entries(results, stage)
    if not entries:
        return empty_figure()
    figure = new_figure((11.0, 1.4 + 0.38 * len(entries)))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    styles = styles_of(entry.row for entry in entries)
    baseline = find(entries, BASELINE)
    for axes, (key, name) in zip(panels, _PANELS.items()):
        if baseline:
            mark_baseline(axes, baseline.mean(key), 'x')
        for y, entry in enumerate(entries):
            style = styles[entry.row]
            # Below the mean's mark, which would hide them.
            draw_seeds(axes, y + 0.25,
                       entry.by_seed(key).values(), 'x', style['color'])
            draw_mean(axes, y, entry.mean(key), 'x', style['color'],
                      style['marker'])
        axes.set_xlabel(name)
        format_axes(axes)
    panels[0].set_yticks(
        range(len(entries)), [_label_with_weight(entry) for entry in entries])
    panels[0].set_ylim(len(entries) - 0.4, -0.6)
    legend_below(figure, signs(baseline is not None), 3)
    return figure


def weights_figure(results: Results) -> 'Figure':
    """The grid: mAP on val over the weight, and over what it does."""
    from matplotlib.lines import Line2D
    grids = grids_of(results['runs'])
    if not grids:
        return empty_figure()
    names = ['loss weight']
    if results['gradient_scales']:
        names.append('loss weight x RMS gradient at weight 1')
    figure = new_figure((8.6, 5.0))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    styles = styles_of(grids)
    baseline = grid_baseline(results)
    for axes, name in zip(panels, names):
        if baseline.count:
            mark_baseline(axes, baseline, 'y')
        axes.set_xscale('log')
        axes.set_xlabel(name)
        format_axes(axes)
    for row, scores in grids.items():
        weights, y = list(scores), [100 * score for score in scores.values()]
        scales = [gradient_scale(results, row, weight) for weight in weights]
        best = weights.index(best_weight(scores))
        for axes, x in zip(panels, (weights, scales)):
            axes.plot(x, y, **styles[row])
            axes.plot(
                x[best],
                y[best],
                'o',
                markersize=13,
                markerfacecolor='none',
                markeredgecolor=styles[row]['color'])
    set_log_ticks(panels[0], set().union(*grids.values()))
    panels[0].set_ylabel('mAP on val (%)')
    handles = [Line2D((), (), label=row.label, **styles[row]) for row in grids]
    handles.append(
        Line2D((), (),
               color=BLACK,
               marker='o',
               markersize=11,
               markerfacecolor='none',
               linestyle='none',
               label='chosen'))
    if baseline.count:
        handles.append(signs(True)[-1])
    legend_below(figure, handles, 4)
    return figure


def temperature_figure(results: Results) -> 'Figure':
    """TCal over its temperature, at chosen weights and at equal gradient."""
    chosen = main_entries(results)
    if not _tcal(chosen):
        return empty_figure()
    series = {CHOSEN: _tcal(chosen)}
    equal = _tcal(gradient_entries(results))
    if equal:
        series['equal gradient, fresh seeds and teacher'] = equal
    figure = new_figure((12.0, 4.2))
    baseline = find(chosen, BASELINE)
    panels = figure.subplots(1, len(_PANELS))
    for axes, (key, name) in zip(panels, _PANELS.items()):
        if baseline:
            mark_baseline(axes, baseline.mean(key), 'y')
        for index, entries in enumerate(series.values()):
            _draw_over_temperature(axes, entries, key, index)
        axes.set_xlabel('temperature T of the teacher')
        axes.set_ylabel(name)
        format_axes(axes)
        set_log_ticks(axes, [
            entry.row.temperature
            for entry in _tcal(chosen) if not entry.row.fitted
        ])
    _explain_temperatures(figure, series, baseline is not None)
    return figure


def _tcal(entries: List[Entry]) -> List[Entry]:
    return [entry for entry in entries if entry.row.method == 'tcal']


def _draw_over_temperature(axes: 'Axes', entries: List[Entry], key: str,
                           index: int) -> None:
    color, marker, line = _SERIES_STYLES[index]
    # Series have the same temperatures: side by side they stay apart.
    shift = 1 + 0.06 * index
    points = []
    for entry in entries:
        x, mean = shift * entry.row.temperature, entry.mean(key)
        if entry.row.fitted:
            axes.axvline(
                entry.row.temperature, color=GREY, linestyle=':', zorder=1)
            draw_mean(
                axes, x, mean, 'y', color, marker, markerfacecolor='white')
        else:
            points.append((x, 100 * mean.mean))
            draw_mean(axes, x, mean, 'y', color, marker)
        draw_seeds(axes, 1.025 * x, entry.by_seed(key).values(), 'y', color)
    axes.plot([x for x, _ in points], [y for _, y in points],
              line,
              color=color,
              linewidth=1.2)


def _explain_temperatures(figure: 'Figure', series: Dict[str, List[Entry]],
                          has_baseline: bool) -> None:
    from matplotlib.lines import Line2D
    handles = [
        Line2D((), (), color=color, marker=marker, linestyle=line, label=name)
        for name, (color, marker, line) in zip(series, _SERIES_STYLES)
    ]
    fitted = sorted({
        entry.row.temperature
        for entries in series.values()
        for entry in entries if entry.row.fitted
    })
    handles += [
        Line2D((), (),
               color=GREY,
               linestyle=':',
               marker='o',
               markeredgecolor=BLACK,
               markerfacecolor='white',
               label=f'fitted T = {temperature:.3g}') for temperature in fitted
    ]
    legend_below(figure, handles + signs(has_baseline)[1:], 3)


def _label_with_weight(entry: Entry) -> str:
    if entry.weight is None:
        return entry.row.label
    return f'{entry.row.label} (weight {entry.weight:g})'


# By the names of their files.
FIGURES = dict(
    main=main_figure,
    weights=weights_figure,
    temperature=temperature_figure,
    confirmation=partial(main_figure, stage='confirmation'),
    teachers=teachers_figure,
    inheritance=inheritance_figure,
    bccd=partial(main_figure, stage='bccd'))
