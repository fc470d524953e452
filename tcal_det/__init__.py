"""Distil detectors from calibrated teachers, and measure calibration.

A plugin for MMDetection 3.x. Importing it checks the versions of what it
plugs into without importing them, so that the parts which are pure numpy
(``tcal_det.evaluation.functional``) stay quick to load.
"""
from importlib import import_module

from .version import __version__

try:
    from importlib import metadata
except ImportError:  # pragma: no cover (Python 3.7, refused by setup.py)
    raise ImportError('tcal_det needs Python >= 3.8')

__all__ = ['__version__']

# module: (its distributions, lowest version, first version too new)
_REQUIRED = {
    'torch': (('torch', ), '2.0', None),
    'mmcv': (('mmcv', 'onedl-mmcv'), '2.0.0', '3.0'),
    'mmengine': (('mmengine', 'onedl-mmengine'), '0.8.0', '1.0'),
    'mmdet': (('mmdet', 'onedl-mmdetection'), '3.0.0', '4.0'),
}


def _release(version: str) -> tuple:
    """'2.1.2+cu121' -> (2, 1, 2); a suffix such as 'rc1' is dropped."""
    numbers = []
    for part in version.split('+')[0].split('.')[:3]:
        digits = ''
        for char in part:
            if not char.isdigit():
                break
            digits += char
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _installed_version(module: str, distributions: tuple) -> str:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    # A source tree on PYTHONPATH has no metadata: ask the module itself.
    return import_module(module).__version__


def _check_requirements() -> None:
    for module, (distributions, lowest, too_new) in _REQUIRED.items():
        allowed = f'>={lowest}' + (f',<{too_new}' if too_new else '')
        remedy = (f"install it with pip install '{distributions[0]}{allowed}'"
                  f' (or {distributions[1]}, the maintained fork)' if
                  len(distributions) > 1 else f"pip install 'torch{allowed}'")
        try:
            version = _installed_version(module, distributions)
        except ImportError:
            raise ImportError(f'tcal_det needs {module}{allowed}, but it is '
                              f'not installed: {remedy}') from None
        if (_release(version) < _release(lowest)
                or (too_new and _release(version) >= _release(too_new))):
            raise ImportError(f'tcal_det needs {module}{allowed}, but found '
                              f'{version}: {remedy}')


_check_requirements()
