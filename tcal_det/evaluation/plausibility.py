"""Checks of all records together: wrong box format, swapped labels."""
import warnings
from dataclasses import replace
from typing import Union

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import ImplausibleDataWarning, InvalidValueError
from .functional import Detections, GroundTruth, match_detections

# A box leaves its image if it ends outside by more than this share of the side
# of the image. Rounded and unclipped boxes of real detectors stay within this
# margin.
_OVERHANG = 0.05
# Minimum share of such boxes for a warning. If boxes are written as corners,
# about three quarters of them leave: all whose centre is right of the middle
# or below it.
_DOUBTED_SHARE = 0.1
# Minimum number of boxes on objects for a check of the labels.
_LEAST_MATCHES = 20
# Maximum number of boxes that are checked, and of images whose labels are
# checked; both are chosen at regular intervals.
_MOST_BOXES = 50_000
_MOST_IMAGES = 200


def warn_of_boxes_outside(ground_truth: GroundTruth,
                          boxes_of: Union[GroundTruth,
                                          Detections], list_name: str) -> None:
    """Warn if many boxes leave their images, or all boxes are tiny.

    Common causes are x1, y1, x2, y2 instead of x, y, width, height, boxes for
    another image size, and boxes as fractions of the image. Images without a
    size are not checked.

    Args:
        ground_truth (GroundTruth): Ground truth with the sizes of the images.
        boxes_of (GroundTruth | Detections): Objects or detections of these
            images.
        list_name (str): Name of the list, 'annotations' or 'results', for the
            message.
    """
    step = max(1, -(-len(boxes_of.boxes) // _MOST_BOXES))
    sizes = ground_truth.image_sizes[boxes_of.image_index[::step]]
    has_size = np.isfinite(sizes).all(axis=1)
    known = step * np.flatnonzero(has_size)
    if not len(known):
        return
    boxes, sizes = boxes_of.boxes[known], sizes[has_size]
    ends = boxes[:, :2] + boxes[:, 2:]
    overhang = np.maximum(ends - sizes, -boxes[:, :2])
    is_outside = (overhang > _OVERHANG * sizes).any(axis=1)
    share = is_outside.mean()
    if share >= _DOUBTED_SHARE:
        row = int(np.argmax(is_outside))
        corners = boxes[is_outside]
        slack = _OVERHANG * sizes[is_outside]
        fit_as_corners = ((corners[:, :2] >= -slack) &
                          (corners[:, 2:] >= corners[:, :2]) &
                          (corners[:, 2:] <= sizes[is_outside] + slack)).all(
                              axis=1)
        remedy = ('they would fit as x1, y1, x2, y2, but must be x, y, width, '
                  'height: write [x1, y1, x2 - x1, y2 - y1]'
                  if fit_as_corners.mean() >= 0.9 else
                  'are they x, y, width, height for images of these sizes?')
        warnings.warn(
            f'{share:.0%} of the boxes of the {list_name} leave their image, '
            f'the first of them `{list_name}[{known[row]}]`: `bbox` '
            f'{_rounded(boxes[row])} in an image of {_rounded(sizes[row])}; '
            f'{remedy}',
            ImplausibleDataWarning,
            stacklevel=3)
    # Images of a few pixels may have such boxes.
    elif ends.max() <= 1.5 and sizes.min() >= 16:
        warnings.warn(
            f'all boxes of the {list_name} end within 1.5 pixels of the '
            'top left corner of their image, e.g. '
            f'`{list_name}[{known[0]}]`: `bbox` {_rounded(boxes[0])} in an '
            f'image of {_rounded(sizes[0])}; are they fractions of the image? '
            'multiply them by its width and height',
            ImplausibleDataWarning,
            stacklevel=3)


def find_swapped_labels(ground_truth: GroundTruth,
                        detections: Detections) -> str:
    """Detect whether labels consistently stand for other classes.

    Boxes are matched to objects of any class (IoU .5, best scores first).
    Labels are swapped if less than a tenth of the matches have the class of
    the object, while at least two labels have at least 5 matches each, most of
    them with objects of one class, and this class differs between the labels.
    The labels of a bad detector, which are almost random or nearly all equal,
    do not satisfy this.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.

    Returns:
        str: Description of the finding, for a message; empty if labels are not
        swapped.
    """
    chosen = np.zeros(ground_truth.num_images, dtype=bool)
    # Images without objects give no information.
    with_objects = np.unique(ground_truth.image_index)
    step = max(1, -(-len(with_objects) // _MOST_IMAGES))
    chosen[with_objects[::step]] = True
    kept = chosen[detections.image_index]
    labels = detections.class_index[kept]
    if ground_truth.num_classes < 2 or not len(labels):
        return ''
    any_class = replace(
        ground_truth,
        category_ids=ground_truth.category_ids[:1],
        category_names=ground_truth.category_names[:1],
        class_index=np.zeros_like(ground_truth.class_index))
    matches = match_detections(
        any_class,
        Detections(detections.image_index[kept], np.zeros_like(labels),
                   detections.boxes[kept], detections.scores[kept]),
        iou_thr=0.5)
    labels = labels[matches.is_tp]
    classes = ground_truth.class_index[matches.object_index[matches.is_tp]]
    if len(labels) < _LEAST_MATCHES or (labels == classes).mean() >= 0.1:
        return ''
    counts = np.zeros((ground_truth.num_classes, ) * 2, dtype=np.int64)
    np.add.at(counts, (labels, classes), 1)
    best = counts.argmax(axis=1)
    total = counts.sum(axis=1)
    clear = np.flatnonzero((total >= 5) & (2 * counts.max(axis=1) > total)
                           & (best != np.arange(len(best))))
    if len(np.unique(best[clear])) < 2:
        return ''
    label = clear[np.argmax(total[clear])]
    names = ground_truth.category_names
    return (
        f'only {(labels == classes).sum()} of {len(labels)} boxes that lie on '
        f'an object have its class; e.g. {counts[label, best[label]]} of '
        f'{total[label]} boxes of {shortened(names[label])} lie on '
        f'{shortened(names[best[label]])}')


def check_labels(ground_truth: GroundTruth, detections: Detections,
                 remedy: str) -> None:
    """Raise if labels consistently stand for other classes.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        remedy (str): Advice to the user, for the message.

    Raises:
        InvalidValueError: If :func:`find_swapped_labels` detects swapped
            labels.
    """
    found = find_swapped_labels(ground_truth, detections)
    if found:
        raise InvalidValueError(
            'labels must stand for the categories of the annotations, but '
            f'{found}; {remedy}')


def _rounded(values: np.ndarray) -> list:
    return [round(value, 2) for value in values.tolist()]
