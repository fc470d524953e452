"""Painted images of several detectors, side by side."""
from typing import TYPE_CHECKING, List

import numpy as np

from .figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 2.6
TITLE_INCHES = 0.3


def detection_grid(images: List[List[np.ndarray]],
                   titles: List[str]) -> 'Figure':
    """A row for each image, a column for each detector.

    Args:
        images (list[list[np.ndarray]]): Rows of painted RGB images, uint8
            (H, W, 3), all images of a row of the same shape.
        titles (list[str]): One for each column.

    Returns:
        Figure: The grid. All columns are equally wide, and each row is as
        high as its images are.
    """
    heights = [
        CELL_INCHES * row[0].shape[0] / row[0].shape[1] for row in images
    ]
    figure = new_figure(
        (CELL_INCHES * len(titles), sum(heights) + TITLE_INCHES))
    axes = figure.subplots(
        len(images),
        len(titles),
        squeeze=False,
        gridspec_kw=dict(height_ratios=heights))
    for row, painted in zip(axes, images):
        for axis, image in zip(row, painted):
            axis.imshow(image)
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    return figure
