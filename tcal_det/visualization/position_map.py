"""Heat map of the calibration error over the image plane."""
from typing import TYPE_CHECKING, Optional

import numpy as np

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional.binning import BinGrid
from .figures import GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

FEATURES = ('score', 'cx', 'cy')


def position_error_map(grid: BinGrid,
                       min_samples: int = 8,
                       title: Optional[str] = None) -> 'Figure':
    """Draw D-ECE in each cell of the image plane.

    The value of a cell, written in per cent, is the D-ECE of the detections
    whose box centre lies in the cell. Only score bins with at least
    ``min_samples`` detections are used. A cell without such a bin is hatched.

    Args:
        grid (BinGrid): Bins of D-ECE with the features (score, cx, cy).
        min_samples (int): Minimum number of detections in a score bin that
            is used. Defaults to 8.
        title (str, optional): Title of the figure. Defaults to None.

    Returns:
        Figure: Heat map for :func:`save_figure`.

    Raises:
        InvalidValueError: If the grid has other features.

    Reference:
        Kueppers et al., "Multivariate Confidence Calibration for Object
        Detection", CVPR Workshops 2020, Fig. 4.
    """
    if grid.features != FEATURES:
        raise InvalidValueError(f'`grid` must have the features {FEATURES}, '
                                f'but got {grid.features}')
    cells = grid.summarize_over_score(min_samples)
    overall = grid.summarize(min_samples)
    # Rows are y, downwards as in an image.
    error = np.where(cells.num_used > 0, cells.renormalized, np.nan).T
    figure = new_figure((6.2, 5.2))
    axes = figure.subplots()
    axes.add_patch(_hatched_ground())
    largest = np.nanmax(error) if np.isfinite(error).any() else 1.0
    # The lightness of cividis increases evenly, so that the map is readable
    # in grey print and by colour-blind readers.
    image = axes.pcolormesh(
        grid.edges[1],
        grid.edges[2],
        error,
        cmap='cividis',
        vmin=0,
        vmax=max(largest, 0.01))
    _write_values(axes, grid, error, largest)
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    axes.set_xlabel('Box centre, x / image width')
    axes.set_ylabel('Box centre, y / image height')
    # Without a used cell the sum is 0, which looks perfect.
    value = f'{overall.error:.4f}' if overall.num_used else 'undefined'
    axes.set_title(
        f'D-ECE over score, cx, cy {value}, coverage {overall.coverage:.1%}\n'
        f'{grid.num_samples:,} detections; cells in per cent; hatched: no '
        f'score bin with {min_samples}',
        fontsize=9,
        loc='left')
    figure.colorbar(image, ax=axes, label='D-ECE')
    if title:
        figure.suptitle(title, fontweight='bold')
    return figure


def _hatched_ground() -> 'Rectangle':
    from matplotlib.patches import Rectangle
    return Rectangle((0, 0),
                     1,
                     1,
                     facecolor='white',
                     edgecolor=GREY,
                     hatch='xx',
                     linewidth=0,
                     zorder=0)


def _write_values(axes: 'Axes', grid: BinGrid, error: np.ndarray,
                  largest: float) -> None:
    centers = [(edges[1:] + edges[:-1]) / 2 for edges in grid.edges[1:]]
    for row, column in zip(*np.nonzero(np.isfinite(error))):
        value = error[row, column]
        axes.text(
            centers[0][column],
            centers[1][row],
            f'{100 * value:.1f}',
            ha='center',
            va='center',
            fontsize=9,
            color='white' if value < 0.55 * largest else 'black')
