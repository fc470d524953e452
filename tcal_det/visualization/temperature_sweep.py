"""Plot of calibration error and likelihood over the temperature."""
from typing import TYPE_CHECKING, Optional, Sequence

import numpy as np

from tcal_det.errors import InvalidValueError
from .figures import BLACK, BLUE, GREEN, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def temperature_sweep(temperatures: Sequence[float],
                      ece: Sequence[float],
                      nll: Sequence[float],
                      fitted: Optional[float] = None,
                      softened: Optional[float] = None,
                      title: Optional[str] = None) -> 'Figure':
    """Draw ECE and negative log-likelihood (NLL) over the temperature.

    A dot marks the smallest value of each curve. Vertical lines mark T = 1,
    which is the uncalibrated teacher, and the given temperatures.

    Args:
        temperatures (Sequence[float]): Increasing temperatures, shape (P,).
        ece (Sequence[float]): ECE at each temperature, shape (P,).
        nll (Sequence[float]): NLL at each temperature in nats, shape (P,).
        fitted (float, optional): Fitted temperature. Defaults to None.
        softened (float, optional): Temperature in use, if it is not the
            fitted one. Defaults to None.
        title (str, optional): Title of the figure. Defaults to None.

    Returns:
        Figure: ECE in the upper panel and NLL in the lower one, for
        :func:`save_figure`.

    Raises:
        InvalidValueError: If the lengths differ or are 0.
    """
    if not 0 < len(temperatures) == len(ece) == len(nll):
        raise InvalidValueError(
            '`temperatures`, `ece` and `nll` must have the same length > 0, '
            f'but got {len(temperatures)}, {len(ece)} and {len(nll)}')
    marks = [('not calibrated', 1.0, BLACK, ':'),
             ('fitted', fitted, VERMILION, '-'),
             ('softened', softened, GREEN, '--')]
    figure = new_figure((5.6, 5.2))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, values, name in zip(panels, (ece, nll), ('ECE', 'NLL (nats)')):
        lowest = int(np.nanargmin(values))
        axes.plot(temperatures, values, color=BLUE, linewidth=1.8, label=name)
        axes.plot(
            temperatures[lowest],
            values[lowest],
            'o',
            color=BLUE,
            label='smallest')
        axes.set_ylabel(name)
        axes.grid(color=GREY, alpha=0.3, linewidth=0.5)
        for mark, temperature, color, style in marks:
            if temperature is not None:
                axes.axvline(
                    temperature,
                    color=color,
                    linestyle=style,
                    linewidth=1.5,
                    zorder=1,
                    label=f'{mark}, T = {temperature:.4g}')
    panels[0].set_ylim(bottom=0)
    panels[1].set_xlabel('Temperature T')
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[1:],
        labels[1:],
        loc='outside lower center',
        ncols=2,
        frameon=False,
        fontsize=9)
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure
