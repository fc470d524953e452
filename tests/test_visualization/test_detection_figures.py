"""Figures of detection calibration show what the report says."""
import dataclasses

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.functional import (detections_from_coco,
                                            evaluate_detections,
                                            ground_truth_from_coco)
from tcal_det.visualization import figure_as_image
from tcal_det.visualization.class_chart import worst_classes_chart
from tcal_det.visualization.detection_report import detection_figures
from tcal_det.visualization.position_map import position_error_map

pytestmark = pytest.mark.filterwarnings('ignore:undefined')


def report_of(annotations, results):
    ground_truth = ground_truth_from_coco(annotations)
    return evaluate_detections(ground_truth,
                               detections_from_coco(results, ground_truth))


@pytest.fixture
def report(golden):
    return report_of(golden('det_ties_gt.json'), golden('det_ties_dt.json'))


@pytest.fixture
def corner_report():
    """Score 0.6: right at the top left, wrong at the bottom left."""
    annotations = dict(
        images=[dict(id=i, width=200, height=100) for i in range(10)],
        categories=[dict(id=1, name='a')],
        annotations=[
            dict(image_id=i, category_id=1, bbox=[0, 0, 10, 10])
            for i in range(10)
        ])
    results = [
        dict(image_id=i, category_id=1, bbox=box, score=0.6) for i in range(10)
        for box in ([0, 0, 10, 10], [0, 90, 10, 10])
    ]
    # One alone in the middle: too few to say anything.
    results.append(
        dict(image_id=0, category_id=1, bbox=[95, 45, 10, 10], score=0.6))
    return report_of(annotations, results)


def test_all_figures_have_pixels(report, corner_report):
    for one in (report, corner_report):
        figures = detection_figures(one)
        assert list(figures) == [
            'reliability_precision', 'reliability_iou', 'worst_classes',
            'position'
        ]
        for figure in figures.values():
            image = figure_as_image(figure)
            assert image.dtype == np.uint8 and image.shape[2] == 3
            assert min(image.shape[:2]) > 200 and image.std() > 10


def test_without_image_sizes_there_is_no_map(golden):
    annotations = golden('det_ties_gt.json')
    for image in annotations['images']:
        del image['width']
    figures = detection_figures(
        report_of(annotations, golden('det_ties_dt.json')))
    assert 'position' not in figures


def test_reliability_figures_carry_their_numbers(report):
    figures = detection_figures(report)
    heading = figures['reliability_precision'].axes[0].get_title('left')
    assert f'D-ECE {report.d_ece.ece:.4f}' in heading
    texts = [
        text.get_text() for text in figures['reliability_iou'].axes[0].texts
    ]
    assert f'LaECE_0 {report.laece_0.laece:.4f}, mean of 2 classes' in texts


def test_bars_of_the_worst_classes(report):
    axes, = worst_classes_chart(report.per_class).axes
    over, under = axes.containers
    rows = sorted(report.per_class, key=lambda row: -row['d_ece'])
    assert [bar.get_width()
            for bar in over] == [row['d_ece_over'] for row in rows]
    assert [bar.get_x() + bar.get_width()
            for bar in under] == pytest.approx([row['d_ece'] for row in rows])
    assert [label.get_text() for label in axes.get_yticklabels()] == ['b', 'a']
    # The worst is on top.
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_at_most_15_classes_and_none_without_detections(report):
    row = report.per_class[0]
    rows = [dict(row, name=str(i), d_ece=i / 100) for i in range(20)]
    rows.append(dict(row, name='absent', d_ece=float('nan')))
    axes, = worst_classes_chart(rows).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [str(i) for i in range(19, 4, -1)]
    assert '15 of 20 classes' in axes.get_title('left')


def test_position_map(corner_report):
    figure = position_error_map(corner_report.d_ece_position.bins, 8)
    axes = figure.axes[0]
    mesh, = (
        artist for artist in axes.collections
        if not isinstance(artist, AxesImage))
    cells = mesh.get_array().reshape(8, 8)
    # Row 0 is the top of the image: |0.6 - 1| there, |0.6 - 0| below.
    assert cells[0, 0] == pytest.approx(0.4)
    assert cells[7, 0] == pytest.approx(0.6)
    assert np.isfinite(np.ma.filled(cells, np.nan)).sum() == 2
    assert axes.get_ylim() == (1, 0)
    written = {
        (round(text.get_position()[0], 4), round(text.get_position()[1], 4)):
        text.get_text()
        for text in axes.texts
    }
    assert written == {(0.0625, 0.0625): '40.0', (0.0625, 0.9375): '60.0'}
    assert any(
        isinstance(patch, Rectangle) and patch.get_hatch()
        for patch in axes.patches)


def test_position_map_without_a_used_cell(corner_report):
    figure = position_error_map(corner_report.d_ece_position.bins, 99)
    assert 'undefined' in figure.axes[0].get_title('left')


def test_position_map_of_another_grid(corner_report):
    with pytest.raises(InvalidValueError, match='score.*cx.*cy'):
        position_error_map(
            dataclasses.replace(
                corner_report.d_ece_position.bins,
                features=('score', 'w', 'h')))
