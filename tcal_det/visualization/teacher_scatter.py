"""Scatter plot of teachers by accuracy and calibration error."""
from typing import TYPE_CHECKING, Optional, Sequence, Tuple

from tcal_det.errors import InvalidValueError
from .figures import BLACK, BLUE, GREEN, GREY, SKY_BLUE, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The shapes differ, too, for print in grey.
COLORS = (BLUE, VERMILION, GREEN, BLACK, SKY_BLUE, GREY)
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')


def teacher_scatter(
        names: Sequence[str],
        mean_ap: Sequence[float],
        ece: Sequence[Tuple[float, float, float]],
        calibrated_ece: Sequence[float],
        calibrators: Sequence[str],
        recommended: Optional[str] = None,
        title: Optional[str] = None,
        calibrated_at: str = 'at its fitted temperature') -> 'Figure':
    """Draw mean AP over calibration error, before and after a calibrator.

    A filled marker with an interval is an uncalibrated teacher. An arrow
    leads to a hollow marker: the same teacher after its fitted calibrator.
    The legend contains the names, because labels in the plot could overlap.

    Args:
        names (Sequence[str]): Names of the P teachers.
        mean_ap (Sequence[float]): Mean AP of each teacher, in [0, 1].
        ece (Sequence[tuple[float, float, float]]): ECE of each uncalibrated
            teacher, with lower and upper end of its interval.
        calibrated_ece (Sequence[float]): ECE of each teacher after its
            calibrator.
        calibrators (Sequence[str]): Parameters of each calibrator, e.g.
            'T = 1.036'.
        recommended (str, optional): Name of the recommended teacher. Defaults
            to None.
        title (str, optional): Title of the figure. Defaults to None.
        calibrated_at (str): Explanation of the hollow markers in the axis
            label. Defaults to 'at its fitted temperature'.

    Returns:
        Figure: Scatter plot for :func:`save_figure`.

    Raises:
        InvalidValueError: If the lengths differ or are 0.
    """
    lengths = tuple(
        map(len, (names, mean_ap, ece, calibrated_ece, calibrators)))
    if lengths[0] == 0 or len(set(lengths)) > 1:
        raise InvalidValueError(
            '`names`, `mean_ap`, `ece`, `calibrated_ece` and `calibrators` '
            f'must have the same length > 0, but got {lengths}')
    figure = new_figure((6.4, 4.2 + 0.25 * len(names)))
    axes = figure.subplots()
    for index, name in enumerate(names):
        color = COLORS[index % len(COLORS)]
        marker = MARKERS[index % len(MARKERS)]
        height, (value, low, high) = 100 * mean_ap[index], ece[index]
        label = f'{name}, {calibrators[index]}'
        if name == recommended:
            label += ' (recommended)'
        axes.errorbar(
            value,
            height,
            xerr=[[value - low], [high - value]],
            color=color,
            marker=marker,
            markersize=8,
            linestyle='none',
            capsize=4,
            label=label)
        axes.annotate(
            '', (calibrated_ece[index], height), (value, height),
            arrowprops=dict(
                arrowstyle='->',
                color=color,
                linestyle='--',
                shrinkA=6,
                shrinkB=6))
        axes.plot(
            calibrated_ece[index],
            height,
            marker,
            color=color,
            markerfacecolor='white',
            markersize=8)
    axes.margins(x=0.08, y=0.25)
    # Slightly below 0, so that an interval that ends at 0 is visible.
    axes.set_xlim(left=-0.01 * axes.get_xlim()[1])
    axes.set_xlabel('ECE: filled uncalibrated, with its interval; hollow '
                    f'{calibrated_at}')
    axes.set_ylabel('mAP x 100')
    axes.set_axisbelow(True)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.5)
    figure.legend(loc='outside lower center', frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure
