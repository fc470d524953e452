"""The corruptions of COCO-C, the same for an image whenever it is loaded.

The package ``imagecorruptions-imaug`` computes them. mmdet's transform
``Corrupt`` does not serve here: it can pass no seed, and two of the
corruptions take theirs from the system if they are given none.
"""
import importlib.resources
import inspect
from typing import Any, Dict, Iterable

import numpy as np

from tcal_det.errors import InvalidValueError
from .random_state import seed_of, seeded_numpy

# The others draw from numpy's global stream.
_WITH_OWN_SEED = ('impulse_noise', 'glass_blur')
# Height and width of the least image that can be corrupted.
LEAST_SIZE = 32
# What it needs is pinned to no version: without numpy's own here pip would
# bring the newest, with which an older torch does not work.
_INSTALL = f'pip install imagecorruptions-imaug numpy=={np.__version__}'


def check_imagecorruptions() -> None:
    """Raise, before any work, if images cannot be corrupted.

    Raises:
        InvalidValueError: If the package is missing or is another one of
            the same import name, with the command that mends it.
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
    """An image after one of the corruptions.

    Its channels are taken as they come, BGR of most mmdet pipelines, as by
    mmdet's ``Corrupt``, with which the published figures of COCO-C were
    measured; a few corruptions (frost, snow, JPEG) treat channels unlike.

    Args:
        image (ndarray): In [0, 255], shape (H, W, 3), not changed.
        name (str): One of ``CORRUPTIONS``.
        severity (int): In [0, 5]; 0 gives the image itself.
        seed (int): In [0, 2**32).

    Returns:
        ndarray: Of the same shape and dtype, whole numbers.
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
    """A step of a data pipeline, right after the image was loaded.

    Does nothing until :meth:`choose` is called. An image gets the same
    random numbers at every severity, in any order of the images and in any
    worker: they follow from the seed, the corruption and the image.

    Args:
        seed (int): Random seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.name, self.severity = '', 0

    def choose(self, name: str, severity: int) -> None:
        """Set what is done to the images from now on.

        Args:
            name (str): One of ``CORRUPTIONS``.
            severity (int): In [0, 5]; 0 leaves the images as they are.
        """
        self.name, self.severity = name, severity

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Corrupt the image of a pipeline's ``results``."""
        seed = seed_of(self.seed, self.name, identity_of(results))
        results['img'] = corrupt_image(results['img'], self.name,
                                       self.severity, seed)
        return results


def identity_of(info: Dict[str, Any]) -> Any:
    """What tells an image from the others of its data set.

    Args:
        info (dict): ``results`` of a pipeline, or metainfo of a data sample.
    """
    return info['img_id'] if 'img_id' in info else info.get('img_path')


def check_image_sizes(infos: Iterable[Dict[str, Any]]) -> None:
    """Refuse images that are too small to be corrupted.

    Args:
        infos (Iterable[dict]): What a data set knows of its images.

    Raises:
        InvalidValueError: If the sides of one are known, and one is shorter
            than 32 pixels.
    """
    for info in infos:
        sides = info.get('height', LEAST_SIZE), info.get('width', LEAST_SIZE)
        if min(sides) < LEAST_SIZE:
            raise InvalidValueError(
                f'images must be {LEAST_SIZE} x {LEAST_SIZE} or larger to be '
                f'corrupted, but {info.get("img_path", identity_of(info))!r} '
                f'is {sides[1]} x {sides[0]}: leave it out of the '
                'annotations, or --corruptions none')
