"""Conversion of objects of other libraries to detections and ground truth.

The libraries are not imported: objects are recognised by their attributes, and
tensors by their methods.
"""
import warnings
from typing import (Any, Callable, Dict, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple, TypeVar)

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError, TcalDetWarning
from ..functional import (Detections, GroundTruth, detections_from_arrays,
                          ground_truth_from_coco)
from ..functional.array_checks import number_array, without_tensor
from ..functional.coco_arrays import check_ground_truth
from ..functional.record_ids import positions
from ..plausibility import check_labels, warn_of_boxes_outside
from ..predicted_instances import predicted_instances
from ..results_file import check_each_image_once
from .image_sizes import stem_of
from .label_mapping import LabelMapping, LabelNames, map_by_name, map_by_order

_NAMES_REMEDY = 'give the names of the labels as `label_names`'
_BACKGROUND = '__background__'  # torchvision's name of label 0
_Parts = TypeVar('_Parts')


class _ImageResult(NamedTuple):
    """Result of a library for one image, as arrays or tensors."""
    boxes: Any  # x1, y1, x2, y2
    scores: Any
    labels: Any
    names: Optional[Mapping[int, str]] = None  # of the labels, if it has them


class _ImageTarget(NamedTuple):
    """Objects of one image, as arrays or tensors."""
    boxes: Any  # x1, y1, x2, y2
    labels: Any
    iscrowd: Any = None
    area: Any = None


def from_supervision(results: Sequence[Any],
                     image_ids: Sequence[Any],
                     ground_truth: GroundTruth,
                     label_names: Optional[LabelNames] = None) -> Detections:
    """Implement :meth:`Detections.from_supervision`."""
    split = _split(results, _parts_of_supervision)
    # Each object has the names of the classes of its own detections only.
    found_names: Dict[int, str] = {}
    for result in split:
        found_names.update(result.names or {})
    if label_names is None and found_names:
        mapping = map_by_name(
            found_names,
            _categories(ground_truth),
            '`class_name` of the results',
            are_all=False)
        return _joined(split, image_ids, ground_truth, mapping)
    return _joined(split, image_ids, ground_truth,
                   _mapping(label_names, ground_truth), not label_names)


def from_torchvision(results: Sequence[Mapping[str, Any]],
                     image_ids: Sequence[Any],
                     ground_truth: GroundTruth,
                     label_names: Optional[LabelNames] = None) -> Detections:
    """Implement :meth:`Detections.from_torchvision`."""
    split = _split(results, _parts_of_torchvision)
    mapping = _mapping(label_names, ground_truth)
    if label_names is None:
        ids = {
            category_id: category_id
            for category_id in ground_truth.category_ids.tolist()
            if not isinstance(category_id, str)
        }
        mapping = LabelMapping(
            ids, dict(zip(ids, ground_truth.category_names)),
            'torchvision labels are used as category ids, with 0 as '
            f'background; {_NAMES_REMEDY} if this is wrong')
    return _joined(split, image_ids, ground_truth, mapping, label_names
                   is None)


def from_ultralytics(results: Sequence[Any],
                     ground_truth: GroundTruth,
                     image_ids: Optional[Sequence[Any]] = None,
                     label_names: Optional[LabelNames] = None) -> Detections:
    """Implement :meth:`Detections.from_ultralytics`."""
    split = _split(results, _parts_of_ultralytics)
    if image_ids is None:
        image_ids = [
            _id_of_path(result, f'`results[{number}]`', ground_truth)
            for number, result in enumerate(results)
        ]
    if label_names is None and split:
        label_names = split[0].names
    return _joined(split, image_ids, ground_truth,
                   _mapping(label_names, ground_truth), not label_names)


def from_mmdetection(results: Sequence[Any],
                     ground_truth: GroundTruth,
                     image_ids: Optional[Sequence[Any]] = None,
                     label_names: Optional[LabelNames] = None) -> Detections:
    """Implement :meth:`Detections.from_mmdetection`."""
    split = _split(results, _parts_of_mmdetection)
    if image_ids is None:
        image_ids = [
            _id_of_sample(result, f'`results[{number}]`')
            for number, result in enumerate(results)
        ]
    return _joined(split, image_ids, ground_truth,
                   _mapping(label_names, ground_truth), not label_names)


def ground_truth_from_supervision(
        targets: Sequence[Any],
        image_ids: Sequence[Any],
        class_names: LabelNames,
        image_sizes: Optional[Sequence[Any]] = None) -> GroundTruth:
    """Implement :meth:`GroundTruth.from_supervision`."""
    return _joined_targets(
        _split(targets, _target_of_supervision, 'targets'), image_ids,
        class_names, image_sizes)


def ground_truth_from_torchvision(
        targets: Sequence[Mapping[str, Any]],
        image_ids: Sequence[Any],
        class_names: LabelNames,
        image_sizes: Optional[Sequence[Any]] = None) -> GroundTruth:
    """Implement :meth:`GroundTruth.from_torchvision`."""
    return _joined_targets(
        _split(targets, _target_of_torchvision, 'targets'), image_ids,
        class_names, image_sizes)


def _split(objects: Sequence[Any],
           parts: Callable[[Any, str], _Parts],
           name: str = 'results') -> List[_Parts]:
    """Split the object of each image into its parts."""
    allowed = f'`{name}` must be a list with one {name[:-1]} for each image'
    if isinstance(objects, Mapping):
        raise InvalidTypeError(
            f'{allowed}, but got a dict with the keys '
            f'{shortened(list(objects))}; for a single image pass [{name}]')
    # Some of these objects are iterable as well.
    if any(
            hasattr(objects, attribute)
            for attribute in ('xyxy', 'boxes', 'pred_instances')):
        raise InvalidTypeError(
            f'{allowed}, but got a {type(objects).__name__}; for a single '
            f'image pass [{name}]')
    if not isinstance(objects, Sequence) or isinstance(objects, str):
        raise InvalidTypeError(
            f'{allowed}, but got a {type(objects).__name__}; convert a '
            f'generator by list({name})')
    return [
        parts(one, f'`{name}[{number}]`') for number, one in enumerate(objects)
    ]


def _parts_of_supervision(result: Any, where: str) -> _ImageResult:
    boxes, scores, labels = _attributes(result, where,
                                        'a supervision.Detections',
                                        ('xyxy', 'confidence', 'class_id'))
    if not len(boxes):
        return _ImageResult(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    if scores is None or labels is None:
        raise InvalidValueError(
            f'{where} must have confidence and class_id, but '
            f'{"confidence" if scores is None else "class_id"} is None')
    data = getattr(result, 'data', None) or {}
    names = None
    if 'class_name' in data:
        names = {
            label: str(name)
            for label, name in zip(
                np.asarray(labels).tolist(), data['class_name'])
        }
    return _ImageResult(boxes, scores, labels, names)


def _parts_of_torchvision(result: Any, where: str) -> _ImageResult:
    fields = ('boxes', 'scores', 'labels')
    if not isinstance(result, Mapping) or not set(fields) <= set(result):
        raise InvalidTypeError(
            f'{where} must be a dict with boxes, scores and labels, as '
            f"torchvision's detectors give it, but got {shortened(result)}")
    return _ImageResult(*(result[field] for field in fields))


def _parts_of_ultralytics(result: Any, where: str) -> _ImageResult:
    boxes, names = _attributes(result, where, 'an ultralytics Results',
                               ('boxes', 'names'))
    if boxes is None:
        raise InvalidTypeError(
            f'{where} must have boxes, but got None; rotated boxes and '
            'classification results are not supported')
    corners, scores, labels = _attributes(boxes, f'{where}: boxes',
                                          'the boxes of one',
                                          ('xyxy', 'conf', 'cls'))
    return _ImageResult(corners, scores, labels, names)


def _parts_of_mmdetection(result: Any, where: str) -> _ImageResult:
    instances, = _attributes(result, where, 'an mmdet DetDataSample',
                             ('pred_instances', ))
    return _ImageResult(
        *_attributes(instances, f'{where}: pred_instances',
                     'those of a detector', ('bboxes', 'scores', 'labels')))


def _target_of_supervision(target: Any, where: str) -> _ImageTarget:
    boxes, labels = _attributes(target, where, 'a supervision.Detections',
                                ('xyxy', 'class_id'))
    if not len(boxes):
        return _ImageTarget(np.zeros((0, 4)), np.zeros(0, int))
    if labels is None:
        raise InvalidValueError(
            f'{where} must have class_id, but class_id is None')
    return _ImageTarget(boxes, labels)


def _target_of_torchvision(target: Any, where: str) -> _ImageTarget:
    if not isinstance(target, Mapping) or not {'boxes', 'labels'
                                               } <= set(target):
        raise InvalidTypeError(
            f'{where} must be a dict with boxes and labels, as detectors of '
            f'torchvision are trained with, but got {shortened(target)}')
    return _ImageTarget(target['boxes'], target['labels'],
                        target.get('iscrowd'), target.get('area'))


def _attributes(value: Any, where: str, kind: str,
                names: Tuple[str, ...]) -> List[Any]:
    missing = [name for name in names if not hasattr(value, name)]
    if missing:
        raise InvalidTypeError(
            f'{where} must be {kind}, with {", ".join(names)}, but got a '
            f'{type(value).__name__} without {missing[0]}')
    return [getattr(value, name) for name in names]


def _id_of_path(result: Any, where: str, ground_truth: GroundTruth) -> Any:
    """Get the image id from the file name, as Ultralytics does."""
    check_ground_truth(ground_truth)
    path = getattr(result, 'path', None)
    if not path:
        raise InvalidValueError(
            f'{where} must have a path, which identifies the image, but has '
            'none; give `image_ids`')
    stem = stem_of(str(path))
    are_texts = any(
        isinstance(image_id, str)
        for image_id in ground_truth.image_ids[:1].tolist())
    return stem if are_texts or not stem.isdecimal() else int(stem)


def _id_of_sample(result: Any, where: str) -> Any:
    if getattr(result, 'img_id', None) is None:
        raise InvalidValueError(
            f'{where} must have an img_id, which identifies the image, but '
            'has none; give `image_ids`')
    return result.img_id


def _categories(ground_truth: GroundTruth) -> List[Dict[str, Any]]:
    check_ground_truth(ground_truth)
    return [
        dict(id=category_id, name=name) for category_id, name in zip(
            ground_truth.category_ids.tolist(), ground_truth.category_names)
    ]


def _mapping(label_names: Optional[LabelNames],
             ground_truth: GroundTruth) -> LabelMapping:
    """Map labels by name if there are names, else by order."""
    if label_names:
        return map_by_name(label_names, _categories(ground_truth))
    mapping = map_by_order(_categories(ground_truth))
    return mapping._replace(remedy=f'{mapping.remedy}; {_NAMES_REMEDY}')


def _joined(split: Sequence[_ImageResult],
            image_ids: Sequence[Any],
            ground_truth: GroundTruth,
            mapping: LabelMapping,
            is_guess: bool = False) -> Detections:
    """Check the results of all images and join them.

    Args:
        split (Sequence[_ImageResult]): Result of each image.
        image_ids (Sequence[Any]): Image id of each result, in order.
        ground_truth (GroundTruth): Images and classes that the detections
            refer to.
        mapping (LabelMapping): Mapping from labels to categories.
        is_guess (bool): Whether the mapping does not use names. Defaults to
            False.
    """
    image_ids = _checked_ids(len(split), image_ids, ground_truth)
    columns: List[List[Any]] = [[], [], [], []]
    left_out: List[int] = []
    for number, (image_id, result) in enumerate(zip(image_ids, split)):
        where = f'`results[{number}]` (image {shortened(image_id)})'
        found = predicted_instances(
            dict(
                bboxes=_numbers(result.boxes, where, 'boxes'),
                scores=_numbers(result.scores, where, 'scores'),
                labels=_as_integers(_numbers(result.labels, where, 'labels'))),
            where)
        for box, score, label in zip(*(part.tolist() for part in found)):
            category_id = mapping.category_of(label, where)
            if category_id is None:
                left_out.append(label)
                continue
            for column, value in zip(columns,
                                     (image_id, category_id, box, score)):
                column.append(value)
    mapping.warn_of_left_out(left_out)
    ids, category_ids, boxes, scores = columns
    detections = detections_from_arrays(ids, category_ids, boxes, scores,
                                        ground_truth)
    if is_guess:
        check_labels(ground_truth, detections, _NAMES_REMEDY)
    warn_of_boxes_outside(ground_truth, detections, 'results')
    return detections


def _joined_targets(split: Sequence[_ImageTarget], image_ids: Sequence[Any],
                    class_names: LabelNames,
                    image_sizes: Optional[Sequence[Any]]) -> GroundTruth:
    """Check the objects of all images and join them.

    Args:
        split (Sequence[_ImageTarget]): Objects of each image.
        image_ids (Sequence[Any]): Image id of each target, in order.
        class_names (LabelNames): Name of each label.
        image_sizes (Sequence[Any], optional): Width and height of each image.
    """
    _check_image_ids('targets', len(split), image_ids)
    image_ids = np.asarray(without_tensor(image_ids), dtype=object).tolist()
    images = [dict(id=image_id) for image_id in image_ids]
    if image_sizes is not None:
        sizes = _numbers(image_sizes, 'ground truth', '`image_sizes`')
        if sizes.shape != (len(images), 2):
            raise InvalidValueError(
                f'`image_sizes` must have the shape ({len(images)}, 2), width '
                f'and height of each image, but got {sizes.shape}')
        for image, (width, height) in zip(images, sizes.tolist()):
            image.update(width=width, height=height)
    if not isinstance(class_names, Mapping):
        if isinstance(class_names,
                      str) or not isinstance(class_names, Sequence):
            raise InvalidTypeError(
                '`class_names` must be a list of the names of the labels, or '
                f'a dict of them, but got {shortened(class_names)}')
        class_names = dict(enumerate(class_names))
    names = {
        label: name
        for label, name in class_names.items() if name != _BACKGROUND
    }
    annotations = [
        dict(annotation, image_id=image_id)
        for number, (image_id, target) in enumerate(zip(image_ids, split))
        for annotation in _annotations(
            target, names,
            f'`targets[{number}]` (image {shortened(image_id)})')
    ]
    return ground_truth_from_coco(
        dict(
            images=images,
            categories=[
                dict(id=label, name=name) for label, name in names.items()
            ],
            annotations=annotations))


def _annotations(target: _ImageTarget, names: Mapping[int, str],
                 where: str) -> List[Dict[str, Any]]:
    """Convert the objects of one image to COCO annotations."""
    boxes = _numbers(target.boxes, where, 'boxes')
    labels = _as_integers(_numbers(target.labels, where, 'labels'))
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    if boxes.shape[1:] != (4, ) or labels.shape != (len(boxes), ):
        raise InvalidValueError(
            f'{where}: boxes and labels must have the shapes (N, 4) and (N,), '
            f'but got {boxes.shape} and {labels.shape}')
    found = predicted_instances(
        dict(bboxes=boxes, scores=np.ones(len(boxes)), labels=labels), where)
    columns = dict(bbox=found.boxes, category_id=found.labels)
    for field in ('iscrowd', 'area'):
        values = getattr(target, field)
        if values is not None:
            columns[field] = np.asarray(without_tensor(values))
            if columns[field].shape != (len(boxes), ):
                raise InvalidValueError(
                    f'{where}: {field} must have the shape ({len(boxes)},), '
                    f'one for each box, but got {columns[field].shape}')
    for label in found.labels.tolist():
        if label not in names:
            raise InvalidValueError(
                f'{where}: label must be one of those in `class_names` '
                f'({shortened(dict(names))}), but got {label}')
    return [
        dict(zip(columns, row))
        for row in zip(*(column.tolist() for column in columns.values()))
    ]


def _check_image_ids(name: str, length: int, image_ids: Sequence[Any]) -> None:
    if length != len(image_ids):
        raise InvalidValueError(
            f'`{name}` and `image_ids` must have the same length, but got '
            f'{length} and {len(image_ids)}')


def _checked_ids(num_results: int, image_ids: Sequence[Any],
                 ground_truth: GroundTruth) -> List[Any]:
    _check_image_ids('results', num_results, image_ids)
    ids: List[Any] = np.asarray(
        without_tensor(image_ids), dtype=object).tolist()
    positions(ids, ground_truth.image_ids, 'image_ids', 'image_id')
    check_each_image_once(ids, 'image_ids')
    if num_results < ground_truth.num_images:
        warnings.warn(
            f'the results are of {num_results} of the '
            f'{ground_truth.num_images} images of the annotations; objects in '
            'the others count as missed',
            TcalDetWarning,
            stacklevel=4)
    return ids


def _numbers(values: Any, where: str, name: str) -> np.ndarray:
    """Convert an array, or a tensor on any device, to an array."""
    try:
        return number_array(values)
    except (TypeError, ValueError, RuntimeError, OverflowError,
            AttributeError):
        raise InvalidTypeError(
            f'{where}: {name} must be an array or tensor of numbers, but got '
            f'{shortened(values)}') from None


def _as_integers(labels: np.ndarray) -> np.ndarray:
    """Convert whole floats to integers, as Ultralytics returns such labels."""
    if labels.dtype.kind == 'f' and (labels == np.floor(labels)).all():
        return labels.astype(np.int64)
    return labels
