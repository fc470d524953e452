"""COCO-style records turned into checked flat arrays.

This is the one place where input records are checked; what comes after may
rely on it. Image and category ids become indices into sorted lists of ids,
so that their values (unsorted, 0, text) have no influence.

Shape shorthand:
    I: images
    K: classes
    G: objects of the ground truth
    D: detections
"""
from dataclasses import dataclass
from itertools import chain
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tcal_det.errors import InvalidTypeError, InvalidValueError


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Images, classes and objects, in file order.

    Attributes:
        image_ids (ndarray): Sorted, shape (I,).
        image_sizes (ndarray): Width and height of each image, NaN where the
            file has none, shape (I, 2).
        category_ids (ndarray): Sorted, shape (K,).
        category_names (Tuple[str, ...]): In the order of ``category_ids``.
        image_index (ndarray): Image of each object, shape (G,).
        class_index (ndarray): Class of each object, shape (G,).
        boxes (ndarray): x, y, width, height; float64, shape (G, 4).
        iscrowd (ndarray): Boolean, shape (G,).
    """
    image_ids: np.ndarray
    image_sizes: np.ndarray
    category_ids: np.ndarray
    category_names: Tuple[str, ...]
    image_index: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    iscrowd: np.ndarray

    @property
    def num_images(self) -> int:
        """Number of images I."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.category_ids)

    @property
    def num_objects(self) -> np.ndarray:
        """Objects to be found, crowds not among them, shape (K,)."""
        return np.bincount(
            self.class_index[~self.iscrowd], minlength=self.num_classes)


@dataclass(frozen=True, eq=False)
class Detections:
    """Scored boxes, in file order.

    Attributes:
        image_index (ndarray): Image of each detection, shape (D,).
        class_index (ndarray): Class of each detection, shape (D,).
        boxes (ndarray): x, y, width, height; float64, shape (D, 4).
        scores (ndarray): In [0, 1], float64, shape (D,).
    """
    image_index: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def ground_truth_from_coco(
        annotations: Mapping[str, Any],
        image_ids: Optional[Sequence[Any]] = None,
        category_ids: Optional[Sequence[Any]] = None) -> GroundTruth:
    """Check the content of a COCO annotation file and make arrays of it.

    As in COCOeval, ``"ignore"`` of an annotation has no effect, and
    annotation ids are not used, so that they may be missing or 0.

    Args:
        annotations (Mapping[str, Any]): With lists 'images', 'categories'
            and 'annotations'.
        image_ids (Sequence[Any], optional): Evaluate these images only.
            Defaults to None, which means all.
        category_ids (Sequence[Any], optional): Evaluate these classes only.
            Defaults to None, which means all.

    Returns:
        GroundTruth: The arrays; records are in file order.

    Raises:
        InvalidTypeError: If the file has another form, or a value is not a
            number.
        InvalidValueError: If a record names an unknown image or category,
            or has a NaN or negative size; the message names the record.
    """
    if not isinstance(annotations, Mapping):
        raise InvalidTypeError(
            '`annotations` must be a dict with `images`, `categories` and '
            f'`annotations`, but got {type(annotations).__name__}; results '
            'are the other argument')
    for key in ('images', 'categories', 'annotations'):
        if not isinstance(annotations.get(key), (list, tuple)):
            raise InvalidValueError(
                f'`annotations` must have a list `{key}`, but got the keys '
                f'{sorted(map(str, annotations))}')
    images = annotations['images']
    categories = annotations['categories']
    objects = annotations['annotations']

    ids_of_images = _column(images, 'images', 'id')
    ids_of_categories = _column(categories, 'categories', 'id')
    known_images = _sorted_ids(ids_of_images, 'images')
    known_categories = _sorted_ids(ids_of_categories, 'categories')
    kept_images = _subset(image_ids, known_images, 'image_ids')
    kept_categories = _subset(category_ids, known_categories, 'category_ids')

    sizes = np.zeros((len(known_images), 2))
    sizes[_positions(ids_of_images, known_images, 'images', 'id')] = (
        _image_sizes(images))
    names = [''] * len(known_categories)
    for category, row in zip(
            categories,
            _positions(ids_of_categories, known_categories, 'categories',
                       'id')):
        names[row] = str(category.get('name', category['id']))

    image_index = _positions(
        _column(objects, 'annotations', 'image_id'), known_images,
        'annotations', 'image_id')
    class_index = _positions(
        _column(objects, 'annotations', 'category_id'), known_categories,
        'annotations', 'category_id')
    boxes = _box_array(_column(objects, 'annotations', 'bbox'), 'annotations')
    _check_boxes(boxes, 'annotations')
    iscrowd = np.array([bool(record.get('iscrowd', 0)) for record in objects],
                       dtype=bool)

    kept = (kept_images[image_index] & kept_categories[class_index])
    return GroundTruth(
        image_ids=known_images[kept_images],
        image_sizes=sizes[kept_images],
        category_ids=known_categories[kept_categories],
        category_names=tuple(name
                             for name, kept_one in zip(names, kept_categories)
                             if kept_one),
        image_index=_renumbered(kept_images, image_index[kept]),
        class_index=_renumbered(kept_categories, class_index[kept]),
        boxes=boxes[kept],
        iscrowd=iscrowd[kept])


def detections_from_coco(results: Sequence[Mapping[str, Any]],
                         ground_truth: GroundTruth) -> Detections:
    """Check the content of a COCO results file and make arrays of it.

    Args:
        results (Sequence[Mapping[str, Any]]): Records with 'image_id',
            'category_id', 'bbox' (x, y, width, height) and 'score'.
        ground_truth (GroundTruth): Whose images and classes they refer to.

    Returns:
        Detections: The arrays, in file order; empty for an empty list.

    Raises:
        InvalidTypeError: If the list has another form, or a value is not a
            number.
        InvalidValueError: If a record names an unknown image or category,
            lacks a field, or has a score or size that is out of range; the
            message names the record.
    """
    if not isinstance(results, (list, tuple)):
        raise InvalidTypeError('`results` must be a list of records, but '
                               f'got {type(results).__name__}')
    return detections_from_arrays(
        _column(results, 'results', 'image_id'),
        _column(results, 'results', 'category_id'),
        _column(results, 'results', 'bbox'),
        _column(results, 'results', 'score'), ground_truth)


def detections_from_arrays(image_ids: Sequence[Any],
                           category_ids: Sequence[Any],
                           boxes: Sequence[Sequence[float]],
                           scores: Sequence[float],
                           ground_truth: GroundTruth) -> Detections:
    """As :func:`detections_from_coco`, from one column for each field.

    Args:
        image_ids (Sequence[Any]): Shape (D,).
        category_ids (Sequence[Any]): Shape (D,).
        boxes (Sequence[Sequence[float]]): x, y, width, height, shape
            (D, 4).
        scores (Sequence[float]): In [0, 1], shape (D,).
        ground_truth (GroundTruth): Whose images and classes they refer to.

    Returns:
        Detections: The arrays, in the given order.

    Raises:
        InvalidTypeError: If a value is not a number.
        InvalidValueError: If lengths differ, or a value is unknown or out
            of range; the message names the record.
    """
    lengths = (len(image_ids), len(category_ids), len(boxes), len(scores))
    if len(set(lengths)) > 1:
        raise InvalidValueError(
            '`image_ids`, `category_ids`, `boxes` and `scores` must have the '
            f'same length, but got {lengths}')
    image_index = _positions(image_ids, ground_truth.image_ids, 'results',
                             'image_id')
    class_index = _positions(category_ids, ground_truth.category_ids,
                             'results', 'category_id')
    boxes = _box_array(boxes, 'results')
    _check_boxes(boxes, 'results')
    scores = _float_column(scores, 'results', 'score')
    # The comparison is written so that NaN fails it.
    bad = ~((scores >= 0) & (scores <= 1))
    if bad.any():
        record = int(np.argmax(bad))
        raise InvalidValueError(
            f'`results[{record}]`: `score` must be in [0, 1], but got '
            f'{scores[record]}; write probabilities, not logits or per cent')
    return Detections(image_index, class_index, boxes, scores)


def _column(records: Sequence[Mapping[str, Any]], list_name: str,
            field: str) -> List[Any]:
    """One field of all records."""
    try:
        return [record[field] for record in records]
    except (KeyError, TypeError, IndexError):
        pass
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InvalidTypeError(
                f'`{list_name}[{number}]` must be a dict, but got '
                f'{_shortened(record)}')
        if field not in record:
            raise InvalidValueError(
                f'`{list_name}[{number}]` must have `{field}`, but got the '
                f'keys {sorted(map(str, record))}')
    raise InvalidTypeError(  # pragma: no cover (a mapping with odd keys)
        f'`{list_name}` must be a list of dicts')


def _sorted_ids(ids: Sequence[Any], list_name: str) -> np.ndarray:
    """The ids of images or categories, sorted and found to be unique."""
    array = _as_ids(ids)
    if array is None:
        raise InvalidTypeError(f'`{list_name}` must have ids that are all '
                               'whole numbers or all texts, but got a mix '
                               f'such as {_shortened(ids[:3])}')
    unique, count = np.unique(array, return_counts=True)
    if (count > 1).any():
        repeated = unique[np.argmax(count > 1)]
        raise InvalidValueError(f'`{list_name}` must have unique ids, but '
                                f'got {repeated} {count.max()} times')
    return unique


def _as_ids(ids: Sequence[Any]) -> Optional[np.ndarray]:
    """An array of whole numbers or of texts; None if it is neither."""
    if len(ids) == 0:
        return np.zeros(0, dtype=np.int64)
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of unequal length
        return None
    if array.ndim != 1 or array.dtype.kind not in 'iufU':
        return None
    # numpy writes a list of numbers and texts as texts: not what it was.
    if array.dtype.kind == 'U' and not all(isinstance(i, str) for i in ids):
        return None
    # Other writers store 7 as 7.0: the same id.
    if array.dtype.kind == 'f':
        with np.errstate(invalid='ignore'):  # NaN is no id
            whole = array.astype(np.int64)
        return whole if (whole == array).all() else None
    return array


def _positions(ids: Sequence[Any], known: np.ndarray, list_name: str,
               field: str) -> np.ndarray:
    """Index of each id in the sorted ids that are known."""
    if len(ids) == 0:
        return np.zeros(0, dtype=np.int64)
    array = _as_ids(ids)
    same_kind = array is not None and (array.dtype.kind == 'U') == (
        known.dtype.kind == 'U')
    if same_kind and len(known):
        index = np.searchsorted(known, array)
        index[index == len(known)] = 0
        bad = known[index] != array
        if not bad.any():
            return index
        record = int(np.argmax(bad))
    else:
        known_set = set(known.tolist())
        record = next(
            (number
             for number, key in enumerate(ids) if not _is_in(key, known_set)),
            0)
    given = ids[record]
    given = given.item() if isinstance(given, np.generic) else given
    of_what = 'category' if field == 'category_id' else 'image'
    raise InvalidValueError(
        f'`{list_name}[{record}]`: `{field}` must be one of the {len(known)} '
        f'{of_what} ids of the annotations (such as '
        f'{_shortened(known[:3].tolist())}), but got {_shortened(given)}; '
        'were both files made from the same data set and split?')


def _is_in(key: Any, known: set) -> bool:
    try:
        return key in known
    except TypeError:  # unhashable
        return False


def _subset(wanted: Optional[Sequence[Any]], known: np.ndarray,
            name: str) -> np.ndarray:
    """Mask of the known ids that are wanted, shape of ``known``."""
    if wanted is None:
        return np.ones(len(known), dtype=bool)
    field = 'category_id' if name == 'category_ids' else 'image_id'
    mask = np.zeros(len(known), dtype=bool)
    mask[_positions(wanted, known, name, field)] = True
    return mask


def _renumbered(kept: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Indices among the kept ones instead of among all."""
    return (np.cumsum(kept) - 1)[index]


def _float_column(values: Sequence[float], list_name: str,
                  field: str) -> np.ndarray:
    """One number per record, float64, shape (len(values),)."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal length
        array = np.zeros(0, dtype=object)
    if len(values) == 0 or (array.ndim == 1 and array.dtype.kind in 'iuf'):
        return array.astype(np.float64)
    for record, value in enumerate(values):
        if not _is_numbers((value, )):
            raise InvalidTypeError(
                f'`{list_name}[{record}]`: `{field}` must be a number, but '
                f'got {_shortened(value)}')
    raise InvalidTypeError(  # pragma: no cover (each was a number)
        f'`{list_name}`: `{field}` must be a number')


def _image_sizes(images: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Width and height, NaN where a record has none, shape (I, 2).

    Only the box position and size features need them, so a file without is
    no mistake.
    """
    sizes = np.full((len(images), 2), np.nan)
    for row, image in enumerate(images):
        size = (image.get('width'), image.get('height'))
        if _is_numbers(size) and min(size) > 0:
            sizes[row] = size
    return sizes


def _box_array(rows: Sequence[Sequence[float]], list_name: str) -> np.ndarray:
    """A box per record, float64, shape (len(rows), 4)."""
    if isinstance(rows, np.ndarray) and rows.dtype.kind in 'iuf':
        if rows.ndim == 2 and rows.shape[1] == 4:
            return rows.astype(np.float64)
    elif len(rows) == 0:
        return np.zeros((0, 4))
    else:
        try:
            if set(map(len, rows)) == {4}:
                # Twice as fast as np.array(rows) on half a million boxes.
                flat = np.fromiter(
                    chain.from_iterable(rows), np.float64, 4 * len(rows))
                return flat.reshape(-1, 4)
        except (TypeError, ValueError):
            pass
    for record, row in enumerate(rows):
        if not _is_numbers(row) or len(row) != 4:
            raise InvalidTypeError(
                f'`{list_name}[{record}]`: `bbox` must be 4 finite '
                f'numbers (x, y, width, height), but got {_shortened(row)}')
    raise InvalidTypeError(  # pragma: no cover (each row was right)
        f'`{list_name}`: `bbox` must be 4 finite numbers')


def _is_numbers(values: Sequence[Any]) -> bool:
    try:
        return all(
            isinstance(value, (int, float, np.integer, np.floating))
            for value in values)
    except TypeError:
        return False


def _check_boxes(boxes: np.ndarray, list_name: str) -> None:
    bad = ~np.isfinite(boxes).all(axis=1)
    if bad.any():
        record = int(np.argmax(bad))
        raise InvalidValueError(
            f'`{list_name}[{record}]`: `bbox` must be 4 finite numbers '
            f'(x, y, width, height), but got {boxes[record].tolist()}')
    bad = (boxes[:, 2:] < 0).any(axis=1)
    if bad.any():
        record = int(np.argmax(bad))
        raise InvalidValueError(
            f'`{list_name}[{record}]`: `bbox` must have width and height '
            f'>= 0, but got {boxes[record].tolist()}; is it written as '
            'x1, y1, x2, y2 instead of x, y, width, height?')


def _shortened(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + '...'
