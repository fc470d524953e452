"""Images with the detections of several detectors, side by side."""
from typing import TYPE_CHECKING, List

import numpy as np

from .figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 3.2
TITLE_INCHES = 0.3


def detection_grid(images: List[List[np.ndarray]],
                   titles: List[str]) -> 'Figure':
    """Draw a grid with a row for each image and a column for each detector.

    Args:
        images (list[list[ndarray]]): Rows of RGB images with drawn
            detections, uint8, shape (H, W, 3). All images of a row have the
            same shape.
        titles (list[str]): Title of each column.

    Returns:
        Figure: Grid of images. All columns have the same width, and the
        height of a row follows from the shape of its images.
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
    for row, row_images in zip(axes, images):
        for axis, image in zip(row, row_images):
            axis.imshow(image)
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    return figure
