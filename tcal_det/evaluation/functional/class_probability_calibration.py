"""Calibration of the class probabilities of detections.

The other figures use only one score of each detection. Here each detection is
a sample of a classification problem, with a row of probabilities and a label,
and the calibration figures of classifiers are computed from the whole row.

Shapes:
    D: detections
    K: classes
    C: columns; K + 1 with the background class last (softmax heads), or K
        independent class probabilities (sigmoid heads)
    N: detections that are measured
"""
import warnings
from dataclasses import dataclass, replace
from typing import Any, Dict, Tuple

import numpy as np
from numpy.typing import ArrayLike

from tcal_det.errors import InvalidValueError, TcalDetWarning
from .array_checks import as_unit_interval, check_same_length
from .binning import make_bin_table
from .calibration_error import (CalibrationError, ClasswiseCalibrationError,
                                calibration_error)
from .coco_arrays import (Detections, GroundTruth, check_detections,
                          check_ground_truth)
from .matching import IGNORED, match_detections

# This tolerance allows float16 rows of a thousand classes.
LARGEST_ERROR_OF_SUM = 0.01


@dataclass(frozen=True, eq=False)
class ClassProbabilityCalibration:
    """Calibration of rows of class probabilities.

    Attributes:
        top_label (CalibrationError): Error of the largest probability of each
            row, compared with whether its class is the label.
        classwise (ClasswiseCalibrationError): Error of each column, compared
            with whether its class is the label. Classes are in the order of
            the ground truth, with the background class last if it has a
            column.
        brier (float): Mean squared error of a row, summed over its columns; in
            [0, 2] with a background column, and in [0, K] without.
        has_background (bool): Whether rows have a background column.
        num_measured (int): Number of samples N.
        num_background (int): Number of samples that match no object.
        num_secondary (int): Number of detections left out because their class
            is not the most probable class of their row.
        num_ignored (int): Number of detections left out because they match a
            crowd.
    """
    top_label: CalibrationError
    classwise: ClasswiseCalibrationError
    brier: float
    has_background: bool
    num_measured: int
    num_background: int
    num_secondary: int
    num_ignored: int

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN."""
        return dict(
            top_label_ece=self.top_label.ece,
            classwise_ece=self.classwise.ece,
            brier=self.brier,
            has_background=self.has_background,
            num_measured=self.num_measured,
            num_background=self.num_background,
            num_secondary=self.num_secondary,
            num_ignored=self.num_ignored,
            top_label=self.top_label.to_dict(),
            classwise=self.classwise.to_dict())

    def table(self) -> str:
        """Format the figures as a table for a terminal."""
        rows = (('Top-label ECE', self.top_label.ece),
                ('Classwise ECE', self.classwise.ece), ('Brier score',
                                                        self.brier))
        lines = [f'class probabilities of {self.num_measured} boxes']
        return '\n'.join(
            lines + [f'  {title:<24}{value:8.4f}' for title, value in rows])


def class_probability_calibration(
        ground_truth: GroundTruth,
        detections: Detections,
        probs: ArrayLike,
        iou_thr: float = 0.5,
        num_bins: int = 15,
        closed: str = 'right') -> ClassProbabilityCalibration:
    """Top-label ECE, classwise ECE and Brier score over all classes.

    The label of a detection is the class of the object that its box matches:
    detections and objects are matched as in :func:`match_detections`, but
    without regard to classes. A detection without an object is background; one
    that matches a crowd is left out. Each row is measured once: mmdet returns
    the same box for each class that is probable enough, and only the detection
    whose class is the most probable class of its row is matched and measured.

    With a background column all figures are those of a classifier of K + 1
    classes. Without it a row has K binary predictions. For a detection on
    background, all K targets are 0 and its top label is wrong. The Brier score
    is the sum over the columns.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        probs (Sequence[Sequence[float]]): Class probabilities of the
            detections, shape (D, K) or (D, K + 1), with columns in the order
            of ``ground_truth.category_ids``. Rows of K + 1 add up to 1.
        iou_thr (float): IoU threshold of a match, in [0, 1). Defaults to 0.5.
        num_bins (int): Number of bins of both ECEs. Defaults to 15.
        closed (str): Closed side of the bins, see :func:`bin_index`. Defaults
            to 'right'.

    Returns:
        ClassProbabilityCalibration: Calibration figures; NaN, with a warning,
        if no detection is measured.

    Raises:
        InvalidTypeError: If ``probs`` are not numbers.
        InvalidValueError: If the shape of ``probs`` is wrong, or a value or
            the sum of a row is out of range.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
        Eq. 3 (top label); Kull et al., "Beyond temperature scaling", NeurIPS
        2019, section 2 (classwise ECE); Brier 1950, Eq. 2. Harakeh and
        Waslander, ICLR 2021, apply proper scoring rules to the class
        distribution of detections, split by their IoU.
    """
    check_ground_truth(ground_truth)
    check_detections(detections)
    all_probs = _checked_probs(probs, detections, ground_truth.num_classes)
    num_classes = ground_truth.num_classes
    predicted_probs = all_probs[np.arange(len(all_probs)),
                                detections.class_index]
    is_primary = predicted_probs >= all_probs[:, :num_classes].max(
        axis=1, initial=0.0)
    labels, is_measured = _labels_by_box(ground_truth,
                                         _select(detections, is_primary),
                                         iou_thr)
    measured, labels = all_probs[is_primary][is_measured], labels[is_measured]
    if len(labels) == 0:
        warnings.warn(
            'no detection has its class as the most probable one, so the '
            'calibration of the class probabilities is NaN',
            TcalDetWarning,
            stacklevel=2)
    with warnings.catch_warnings():
        # The warning is above.
        warnings.simplefilter('ignore', TcalDetWarning)
        top_label = calibration_error(
            measured.max(axis=1, initial=0.0),
            measured.argmax(axis=1) == labels, num_bins, closed)
    return ClassProbabilityCalibration(
        top_label=top_label,
        classwise=_classwise(measured, labels, num_bins, closed),
        brier=_brier_score(measured, labels),
        has_background=measured.shape[1] > num_classes,
        num_measured=len(labels),
        num_background=int((labels == num_classes).sum()),
        num_secondary=int((~is_primary).sum()),
        num_ignored=int((~is_measured).sum()))


def _checked_probs(probs: Any, detections: Detections,
                   num_classes: int) -> np.ndarray:
    if len(probs) == 0 and not isinstance(probs, np.ndarray):
        probs = np.zeros((0, num_classes))
    probs = as_unit_interval('probs', probs, ndim=2)
    check_same_length('probs', probs, 'detections', detections.scores)
    if probs.shape[1] not in (num_classes, num_classes + 1):
        raise InvalidValueError(
            f'`probs` must have {num_classes} columns, one for each class, '
            f'or {num_classes + 1} with background last, but got '
            f'{probs.shape[1]}')
    if probs.shape[1] > num_classes:
        bad = np.abs(probs.sum(axis=1) - 1) > LARGEST_ERROR_OF_SUM
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidValueError(
                '`probs` with a background column must have rows that '
                f'add up to 1, but got {probs[row].sum()} in row {row}')
    return probs


def _select(detections: Detections, kept: np.ndarray) -> Detections:
    return Detections(detections.image_index[kept],
                      detections.class_index[kept], detections.boxes[kept],
                      detections.scores[kept])


def _labels_by_box(ground_truth: GroundTruth, detections: Detections,
                   iou_thr: float) -> Tuple[np.ndarray, np.ndarray]:
    """Class of the matched object, K if none; and mask of not ignored ones."""
    one_class = replace(
        ground_truth,
        category_ids=np.zeros(1, dtype=np.int64),
        category_names=('object', ),
        class_index=np.zeros_like(ground_truth.class_index))
    matches = match_detections(
        one_class,
        replace(detections, class_index=np.zeros_like(detections.class_index)),
        iou_thr,
        max_dets=max(len(detections), 1))
    # Index -1, which means no object, selects the background class.
    classes = np.append(ground_truth.class_index, ground_truth.num_classes)
    return classes[matches.object_index], matches.status != IGNORED


def _classwise(probs: np.ndarray, labels: np.ndarray, num_bins: int,
               closed: str) -> ClasswiseCalibrationError:
    per_class = tuple(
        CalibrationError.from_bins(
            make_bin_table(probs[:, column], (
                labels == column).astype(np.float64), num_bins, closed))
        for column in range(probs.shape[1]))
    return ClasswiseCalibrationError(
        float(np.mean([error.ece for error in per_class])), per_class)


def _brier_score(probs: np.ndarray, labels: np.ndarray) -> float:
    if len(labels) == 0:
        return float('nan')
    has_column = labels < probs.shape[1]
    likelihood = probs[has_column, labels[has_column]]
    # sum_k (p_k - y_k)^2 without an N x C array of y
    total = np.einsum('nk,nk->', probs, probs) + (1 - 2 * likelihood).sum()
    return float(total / len(labels))
