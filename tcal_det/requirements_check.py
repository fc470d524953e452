"""Check the versions of torch and mmdet that the plugin works with.

The check runs when this module is imported; :mod:`tcal_det.registry` imports
it first.
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
    """Return the version of a module from the metadata of its distribution.

    Args:
        module (str): Import name of the module.
        distributions (tuple[str, ...]): Names of the distributions that
            provide the module.

    Returns:
        str: Version of the first distribution that is installed.

    Raises:
        ImportError: If none of them is installed.
    """
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    # A source tree on PYTHONPATH has no metadata: ask the module itself.
    return import_module(module).__version__


def check_requirements() -> None:
    """Check that torch and mmdet are installed in a supported version.

    A pre-release counts as its release: mmdet 3.0.0rc1 counts as 3.0.0.

    Raises:
        ImportError: If a module is missing, too old or too new. The message
            has one line with the module, the allowed versions, the version
            found, and the command to install an allowed version.
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
