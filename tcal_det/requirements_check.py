"""Versions of torch and mmdet that the plugin works with.

Checked when this module is imported, as :mod:`tcal_det.registry` does first.
"""
from importlib import import_module, metadata

from packaging.version import Version

# module: (its distributions, lowest version, first version too new)
REQUIRED = {
    'torch': (('torch', ), '2.0', None),
    'mmcv': (('mmcv', 'onedl-mmcv'), '2.0.0', '3.0'),
    'mmengine': (('mmengine', 'onedl-mmengine'), '0.8.0', '1.0'),
    'mmdet': (('mmdet', 'onedl-mmdetection'), '3.0.0', '4.0'),
}


def installed_version(module: str, distributions: tuple) -> str:
    """Version of a module, by the metadata of what may have brought it.

    Args:
        module (str): Import name.
        distributions (tuple[str]): Distributions that bring the module.

    Raises:
        ImportError: If none is installed.
    """
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    # A source tree on PYTHONPATH has no metadata: ask the module itself.
    return import_module(module).__version__


def check_requirements() -> None:
    """Refuse what is missing, too old or too new.

    A pre-release counts as its release: mmdet's 3.0.0rc1 as 3.0.0.

    Raises:
        ImportError: One line with the module, the allowed versions, the
            version found, and the command that mends it.
    """
    for module, (distributions, lowest, too_new) in REQUIRED.items():
        allowed = f'>={lowest}' + (f',<{too_new}' if too_new else '')
        remedy = (f"install it with pip install '{distributions[0]}{allowed}'"
                  f' (or {distributions[1]}, the maintained fork)' if
                  len(distributions) > 1 else f"pip install 'torch{allowed}'")
        try:
            version = installed_version(module, distributions)
        except ImportError:
            raise ImportError(
                'the MMDetection plugin of tcal_det needs '
                f'{module}{allowed}, but it is not installed: {remedy}'
            ) from None
        release = Version(Version(version).base_version)
        if (release < Version(lowest)
                or (too_new and release >= Version(too_new))):
            raise ImportError('the MMDetection plugin of tcal_det needs '
                              f'{module}{allowed}, but found {version}: '
                              f'{remedy}')


check_requirements()
