"""Figures without a window or global state, and colours for all readers.

matplotlib is imported when something is drawn, not before.
"""
import os.path as osp
from typing import TYPE_CHECKING, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import replaced_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers. What differs
# in kind also differs in hatching or line style, for print in grey. The light
# ones are the ground of hatched areas.
SKY_BLUE = '#56B4E9'
BLUE = '#0072B2'
VERMILION = '#D55E00'
LIGHT_VERMILION = '#F7DFCC'
GREEN = '#009E73'
LIGHT_GREEN = '#CCECE3'
BLACK = '#000000'
GREY = '#7F7F7F'

FORMATS = ('.png', '.pdf', '.svg')


def new_figure(size: Tuple[float, float]) -> 'Figure':
    """An empty figure that any machine can draw, without pyplot.

    Args:
        size (tuple[float, float]): Width and height in inches.

    Returns:
        Figure: On an Agg canvas.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def figure_as_image(figure: 'Figure') -> np.ndarray:
    """The figure as RGB pixels, for mmengine's visualizer.

    Args:
        figure (Figure): From this package.

    Returns:
        ndarray: uint8, shape (H, W, 3).
    """
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def check_figure_path(path: str) -> str:
    """Refuse a path that no figure can be written to.

    Args:
        path (str): Ends with .png, .pdf or .svg.

    Returns:
        str: Which of them, in lower case.

    Raises:
        InvalidValueError: If it ends otherwise.
    """
    suffix = osp.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise InvalidValueError(
            f'`path` of a figure must end with one of {FORMATS}, but got '
            f'{path!r}')
    return suffix


def save_figure(figure: 'Figure', path: str, dpi: int = 150) -> None:
    """Write a figure to a file, or leave the old file whole.

    Args:
        figure (Figure): From this package or from elsewhere.
        path (str): Ends with .png, .pdf or .svg.
        dpi (int): Pixels per inch of a PNG. Defaults to 150.

    Raises:
        InvalidValueError: If the path ends otherwise, or the system does
            not let it be written.
    """
    suffix = check_figure_path(path)
    with replaced_atomically(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=dpi)
