"""Distil detectors from calibrated teachers, and measure calibration.

Two halves. The calibration of results files (``evaluation``,
``recalibration``, ``visualization``, ``report``, ``cli``) needs numpy, scipy,
matplotlib and pycocotools. What plugs into MMDetection 3.x needs that and
torch too: :mod:`tcal_det.registry` checks their versions.
"""
from .version import __version__

__all__ = ['__version__']
