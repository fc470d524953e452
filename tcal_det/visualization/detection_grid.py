"""Painted images of several detectors, side by side."""
from typing import TYPE_CHECKING, List

import numpy as np

from .figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 2.6


def detection_grid(images: List[List[np.ndarray]],
                   titles: List[str]) -> 'Figure':
    """A row for each image, a column for each detector.

    Args:
        images (list[list[np.ndarray]]): Rows of painted RGB images, uint8
            (H, W, 3).
        titles (list[str]): One for each column.

    Returns:
        Figure: The grid.
    """
    figure = new_figure(
        (CELL_INCHES * len(titles), CELL_INCHES * len(images) + 0.3))
    axes = figure.subplots(len(images), len(titles), squeeze=False)
    for row, painted in zip(axes, images):
        for axis, image in zip(row, painted):
            axis.imshow(image)
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    return figure
