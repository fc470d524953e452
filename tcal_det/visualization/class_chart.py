"""Bar chart of the classes with the largest calibration error."""
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import numpy as np

from .figures import BLACK, GREY, new_figure
from .reliability_diagram import OVER_STYLE, UNDER_STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 15


def worst_classes_chart(rows: List[Dict[str, Any]],
                        title: Optional[str] = None) -> 'Figure':
    """Draw a bar for each of the classes with the largest D-ECE.

    A bar consists of the over-confident and the under-confident part. Classes
    without counted detections are left out.

    Args:
        rows (list[dict]): Rows from ``per_class`` of a report.
        title (str, optional): Title of the figure. Defaults to None.

    Returns:
        Figure: Bar chart for :func:`save_figure`.
    """
    from matplotlib.patches import Patch
    measured = [row for row in rows if not np.isnan(row['d_ece'])]
    worst = sorted(measured, key=lambda row: -row['d_ece'])[:MAX_CLASSES]
    figure = new_figure((6.4, 1.9 + 0.32 * max(len(worst), 2)))
    axes = figure.subplots()
    position = np.arange(len(worst))
    over, under, total = (
        np.array([row[key] for row in worst], dtype=float)
        for key in ('d_ece_over', 'd_ece_under', 'd_ece'))
    axes.barh(position, over, **OVER_STYLE)
    axes.barh(position, under, left=over, **UNDER_STYLE)
    for y, row in enumerate(worst):
        axes.annotate(
            f'{row["d_ece"]:.3f}   ({row["num_objects"]:,} / '
            f'{row["num_detections"]:,})', (total[y], y),
            xytext=(5, 0),
            textcoords='offset points',
            va='center',
            fontsize=8)
    axes.set_yticks(position, [str(row['name']) for row in worst])
    axes.set_ylim(max(len(worst), 1) - 0.4, -0.6)
    # Space for the numbers after the longest bar.
    axes.set_xlim(0, 1.5 * max(total.max(initial=0), 0.02))
    axes.set_xlabel('D-ECE   (objects / detections)')
    axes.grid(axis='x', color=GREY, alpha=0.3, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set_title(
        f'{len(worst)} of {len(measured)} classes with detections, the worst '
        'first',
        fontsize=9,
        loc='left')
    # Patches, because there may be no bar that shows the style.
    figure.legend(
        handles=[
            Patch(label='over-confident', **OVER_STYLE),
            Patch(label='under-confident', **UNDER_STYLE)
        ],
        loc='outside lower center',
        ncols=2,
        frameon=False,
        fontsize=9)
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure
