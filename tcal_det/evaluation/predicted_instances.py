"""Checked predictions for one image, in mmdet's format.

The predictions come from a pickle of results or from the data samples of a
metric.
"""
from typing import Any, NamedTuple, Optional

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .functional.array_checks import number_array
from .functional.record_fields import LARGEST_COORDINATE, SMALLEST_SIDE


class PredictedInstances(NamedTuple):
    """D detections of one image.

    Attributes:
        boxes (ndarray): Boxes as x, y, width, height; float64, shape (D, 4).
        scores (ndarray): Scores in [0, 1], float64, shape (D,).
        labels (ndarray): Labels >= 0, int64, shape (D,).
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def predicted_instances(
        pred: Any,
        where: str,
        num_classes: Optional[int] = None) -> PredictedInstances:
    """Check ``pred_instances`` of a data sample and convert it to arrays.

    Args:
        pred (Any): Predictions with 'bboxes' (x1, y1, x2, y2; shape (D, 4)),
            'scores' (shape (D,)) and 'labels' (whole numbers, shape (D,)):
            tensors, arrays or lists of numbers.
        where (str): Description of the image, for the beginning of the
            message.
        num_classes (int, optional): Number of classes; labels must be below
            it. Defaults to None, if it is not known yet.

    Returns:
        PredictedInstances: Checked arrays. Widths and heights are computed in
        float64 from values that may be float32, as in mmdet's CocoMetric.

    Raises:
        InvalidTypeError: If one of these arrays is missing or does not hold
            numbers.
        InvalidValueError: If their shapes do not fit, or a value is out of
            range.
    """
    try:
        pred.keys()  # indexing a tensor by a text raises odd errors
        boxes, scores, labels = (
            number_array(pred[name])
            for name in ('bboxes', 'scores', 'labels'))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError,
            AttributeError, OverflowError, RecursionError):
        raise InvalidTypeError(
            f'{where}: `pred_instances` must have bboxes, scores and labels, '
            'each an array of numbers, as a detector of mmdet 3.x gives them '
            f'and its tools/test.py --out writes them, but got '
            f'{shortened(pred)}') from None
    if boxes.shape == (0, ):  # an empty list
        boxes = boxes.reshape(0, 4)
    if (boxes.shape[1:] != (4, ) or scores.ndim != 1 or labels.ndim != 1
            or not len(boxes) == len(scores) == len(labels)):
        raise InvalidValueError(
            f'{where}: bboxes, scores and labels must have the shapes (D, '
            f'4), (D,) and (D,), but got {boxes.shape}, {scores.shape} and '
            f'{labels.shape}; each detection has one box (x1, y1, x2, y2), '
            'one score and one label')
    if len(labels) and labels.dtype.kind == 'f':
        raise InvalidTypeError(
            f'{where}: labels must be whole numbers, but got an array of '
            f'{labels.dtype}; labels are class indices from 0')
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        sides = boxes[:, 2:] - boxes[:, :2]
    _check(where, boxes, scores, labels, sides, num_classes)
    return PredictedInstances(
        np.concatenate((boxes[:, :2], sides), axis=1), scores,
        labels.astype(np.int64))


def class_probability_rows(pred: Any, where: str,
                           num_detections: int) -> np.ndarray:
    """Convert ``class_probs`` of ``pred_instances`` to an array.

    Args:
        pred (Any): Predictions that :func:`predicted_instances` accepted.
        where (str): Description of the image, for the beginning of the
            message.
        num_detections (int): Number of detections D.

    Returns:
        ndarray: Output of the model as float64, shape (D, C), without further
        checks.

    Raises:
        InvalidTypeError: If there are no ``class_probs``.
        InvalidValueError: If there is not one row for each detection.
    """
    try:
        rows = number_array(pred['class_probs'])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError,
            AttributeError, OverflowError, RecursionError):
        raise InvalidTypeError(
            f'{where}: `pred_instances` must have class_probs, an array of '
            'numbers, but has none: predict with '
            'model.test_cfg.class_probabilities=True in a model of the type '
            "'tcal_det.RecalibratedDetector' or "
            "'tcal_det.CalibratedTeacherDistiller'") from None
    if rows.ndim != 2 or len(rows) != num_detections:
        raise InvalidValueError(
            f'{where}: class_probs must have the shape (D, C), one row for '
            f'each of the {num_detections} detections, but got {rows.shape}')
    return rows.astype(np.float64)


def _check(where: str, boxes: np.ndarray, scores: np.ndarray,
           labels: np.ndarray, sides: np.ndarray,
           num_classes: Optional[int]) -> None:
    classes = ('not be negative' if num_classes is None else
               f'be one of the {num_classes} classes, counted from 0')
    # All comparisons are written so that NaN fails.
    for is_valid, values, allowed in (
        (labels >= 0 if num_classes is None else
         (labels >= 0) & (labels < num_classes), labels, f'label must '
         f'{classes}; were the detector and the annotations made for the '
         'same classes?'),
        ((scores >= 0) & (scores <= 1), scores,
         'score must be in [0, 1]; write probabilities, not logits'),
        ((np.abs(boxes) <= LARGEST_COORDINATE).all(axis=1), boxes,
         'box must have finite numbers (x1, y1, x2, y2) of at most '
         f'{LARGEST_COORDINATE:g}'),
        (((sides == 0) | (sides >= SMALLEST_SIDE)).all(axis=1), boxes,
         'box must have x1 <= x2 and y1 <= y2, equal or at least '
         f'{SMALLEST_SIDE:g} apart; it is written as x1, y1, x2, y2')):
        if not is_valid.all():
            number = int(np.argmin(is_valid))
            condition, _, remedy = allowed.partition('; ')
            raise InvalidValueError(
                f'{where}: {condition}, but got {values[number].tolist()} at '
                f'[{number}]{"; " * bool(remedy)}{remedy}')
