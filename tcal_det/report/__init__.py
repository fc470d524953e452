"""The report of one or several results files as one HTML page."""
from .writer import write_report

__all__ = ['write_report']
