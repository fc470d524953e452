"""Report of one or several results files as one HTML page."""
from .example_images import image_paths
from .writer import prepare_report, write_report

__all__ = ['image_paths', 'prepare_report', 'write_report']
