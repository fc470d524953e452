"""Figures of the images with the same value of an attribute.

An attribute assigns a text, a number or a boolean to each image, such as
weather, camera, day or night. It is a field of the image records in the
annotation file, or a separate mapping. Images without a value form a separate
slice with value None, so that no image is left out silently.
"""
import math
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tcal_det.checks import check_finite, shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .functional import Detections, GroundTruth, evaluate_detections
from .functional.coco_arrays import check_detections, check_ground_truth
from .results_file import read_json

# A table with more rows is not readable. For example, the field `file_name`
# has a different value for each image.
MOST_SLICES = 50


@dataclass(frozen=True, eq=False)
class ImageSlice:
    """Images with one value of the attribute.

    Attributes:
        value (str | float | bool, optional): Value of the attribute; with
            edges, the range as a text, such as '(10, 20]'. None for images
            without a value.
        ground_truth (GroundTruth): The images and their objects, with all
            classes.
        detections (Sequence[Detections]): Detections on the images, one entry
            for each given set.
    """
    value: Any
    ground_truth: GroundTruth
    detections: Sequence[Detections]

    @property
    def counts(self) -> Dict[str, int]:
        """Numbers of images, objects and classes that have objects."""
        num_objects = self.ground_truth.num_objects
        return dict(
            images=self.ground_truth.num_images,
            objects=int(num_objects.sum()),
            classes_with_objects=int((num_objects > 0).sum()))


@dataclass(frozen=True)
class SliceRow:
    """Figures of the images with one value of the attribute.

    Attributes:
        value (str | float | bool, optional): Value of the attribute, see
            :class:`ImageSlice`.
        images (int): Number of images.
        objects (int): Number of objects without crowds.
        classes_with_objects (int): Number of classes that have objects; means
            over classes use only these.
        detections (int): Number of detections.
        figures (dict[str, float]): ``overall`` of
            :func:`evaluate_detections`; NaN where undefined.
    """
    value: Any
    images: int
    objects: int
    classes_with_objects: int
    detections: int
    figures: Dict[str, float]


def slice_by(attribute: Mapping[Any, Any],
             ground_truth: GroundTruth,
             detections: Detections,
             edges: Optional[Sequence[float]] = None,
             **options: Any) -> List[SliceRow]:
    """Evaluate the images of each value of an attribute separately.

    Args:
        attribute (Mapping): Value of each image id, from
            :func:`image_attribute` or :func:`attribute_from_file`. Images
            without a value have None or no entry.
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        edges (Sequence[float], optional): Ascending bounds of the ranges of a
            number: up to the first edge, above the first up to the second,
            ..., above the last. Defaults to None, which means one row for each
            value.
        **options: Options of the evaluation, see :class:`EvaluationOptions`. A
            threshold 'lrp_optimal' is chosen separately in each slice.

    Returns:
        list[SliceRow]: Figures in ascending order of the value; images without
        a value last.

    Raises:
        InvalidTypeError: If a value or an edge has the wrong type.
        InvalidValueError: If there are more than 50 values, or an option is
            out of range.
    """
    rows = []
    for part in image_slices(attribute, ground_truth, [detections], edges):
        figures = evaluate_detections(part.ground_truth, part.detections[0],
                                      **options).overall
        rows.append(
            SliceRow(
                part.value,
                detections=len(part.detections[0]),
                figures=figures,
                **part.counts))
    return rows


def image_slices(attribute: Mapping[Any, Any],
                 ground_truth: GroundTruth,
                 detections: Sequence[Detections],
                 edges: Optional[Sequence[float]] = None) -> List[ImageSlice]:
    """Sort the images into slices by their value.

    Args:
        attribute (Mapping): Value of each image id.
        ground_truth (GroundTruth): Annotated objects.
        detections (Sequence[Detections]): Several sets of detections on the
            same images and classes.
        edges (Sequence[float], optional): Ascending bounds of the ranges of a
            number, see :func:`slice_by`. Defaults to None, which means one
            slice for each value.

    Returns:
        list[ImageSlice]: Slices in ascending order of the value; images
        without a value last.
    """
    check_ground_truth(ground_truth)
    for one in detections:
        check_detections(one)
    values = _checked_values(attribute, ground_truth.image_ids.tolist())
    if edges is not None:
        values, names = _ranges(values, edges)
    else:
        names = sorted(set(values) - {None})
        if len(names) > MOST_SLICES:
            raise InvalidValueError(
                f'the attribute must have at most {MOST_SLICES} values, but '
                f'has {len(names)}, such as {shortened(names[0])}; numbers '
                'can be sorted into ranges by `edges`')
    parts = []
    for name in (*names, None):
        is_chosen = np.array([value == name for value in values], dtype=bool)
        if is_chosen.any():
            parts.append(
                ImageSlice(name, *_select(is_chosen, ground_truth,
                                          detections)))
    return parts


def image_attribute(annotations: Mapping[str, Any],
                    field: str) -> Dict[Any, Any]:
    """Get an attribute that is a field of the image records.

    Args:
        annotations (Mapping[str, Any]): Content of a COCO annotation file,
            checked by :func:`ground_truth_from_coco`.
        field (str): Name of the field.

    Returns:
        dict[Any, Any]: Value of each image id; None for a record without the
        field.

    Raises:
        InvalidValueError: If no record has the field; the message lists the
            existing fields.
    """
    images = annotations['images']
    known = sorted({str(key) for image in images for key in image})
    if field not in known:
        raise InvalidValueError(
            'the attribute must be a field of the image records '
            f'({", ".join(known)}) or a .json file, but got {field!r}')
    return {image['id']: image.get(field) for image in images}


def attribute_from_file(path: str,
                        annotations: Mapping[str, Any]) -> Dict[Any, Any]:
    """Read an attribute from a JSON file {file name or id: value}.

    Entries of other images have no effect, so that one file can be used for
    several splits.

    Args:
        path (str): Path to the JSON file.
        annotations (Mapping[str, Any]): Content of a COCO annotation file,
            checked by :func:`ground_truth_from_coco`.

    Returns:
        dict[Any, Any]: Value of each image id that the file names.

    Raises:
        MissingFileError: If there is no such file.
        InvalidTypeError: If it does not hold a JSON object.
        InvalidValueError: If it names none of the images, or one of them
            twice.
    """
    content = read_json(path, 'attribute')
    if not isinstance(content, dict):
        raise InvalidTypeError(
            f'attribute {path!r} must hold an object {{image file name or '
            f'id: value}}, but holds a {type(content).__name__}')
    attribute = {}
    for image in annotations['images']:
        keys = {str(image['id']), str(image.get('file_name'))} & set(content)
        if len(keys) > 1:
            raise InvalidValueError(
                f'attribute {path!r} must name an image once, by its file '
                f'name or by its id, but has both {sorted(keys)}')
        for key in keys:
            attribute[image['id']] = content[key]
    if content and not attribute:
        raise InvalidValueError(
            f'attribute {path!r} must have file names or ids of the images '
            f'as keys, but has {shortened(list(content)[:3])}')
    return attribute


def _checked_values(attribute: Mapping[Any, Any],
                    image_ids: Sequence[Any]) -> List[Any]:
    """Get the value of each image, all of one type; None if there is none."""
    if attribute and not any(image_id in attribute for image_id in image_ids):
        raise InvalidValueError(
            'the attribute must have values for ids of the images (such as '
            f'{shortened(image_ids[:3])}), but has them for '
            f'{shortened(list(attribute)[:3])}')
    values, first = [], None
    for image_id in image_ids:
        value = attribute.get(image_id)
        values.append(value)
        if value is None:
            continue
        kind = _kind(value)
        if kind is None:
            raise InvalidTypeError(
                'the attribute must have texts, finite numbers or booleans '
                f'as values, but has {shortened(value)} for image '
                f'{shortened(image_id)}')
        first = first or (kind, image_id)
        if kind != first[0]:
            raise InvalidTypeError(
                'the attribute must have values of one kind, but has a '
                f'{first[0]} for image {shortened(first[1])} and a {kind} '
                f'for image {shortened(image_id)}')
    return values


def _kind(value: Any) -> Optional[str]:
    if isinstance(value, str):
        return 'text'
    if isinstance(value, (bool, np.bool_)):
        return 'boolean'
    if isinstance(value, Real) and math.isfinite(value):
        return 'number'
    return None


def _ranges(values: Sequence[Any],
            edges: Sequence[float]) -> Tuple[List[Optional[str]], List[str]]:
    """Find the range of each value; also return all ranges in order."""
    edges = [check_finite('edges', edge) for edge in edges]
    if not edges or np.any(np.diff(edges) <= 0):
        raise InvalidValueError(
            f'`edges` must be numbers in ascending order, but got {edges}')
    given = [value for value in values if value is not None]
    if given and _kind(given[0]) != 'number':
        raise InvalidTypeError(
            '`edges` are for attributes that are numbers, but got the value '
            f'{shortened(given[0])}')
    names = [
        f'<= {edges[0]:.12g}',
        *(f'({low:.12g}, {high:.12g}]' for low, high in zip(edges, edges[1:])),
        f'> {edges[-1]:.12g}'
    ]
    return [
        None if value is None else names[np.searchsorted(edges, value)]
        for value in values
    ], names


def _select(
        is_chosen: np.ndarray, ground_truth: GroundTruth,
        detections: Sequence[Detections]
) -> Tuple[GroundTruth, List[Detections]]:
    """Select the data of the chosen images, shape (I,), with all classes."""
    new_index = np.cumsum(is_chosen) - 1
    is_kept = is_chosen[ground_truth.image_index]
    selected = [
        _kept_detections(detection_set, is_chosen[detection_set.image_index],
                         new_index) for detection_set in detections
    ]
    return replace(
        ground_truth,
        image_ids=ground_truth.image_ids[is_chosen],
        image_sizes=ground_truth.image_sizes[is_chosen],
        image_index=new_index[ground_truth.image_index[is_kept]],
        class_index=ground_truth.class_index[is_kept],
        boxes=ground_truth.boxes[is_kept],
        iscrowd=ground_truth.iscrowd[is_kept],
        area=ground_truth.area[is_kept]), selected


def _kept_detections(detections: Detections, is_kept: np.ndarray,
                     new_index: np.ndarray) -> Detections:
    # All fields have one row for each detection.
    columns = {
        field.name: getattr(detections, field.name)
        for field in fields(detections)
    }
    kept = Detections(
        **{  # type: ignore[arg-type]  # None where it may be
            name: None if column is None else column[is_kept]
            for name, column in columns.items()
        })
    return replace(kept, image_index=new_index[kept.image_index])
