"""Folds of images, for measuring a calibrator on images it has not seen."""
from typing import List

import numpy as np

from tcal_det.errors import InvalidValueError
from tcal_det.models.calibrators import Calibrator

NUM_FOLDS = 2


def fold_of_image(image_ids: np.ndarray, num_images: int,
                  seed: int) -> np.ndarray:
    """Divide the images that have samples into folds of equal size.

    Args:
        image_ids (ndarray): Image of each sample, in [0, I), shape (N,).
        num_images (int): Number of images of the split, I.
        seed (int): Random seed of the division.

    Returns:
        ndarray: Fold of each image, in [0, NUM_FOLDS), int64, shape (I,).
        Images without samples get fold 0.

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


def describe_fits(calibrator: Calibrator,
                  fold_calibrators: List[Calibrator]) -> str:
    """Format a calibrator and those of the folds, which show its uncertainty.

    Args:
        calibrator (Calibrator): Calibrator fitted to all images.
        fold_calibrators (list[Calibrator]): Calibrators fitted to the images
            of all folds but one.

    Returns:
        str: One or two lines.
    """
    folds = list(map(str, fold_calibrators))
    if set(folds) == {str(calibrator)}:
        # It depends on no image, or there is no difference to show.
        return str(calibrator)
    return f'{calibrator}\n    fitted to half of the images: ' + ', '.join(
        folds)


def cross_fitting_to_dict(calibrators: list) -> dict:
    """Describe the folds for the JSON file.

    Args:
        calibrators (list[Calibrator]): One calibrator per fold, fitted to the
            other folds.

    Returns:
        dict: Number of folds, their rule, and the calibrators.
    """
    return dict(
        num_folds=NUM_FOLDS,
        rule='folds of images; "after" is measured on samples whose image '
        'the calibrator was not fitted to',
        calibrators=[calibrator.to_json_dict() for calibrator in calibrators])
