"""Corruptions of COCO-C, repeatable for each image.

The package ``imagecorruptions-imaug`` computes them. mmdet's transform
``Corrupt`` is not used, because it cannot pass a seed, and two of the
corruptions use a seed of the system if they get none.
"""
import importlib.resources
import inspect
from typing import Any, Dict, Iterable

import numpy as np

from tcal_det.errors import InvalidValueError
from .random_state import seed_of, seeded_numpy

# All others draw from the global random state of numpy.
_WITH_OWN_SEED = ('impulse_noise', 'glass_blur')
# Height and width of the smallest image that can be corrupted.
LEAST_SIZE = 32
# The package does not limit the version of numpy. The command names the
# installed version; otherwise pip would install the newest one, which does not
# work with an older torch.
_INSTALL = f'pip install imagecorruptions-imaug numpy=={np.__version__}'


def check_imagecorruptions() -> None:
    """Raise, before any work, if images cannot be corrupted.

    Raises:
        InvalidValueError: If the package is missing, another package of the
            same import name is installed, or Python is too old; the message
            contains the remedy.
    """
    try:
        from imagecorruptions.corruptions import impulse_noise
    except ImportError as error:
        raise InvalidValueError(
            'corruptions need the package imagecorruptions-imaug, which '
            f'cannot be imported ({error}): {_INSTALL}, or --corruptions none'
        ) from None
    if 'seed' not in inspect.signature(impulse_noise).parameters:
        raise InvalidValueError(
            'corruptions need the package imagecorruptions-imaug, but '
            'imagecorruptions, which has the same import name, draws '
            'impulse noise that cannot be repeated: pip uninstall '
            f'imagecorruptions, then {_INSTALL}')
    if not hasattr(importlib.resources, 'files'):
        raise InvalidValueError(
            'corruptions need Python 3.9 or newer: use one, or '
            '--corruptions none')


def corrupt_image(image: np.ndarray, name: str, severity: int,
                  seed: int) -> np.ndarray:
    """Apply a corruption to an image.

    The channels keep their order, which is BGR in most mmdet pipelines. The
    order matters, because a few corruptions (frost, snow, JPEG) treat the
    channels differently. mmdet's ``Corrupt``, with which the published figures
    of COCO-C were measured, keeps the order, too.

    Args:
        image (ndarray): Image with pixels in [0, 255], shape (H, W, 3); not
            changed.
        name (str): Name of the corruption, one of ``CORRUPTIONS``.
        severity (int): Severity in [0, 5]; 0 returns the given image.
        seed (int): Random seed in [0, 2**32).

    Returns:
        ndarray: Corrupted image of the same shape and dtype, with whole
        numbers.
    """
    if severity == 0:
        return image
    from imagecorruptions import corrupt
    options = dict(seed=seed) if name in _WITH_OWN_SEED else {}
    with seeded_numpy(seed):
        corrupted = corrupt(
            image.astype(np.uint8),
            severity=severity,
            corruption_name=name,
            **options)
    return corrupted.astype(image.dtype)


class ImageCorruption:
    """Transform of a data pipeline that corrupts the loaded image.

    It does nothing before :meth:`choose` is called. The random numbers of an
    image depend only on the seed, the corruption and the image. So they are
    the same at every severity, in any order of the images and in any worker.

    Args:
        seed (int): Random seed of the corruptions.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.name, self.severity = '', 0

    def choose(self, name: str, severity: int) -> None:
        """Set the corruption of all following images.

        Args:
            name (str): Name of the corruption, one of ``CORRUPTIONS``.
            severity (int): Severity in [0, 5]; 0 does not change the images.
        """
        self.name, self.severity = name, severity

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Corrupt the image of a pipeline's ``results``."""
        seed = seed_of(self.seed, self.name, identity_of(results))
        results['img'] = corrupt_image(results['img'], self.name,
                                       self.severity, seed)
        return results


def identity_of(info: Dict[str, Any]) -> Any:
    """Identifier of an image in its data set.

    Args:
        info (dict): ``results`` of a pipeline, or metainfo of a data sample.

    Returns:
        Any: Id of the image, or its path if it has no id.
    """
    return info['img_id'] if 'img_id' in info else info.get('img_path')


def check_image_sizes(infos: Iterable[Dict[str, Any]]) -> None:
    """Refuse images that are too small to be corrupted.

    Args:
        infos (Iterable[dict]): Data information of each image. Sides that are
            not known are not checked.

    Raises:
        InvalidValueError: If a side of an image is shorter than 32 pixels.
    """
    for info in infos:
        sides = info.get('height', LEAST_SIZE), info.get('width', LEAST_SIZE)
        if min(sides) < LEAST_SIZE:
            raise InvalidValueError(
                f'images must be {LEAST_SIZE} x {LEAST_SIZE} or larger to be '
                f'corrupted, but {info.get("img_path", identity_of(info))!r} '
                f'is {sides[1]} x {sides[0]}: leave it out of the '
                'annotations, or --corruptions none')
