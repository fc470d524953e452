"""Colours, creation and saving of figures.

Figures need neither a window nor the global state of pyplot. matplotlib is
imported only when a figure is drawn.
"""
import os.path as osp
from typing import TYPE_CHECKING, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import atomic_output_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Palette of Okabe and Ito, which colour-blind readers can distinguish. Kinds
# also differ in hatching or line style, for print in grey. The light colours
# are the background of hatched areas.
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
    """Create an empty figure that needs neither pyplot nor a display.

    Args:
        size (tuple[float, float]): Width and height in inches.

    Returns:
        Figure: Empty figure with an Agg canvas. A notebook shows it as a
        picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from .inline_figure import InlineFigure
    figure = InlineFigure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def figure_as_image(figure: 'Figure') -> np.ndarray:
    """Render a figure as RGB pixels for mmengine's visualizer.

    Args:
        figure (Figure): Figure of this package.

    Returns:
        ndarray: RGB image, uint8, shape (H, W, 3).
    """
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def check_figure_path(path: str) -> str:
    """Check that a path has the suffix of a figure.

    Args:
        path (str): Path that ends with .png, .pdf or .svg.

    Returns:
        str: Suffix in lower case.

    Raises:
        InvalidValueError: If the path has another suffix.
    """
    suffix = osp.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise InvalidValueError(
            f'`path` of a figure must end with one of {FORMATS}, but got '
            f'{path!r}')
    return suffix


def save_figure(figure: 'Figure', path: str, dpi: int = 150) -> None:
    """Write a figure to a file; an old file is replaced atomically.

    Args:
        figure (Figure): Any matplotlib figure.
        path (str): Path that ends with .png, .pdf or .svg.
        dpi (int): Resolution of a PNG in pixels per inch. Defaults to 150.

    Raises:
        InvalidValueError: If the path has another suffix, or the file cannot
            be written.
    """
    suffix = check_figure_path(path)
    with atomic_output_file(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=dpi)
