"""Sums over samples by image, to which image weights are applied.

Shapes:
    N: samples
    I: images
    K: classes
    B: resamples, the columns of weights
"""
from typing import List, Optional, Tuple

import numpy as np
from scipy.sparse import csr_matrix

from .functional import GroundTruth


def sums_by_image(cell: np.ndarray,
                  image_index: np.ndarray,
                  shape: Tuple[int, int],
                  values: Optional[np.ndarray] = None) -> csr_matrix:
    """Sum samples by cell and image.

    The matrix product of the sums and weights of shape (I, B) is the weighted
    sum of each cell and resample, shape (cells, B).

    Args:
        cell (ndarray): Cell of each sample, shape (N,).
        image_index (ndarray): Image of each sample, shape (N,).
        shape (tuple[int, int]): Numbers of cells and of images.
        values (ndarray, optional): Values to sum, shape (N,). Defaults to
            None, which counts the samples.

    Returns:
        csr_matrix: Sums, shape (cells, I).
    """
    if values is None:
        values = np.ones(len(cell))
    sums = csr_matrix((values, (cell, image_index)), shape)
    sums.eliminate_zeros()
    return sums


def objects_by_image(ground_truth: GroundTruth) -> csr_matrix:
    """Number of objects by class and image, without crowds.

    Args:
        ground_truth (GroundTruth): Annotated objects.

    Returns:
        csr_matrix: Numbers of objects, shape (K, I).
    """
    is_object = ~ground_truth.iscrowd
    return sums_by_image(ground_truth.class_index[is_object],
                         ground_truth.image_index[is_object],
                         (ground_truth.num_classes, ground_truth.num_images))


def row_blocks(class_index: np.ndarray) -> List[Tuple[int, slice]]:
    """Find the rows of each class among rows that are sorted by class.

    Args:
        class_index (ndarray): Class of each row, ascending, shape (N,).
    """
    classes, start = np.unique(class_index, return_index=True)
    end = np.append(start[1:], len(class_index))
    return list(zip(classes.tolist(), map(slice, start, end)))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient of arrays; NaN (undefined) where both are 0.

    Args:
        numerator (ndarray): Numerator, any shape.
        denominator (ndarray): Denominator, same shape.
    """
    with np.errstate(invalid='ignore', divide='ignore'):
        return numerator / denominator


def class_mean(values: np.ndarray, is_measured: np.ndarray) -> np.ndarray:
    """Mean over the measured classes; NaN where there are none.

    Args:
        values (ndarray): Figure of each class, shape (K, B).
        is_measured (ndarray): Whether each class is measured, boolean, shape
            (K, B).

    Returns:
        ndarray: Means, shape (B,).
    """
    return ratio(
        np.where(is_measured, values, 0.0).sum(axis=0),
        is_measured.sum(axis=0))
