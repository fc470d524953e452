"""Teachers by accuracy and calibration."""
from typing import TYPE_CHECKING, Optional, Sequence, Tuple

from tcal_det.errors import InvalidValueError
from .figures import BLACK, BLUE, GREEN, GREY, SKY_BLUE, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by shape alone, too.
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
    """Mean AP over calibration error, with what a calibrator makes of it.

    A filled mark with its interval is a teacher as it is, and an arrow leads
    to a hollow mark, the same teacher after its fitted calibrator. Names stand
    in the legend, where they cannot cover each other.

    Args:
        names (Sequence[str]): Of the teachers, shape (P,).
        mean_ap (Sequence[float]): In [0, 1], shape (P,).
        ece (Sequence[tuple]): Value, lower and upper end of the interval;
            shape (P, 3).
        calibrated_ece (Sequence[float]): After its calibrator, shape (P,).
        calibrators (Sequence[str]): Its parameters, e.g. 'T = 1.036', shape
            (P,).
        recommended (str, optional): A name. Defaults to None.
        title (str, optional): Stands above. Defaults to None.
        calibrated_at (str): What was done to the hollow mark, for the axis.
            Defaults to 'at its fitted temperature'.

    Returns:
        Figure: For :func:`save_figure`.

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
    # A hair below 0, so that an interval's end on it is seen.
    axes.set_xlim(left=-0.01 * axes.get_xlim()[1])
    axes.set_xlabel('ECE: filled as it is, with its interval; hollow '
                    f'{calibrated_at}')
    axes.set_ylabel('mAP x 100')
    axes.set_axisbelow(True)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.5)
    figure.legend(loc='outside lower center', frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure
