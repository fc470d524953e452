"""Distil detectors from calibrated teachers, and measure calibration.

The package has two halves. The part that measures and corrects the
calibration of results files (``evaluation``, ``recalibration``,
``visualization``, ``report``, ``cli``) needs numpy, scipy, matplotlib and
pycocotools. The plugin for MMDetection 3.x needs torch and mmdet as well;
:mod:`tcal_det.registry` checks their versions.
"""
from .version import __version__

__all__ = ['__version__']
