"""The grid of painted images wastes no page and bends no image."""
import numpy as np
import pytest

from tcal_det.visualization import figure_as_image
from tcal_det.visualization.detection_grid import detection_grid


def black_images(*shapes, columns=3):
    """Rows of images of these heights and widths."""
    return [[np.zeros((*shape, 3), np.uint8)] * columns for shape in shapes]


@pytest.mark.parametrize('shapes', [
    [(60, 120)] * 4,
    [(120, 60)],
    [(60, 120), (90, 90), (120, 60)],
])
def test_the_page_is_full_of_images(shapes):
    images = black_images(*shapes)
    page = figure_as_image(detection_grid(images, ['a', 'b', 'c']))
    assert (page == 0).all(axis=-1).mean() > 0.8


def test_images_keep_their_aspect_ratio():
    figure = detection_grid(
        black_images((60, 120), (120, 60)), ['a', 'b', 'c'])
    page = figure_as_image(figure)
    height, width = page.shape[:2]
    for row, axes in enumerate(np.reshape(figure.axes, (2, 3))):
        for axis in axes:
            box = axis.get_position()
            ratio = box.width * width / (box.height * height)
            assert ratio == pytest.approx((2, 0.5)[row], rel=0.02)


def test_titles_stand_over_their_columns():
    figure = detection_grid(
        black_images((60, 120), (60, 120)), ['a', 'b', 'c'])
    assert [axis.get_title()
            for axis in figure.axes] == ['a', 'b', 'c'] + 3 * ['']
