"""What a detector predicted for one image, in mmdet's terms, checked.

Of a pickle of results and of the data samples that a metric gets alike:
three arrays that belong together. Imports no torch; tensors are known by
what they can do.
"""
from typing import Any, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .functional.record_fields import (LARGEST_COORDINATE, SMALLEST_SIDE,
                                       are_numbers)


class PredictedInstances(NamedTuple):
    """Detections of one image; D of them.

    Attributes:
        boxes (ndarray): x, y, width, height; float64, shape (D, 4).
        scores (ndarray): In [0, 1], float64, shape (D,).
        labels (ndarray): At least 0, int64, shape (D,).
    """
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def predicted_instances(
        pred: Any,
        where: str,
        num_classes: Optional[int] = None) -> PredictedInstances:
    """Check ``pred_instances`` of a data sample and make arrays of it.

    Args:
        pred (Any): With 'bboxes' (x1, y1, x2, y2; shape (D, 4)), 'scores'
            (shape (D,)) and 'labels' (whole numbers, shape (D,)): tensors,
            arrays or lists of numbers.
        where (str): Beginning of the message: which image this is.
        num_classes (int, optional): Labels are below it. Defaults to None,
            not known yet.

    Returns:
        PredictedInstances: Sizes are subtracted in float64 what may have
        been float32, like mmdet's CocoMetric.

    Raises:
        InvalidTypeError: If there are no such arrays of numbers.
        InvalidValueError: If their shapes do not fit, or a value is out of
            range.
    """
    try:
        pred.keys()  # a tensor takes texts as indices, in its way
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
            f'{labels.dtype}; a label counts the classes from 0')
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        sides = boxes[:, 2:] - boxes[:, :2]
    _check(where, boxes, scores, labels, sides, num_classes)
    return PredictedInstances(
        np.concatenate((boxes[:, :2], sides), axis=1), scores,
        labels.astype(np.int64))


def number_array(value: Any) -> np.ndarray:
    """An array of numbers, else an error of whatever kind.

    Args:
        value (Any): Array, tensor on any device, or list of numbers.
    """
    if hasattr(value, 'detach'):
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.double()  # numpy has no bfloat16
        value = value.numpy()
    # numpy would make numbers of booleans and small tensors in a list.
    if isinstance(value,
                  (list, tuple)) and not are_numbers(list(_leaves(value))):
        raise TypeError(value)
    array = np.asarray(value)
    if array.dtype.kind not in 'iuf':
        raise TypeError(array.dtype)
    return array


def _leaves(rows: Sequence[Any]) -> Iterator[Any]:
    for one in rows:
        if isinstance(one, (list, tuple)):
            yield from _leaves(one)
        else:
            yield one


def _check(where: str, boxes: np.ndarray, scores: np.ndarray,
           labels: np.ndarray, sides: np.ndarray,
           num_classes: Optional[int]) -> None:
    classes = ('not be negative' if num_classes is None else
               f'be one of the {num_classes} classes, counted from 0')
    # All written so that NaN fails.
    for good, values, allowed in (
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
        if not good.all():
            number = int(np.argmin(good))
            demand, _, remedy = allowed.partition('; ')
            raise InvalidValueError(
                f'{where}: {demand}, but got {values[number].tolist()} at '
                f'[{number}]{"; " * bool(remedy)}{remedy}')
