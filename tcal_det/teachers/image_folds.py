"""Folds of images, to measure a calibrator on images it was not fitted to."""
import numpy as np

from tcal_det.errors import InvalidValueError

NUM_FOLDS = 2


def fold_of_image(image_ids: np.ndarray, num_images: int,
                  seed: int) -> np.ndarray:
    """Deal the images that have samples into folds of equal size.

    Args:
        image_ids (ndarray): In [0, I), of each sample, shape (N,).
        num_images (int): Images of the split, I.
        seed (int): Random seed of the deal.

    Returns:
        ndarray: In [0, NUM_FOLDS), 0 for an image without samples, int64,
        shape (I,).

    Raises:
        InvalidValueError: If there are fewer images with samples than folds.
    """
    image_ids = np.unique(image_ids)
    if len(image_ids) < NUM_FOLDS:
        raise InvalidValueError(
            f'the split must have at least {NUM_FOLDS} images with samples, '
            'to measure a calibrator on other images than it was fitted to, '
            f'but has {len(image_ids)}: use a larger split')
    folds = np.zeros(num_images, np.int64)
    folds[np.random.default_rng(seed).permutation(image_ids)] = np.arange(
        len(image_ids)) % NUM_FOLDS
    return folds


def cross_fitting_to_dict(calibrators: list) -> dict:
    """What the JSON file says of the folds.

    Args:
        calibrators (list[Calibrator]): Fitted to all but one fold each.
    """
    return dict(
        num_folds=NUM_FOLDS,
        rule='folds of images; "after" is measured on samples whose image '
        'the calibrator was not fitted to',
        calibrators=[calibrator.to_json_dict() for calibrator in calibrators])
