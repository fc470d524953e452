"""Reliability diagrams, drawn from bin tables alone.

All values in a figure are computed from its bin table, so they cannot differ
from those of the metric.
"""
from typing import TYPE_CHECKING, Dict, Optional

import numpy as np

from tcal_det.checks import check_type
from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.binning import BinTable
from .figures import (BLACK, GREEN, GREY, LIGHT_GREEN, LIGHT_VERMILION,
                      SKY_BLUE, VERMILION, new_figure)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OVER_STYLE = dict(facecolor=LIGHT_VERMILION, edgecolor=VERMILION, hatch='////')
UNDER_STYLE = dict(facecolor=LIGHT_GREEN, edgecolor=GREEN, hatch='\\\\\\\\')
MEASURED_STYLE = dict(facecolor=SKY_BLUE, edgecolor=BLACK)
IDEAL_STYLE = dict(linestyle='--', color=BLACK, linewidth=1)


def reliability_diagram(bins: BinTable,
                        title: Optional[str] = None,
                        target_name: str = 'Accuracy',
                        error_name: str = 'ECE') -> 'Figure':
    """Draw the reliability diagram of a bin table.

    The upper panel has a bar for each bin with samples; its height is the
    accuracy of the samples. The hatched area is the gap between accuracy and
    mean confidence; its colour and direction show over- or under-confidence.
    The lower panel shows the number of samples in each bin on a logarithmic
    scale. The heading gives ECE = over + under.

    Args:
        bins (BinTable): Field ``bins`` of a calibration error. Nothing is
            drawn for an empty bin.
        title (str, optional): Title of the figure. Defaults to None.
        target_name (str): Name of the quantity that confidence should equal,
            e.g. 'Precision'. Defaults to 'Accuracy'.
        error_name (str): Name of the sum of over and under. Defaults to
            'ECE'.

    Returns:
        Figure: Reliability diagram for :func:`save_figure`.

    Raises:
        InvalidTypeError: If ``bins`` is not a bin table.
    """
    return reliability_comparison({title or '': bins},
                                  target_name=target_name,
                                  error_name=error_name)


def reliability_comparison(tables: Dict[str, BinTable],
                           title: Optional[str] = None,
                           target_name: str = 'Accuracy',
                           error_name: str = 'ECE') -> 'Figure':
    """Draw reliability diagrams side by side with shared axes.

    Args:
        tables (dict[str, BinTable]): Bin tables by heading, e.g. 'before'
            and 'after', from left to right.
        title (str, optional): Title of the figure. Defaults to None.
        target_name (str): Name of the quantity that confidence should equal,
            e.g. 'Precision'. Defaults to 'Accuracy'.
        error_name (str): Name of the sum of over and under. Defaults to
            'ECE'.

    Returns:
        Figure: Reliability diagrams for :func:`save_figure`.

    Raises:
        InvalidTypeError: If a table is not a bin table.
        InvalidValueError: If there is no table.
    """
    if not tables:
        raise InvalidValueError('`tables` must hold at least one bin table, '
                                'but is empty')
    # A single panel must be as wide as the legend.
    figure = new_figure((max(4.4 * len(tables), 5.0), 5.8))
    figure.get_layout_engine().set(wspace=0.06)
    panels = figure.subplots(
        2,
        len(tables),
        sharex=True,
        sharey='row',
        squeeze=False,
        gridspec_kw=dict(height_ratios=(3, 1)))
    for heading, bins, diagram, histogram in zip(tables, tables.values(),
                                                 *panels):
        draw_reliability(diagram, bins, heading, target_name, error_name)
        diagram.label_outer()
        _draw_counts(histogram, bins)
    _format_counts(panels[1], tables)
    _add_legend(figure, target_name)
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure


def draw_reliability(axes: 'Axes',
                     bins: BinTable,
                     heading: Optional[str] = None,
                     target_name: str = 'Accuracy',
                     error_name: str = 'ECE') -> None:
    """Draw a reliability diagram into axes of any figure.

    It is the upper panel of :func:`reliability_diagram`, without a legend;
    ``axes.legend()`` adds one.

    Args:
        axes (Axes): Axes of matplotlib, which should be empty.
        bins (BinTable): Field ``bins`` of a calibration error. Nothing is
            drawn for an empty bin.
        heading (str, optional): Heading of the diagram. Defaults to None.
        target_name (str): Name of the quantity that confidence should equal,
            e.g. 'Precision'. Defaults to 'Accuracy'.
        error_name (str): Name of the sum of over and under. Defaults to
            'ECE'.

    Raises:
        InvalidTypeError: If ``bins`` is not a bin table.
    """
    check_type('bins', bins, BinTable,
               'pass `.bins` of an error that depends on the score alone')
    _draw_gaps(axes, bins)
    _write_heading(axes, heading, bins, target_name, error_name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel('Confidence')
    axes.set_ylabel(target_name)
    _add_grid(axes)


def _draw_gaps(axes: 'Axes', bins: BinTable) -> None:
    filled = np.flatnonzero(bins.count)
    left, width = bins.edges[:-1], np.diff(bins.edges)
    target, gap = bins.mean_target, bins.gap
    axes.bar(
        left[filled],
        target[filled],
        width[filled],
        align='edge',
        linewidth=0.6,
        label='measured',
        **MEASURED_STYLE)
    kinds = [('over-confident', 1, OVER_STYLE),
             ('under-confident', -1, UNDER_STYLE)]
    for name, sign, style in kinds:
        chosen = filled[sign * gap[filled] > 0]
        axes.bar(
            left[chosen],
            gap[chosen],
            width[chosen],
            bottom=target[chosen],
            align='edge',
            linewidth=0.6,
            label=name,
            **style)
    # The top of the measured bar must be visible also where an
    # under-confident gap covers the upper part of the bar.
    axes.hlines(
        target[filled],
        left[filled],
        bins.edges[1:][filled],
        color=BLACK,
        linewidth=2,
        clip_on=False)
    axes.plot((0, 1), (0, 1), **IDEAL_STYLE)


def _draw_counts(axes: 'Axes', bins: BinTable) -> None:
    filled = np.flatnonzero(bins.count)
    axes.bar(
        bins.edges[:-1][filled],
        bins.count[filled],
        np.diff(bins.edges)[filled],
        align='edge',
        color=GREY,
        edgecolor=BLACK,
        linewidth=0.6,
        label='samples')


def _write_heading(axes: 'Axes', heading: Optional[str], bins: BinTable,
                   target_name: str, error_name: str) -> None:
    gaps = bins.summarize()
    lines = [
        f'{error_name} {gaps.error:.4f} = {gaps.over:.4f} over + '
        f'{gaps.under:.4f} under', f'{bins.num_samples:,} samples'
    ]
    if bins.num_samples:
        confidence, target = (
            np.nansum(bins.count * mean) / bins.num_samples
            for mean in (bins.mean_confidence, bins.mean_target))
        lines[1] += (f', confidence {confidence:.3f}, '
                     f'{_in_a_sentence(target_name)} {target:.3f}')
    else:
        lines[0] = f'{error_name} undefined'
    axes.set_title('\n'.join(lines), fontsize=9, loc='left')
    if heading:
        axes.annotate(
            heading, (0, 1),
            xytext=(0, 32),
            xycoords='axes fraction',
            textcoords='offset points',
            fontsize=11,
            fontweight='bold')


def _in_a_sentence(name: str) -> str:
    return name[:1].lower() + name[1:]


def _add_legend(figure: 'Figure', target_name: str) -> None:
    """Add a legend of all styles, also those that no bin needs."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    figure.legend(
        handles=[
            Patch(label=_in_a_sentence(target_name), **MEASURED_STYLE),
            Patch(label='over-confident', **OVER_STYLE),
            Patch(label='under-confident', **UNDER_STYLE),
            Line2D((), (), label='ideal', **IDEAL_STYLE)
        ],
        loc='outside lower center',
        ncols=4,
        frameon=False,
        fontsize=9,
        columnspacing=1.2,
        handletextpad=0.5)


def _format_counts(histograms: np.ndarray, tables: Dict[str,
                                                        BinTable]) -> None:
    first = histograms[0]
    first.set_ylabel('Samples (log)')
    first.set_yscale('log')
    largest = max(int(bins.count.max()) for bins in tables.values())
    # The axis begins below 1, so that a single sample is visible.
    first.set_ylim(0.5, max(2 * largest, 10))
    for axes in histograms:
        _add_grid(axes)
        axes.set_xlabel('Confidence')


def _add_grid(axes: 'Axes') -> None:
    axes.set_axisbelow(True)
    axes.grid(axis='y', color=GREY, alpha=0.3, linewidth=0.5)
