"""Figures of a detection calibration report."""
import os.path as osp
from typing import TYPE_CHECKING, Dict, List

from tcal_det.evaluation.functional import DetectionCalibrationReport
from .class_chart import worst_classes_chart
from .figures import save_figure
from .position_map import position_error_map
from .reliability_diagram import reliability_diagram

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_figures(
        report: DetectionCalibrationReport) -> Dict[str, 'Figure']:
    """Reliability diagrams of precision and of precision times IoU.

    Args:
        report (DetectionCalibrationReport): Report from
            :func:`evaluate_detections`.

    Returns:
        dict[str, Figure]: Figures 'reliability_precision' and
        'reliability_iou'.
    """
    iou_thr = report.settings['d_ece_iou_thr']
    return dict(
        reliability_precision=reliability_diagram(
            report.d_ece.bins,
            f'D-ECE at IoU {iou_thr}',
            target_name='Precision',
            error_name='D-ECE'),
        reliability_iou=reliability_diagram(
            report.laece_0.bins,
            f'LaECE_0 {report.laece_0.laece:.4f}, mean of '
            f'{report.laece_0.num_classes} classes',
            target_name='Precision x IoU',
            error_name='All classes pooled'))


def detection_figures(
        report: DetectionCalibrationReport) -> Dict[str, 'Figure']:
    """Draw all figures of a report.

    Args:
        report (DetectionCalibrationReport): Report from
            :func:`evaluate_detections`.

    Returns:
        dict[str, Figure]: Figures of :func:`reliability_figures`,
        'worst_classes', and 'position' if the image sizes are known.
    """
    figures = reliability_figures(report)
    figures['worst_classes'] = worst_classes_chart(report.per_class,
                                                   'Worst classes')
    if report.d_ece_position is not None:
        figures['position'] = position_error_map(
            report.d_ece_position.bins,
            report.settings['position_min_samples'],
            'D-ECE over the image plane')
    return figures


def write_detection_figures(report: DetectionCalibrationReport,
                            folder: str) -> List[str]:
    """Save :func:`detection_figures` as PNG.

    Args:
        report (DetectionCalibrationReport): Report from
            :func:`evaluate_detections`.
        folder (str): Output folder, created if it is missing.

    Returns:
        list[str]: Paths of the written files.
    """
    paths = []
    for name, figure in detection_figures(report).items():
        paths.append(osp.join(folder, f'{name}.png'))
        save_figure(figure, paths[-1])
    return paths
