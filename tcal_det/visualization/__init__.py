"""Figures of calibration and accuracy."""
from .figures import check_figure_path, figure_as_image, save_figure
from .reliability_diagram import reliability_comparison, reliability_diagram
from .temperature_sweep import temperature_sweep

__all__ = [
    'check_figure_path', 'figure_as_image', 'reliability_comparison',
    'reliability_diagram', 'save_figure', 'temperature_sweep'
]
