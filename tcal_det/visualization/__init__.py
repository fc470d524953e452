"""Figures of calibration and accuracy."""
from .class_chart import worst_classes_chart
from .detection_report import (detection_figures, reliability_figures,
                               write_detection_figures)
from .figures import check_figure_path, figure_as_image, save_figure
from .position_map import position_error_map
from .reliability_diagram import (draw_reliability, reliability_comparison,
                                  reliability_diagram)
from .temperature_sweep import temperature_sweep

__all__ = [
    'check_figure_path', 'detection_figures', 'draw_reliability',
    'figure_as_image', 'position_error_map', 'reliability_comparison',
    'reliability_diagram', 'reliability_figures', 'save_figure',
    'temperature_sweep', 'worst_classes_chart', 'write_detection_figures'
]
