"""The report of one or several results files as one HTML page."""
from .example_images import image_paths
from .page import check_requirements
from .writer import write_report

__all__ = ['check_requirements', 'image_paths', 'write_report']
