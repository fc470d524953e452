"""Conversion of COCO-style records to checked flat arrays.

Input records are checked only here; all later code relies on this check, so it
cannot be switched off. Image and category ids become indices into sorted lists
of ids, so that their values (unsorted, 0, text) have no influence.

Shapes:
    I: images
    K: classes
    G: objects of the ground truth
    D: detections
"""
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from tcal_det.checks import check_type, shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .record_fields import (box_array, crowd_flags, field_column, image_sizes,
                            object_areas, score_column)
from .record_ids import positions, sorted_ids, subset_mask


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Images, classes and objects, in file order.

    Attributes:
        image_ids (ndarray): Sorted image ids, shape (I,).
        image_sizes (ndarray): Width and height of each image, NaN where the
            file has none, shape (I, 2).
        category_ids (ndarray): Sorted category ids, shape (K,).
        category_names (tuple[str, ...]): Category names, in the order of
            ``category_ids``.
        image_index (ndarray): Image of each object, shape (G,).
        class_index (ndarray): Class of each object, shape (G,).
        boxes (ndarray): Boxes as x, y, width, height; float64, shape (G, 4).
        iscrowd (ndarray): Whether each object is a crowd, boolean, shape (G,).
        area (ndarray, optional): Area in square pixels, by which COCO's AP
            separates small, medium and large objects; in COCO it is the area
            of the mask. Float64, shape (G,). Defaults to None, which means
            width times height.
    """
    image_ids: np.ndarray
    image_sizes: np.ndarray
    category_ids: np.ndarray
    category_names: Tuple[str, ...]
    image_index: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    iscrowd: np.ndarray
    area: np.ndarray = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.area is None:
            object.__setattr__(self, 'area',
                               self.boxes[:, 2] * self.boxes[:, 3])

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
        """Number of objects of each class without crowds, shape (K,)."""
        return np.bincount(
            self.class_index[~self.iscrowd], minlength=self.num_classes)

    # The next two methods, and those of Detections, read objects of other
    # libraries without importing these libraries. Their code is in a module
    # that the rest of this package does not need.

    @classmethod
    def from_supervision(
            cls,
            targets: Sequence[Any],
            image_ids: Sequence[Any],
            class_names: Union[Sequence[str], Mapping[int, str]],
            image_sizes: Optional[Sequence[Any]] = None) -> 'GroundTruth':
        """Convert ``supervision.Detections`` that hold annotated objects.

        Args:
            targets (Sequence[Any]): Objects of each image, with ``xyxy`` and
                ``class_id``.
            image_ids (Sequence[Any]): Image id of each target.
            class_names (Sequence[str] | Mapping[int, str]): Name of each
                label, such as ``classes`` of a ``DetectionDataset``.
            image_sizes (Sequence[Any], optional): Width and height of each
                image, shape (I, 2). Defaults to None; figures that depend on
                the box position are then undefined.

        Returns:
            GroundTruth: Objects in the order of the targets; the labels are
            the category ids.

        Raises:
            InvalidTypeError: If an object has another type.
            InvalidValueError: If an image occurs twice, a label has no name,
                or a value is out of range.
        """
        from ..formats.python_objects import ground_truth_from_supervision
        return ground_truth_from_supervision(targets, image_ids, class_names,
                                             image_sizes)

    @classmethod
    def from_torchvision(
            cls,
            targets: Sequence[Mapping[str, Any]],
            image_ids: Sequence[Any],
            class_names: Union[Sequence[str], Mapping[int, str]],
            image_sizes: Optional[Sequence[Any]] = None) -> 'GroundTruth':
        """Convert the dicts with which detectors of torchvision are trained.

        Args:
            targets (Sequence[Mapping[str, Any]]): One dict for each image,
                with 'boxes' (x1, y1, x2, y2, shape (N, 4)), 'labels' (shape
                (N,)) and, if known, 'iscrowd' and 'area' (shape (N,)): tensors
                on any device, or arrays.
            image_ids (Sequence[Any]): Image id of each target.
            class_names (Sequence[str] | Mapping[int, str]): Name of each
                label, such as ``weights.meta['categories']``. The name
                '__background__' of label 0 is not a category.
            image_sizes (Sequence[Any], optional): Width and height of each
                image, shape (I, 2). Defaults to None; figures that depend on
                the box position are then undefined.

        Returns:
            GroundTruth: The same as of :meth:`from_supervision`.

        Raises:
            InvalidTypeError: If an object has another type.
            InvalidValueError: If a value is wrong, see
                :meth:`from_supervision`.

        Example:
            >>> target = dict(boxes=[[10, 20, 40, 60]], labels=[1])
            >>> ground_truth = GroundTruth.from_torchvision(
            ...     [target], image_ids=[7], class_names={1: 'cell'})
            >>> ground_truth.boxes  # x, y, width, height
            array([[10., 20., 30., 40.]])
        """
        from ..formats.python_objects import ground_truth_from_torchvision
        return ground_truth_from_torchvision(targets, image_ids, class_names,
                                             image_sizes)


@dataclass(frozen=True, eq=False)
class Detections:
    """Scored boxes, in file order.

    Attributes:
        image_index (ndarray): Image of each detection, shape (D,).
        class_index (ndarray): Class of each detection, shape (D,).
        boxes (ndarray): Boxes as x, y, width, height; float64, shape (D, 4).
        scores (ndarray): Scores in [0, 1], float64, shape (D,).
    """
    image_index: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_mmdetection(
        cls,
        results: Sequence[Any],
        ground_truth: GroundTruth,
        image_ids: Optional[Sequence[Any]] = None,
        label_names: Union[Sequence[str], Mapping[int, str], None] = None
    ) -> 'Detections':
        """Convert data samples of mmdet, such as ``inference_detector`` gives.

        Args:
            results (Sequence[Any]): One ``DetDataSample`` for each image, with
                ``pred_instances``.
            ground_truth (GroundTruth): Images and classes that the detections
                refer to.
            image_ids (Sequence[Any], optional): Image id of each result.
                Defaults to None, which takes ``img_id`` of the samples;
                ``inference_detector`` sets it to 0 for every image.
            label_names (Sequence[str] | Mapping[int, str], optional): Name of
                each label, such as ``model.dataset_meta['classes']``. Defaults
                to None, which takes label k as the k-th category by id.

        Returns:
            Detections: The same as of :meth:`from_supervision`.

        Raises:
            InvalidTypeError: If an object has another type.
            InvalidValueError: If a value is wrong, see
                :meth:`from_supervision`.
        """
        from ..formats.python_objects import from_mmdetection
        return from_mmdetection(results, ground_truth, image_ids, label_names)

    @classmethod
    def from_supervision(
        cls,
        results: Sequence[Any],
        image_ids: Sequence[Any],
        ground_truth: GroundTruth,
        label_names: Union[Sequence[str], Mapping[int, str], None] = None
    ) -> 'Detections':
        """Convert ``supervision.Detections``.

        Args:
            results (Sequence[Any]): One result for each image, with ``xyxy``,
                ``confidence``, ``class_id`` and, if known,
                ``data['class_name']``.
            image_ids (Sequence[Any]): Image id of each result.
            ground_truth (GroundTruth): Images and classes that the detections
                refer to.
            label_names (Sequence[str] | Mapping[int, str], optional): Name of
                each label, which identifies its category. Defaults to None,
                which takes ``class_name`` of the results. Without it, label k
                is the k-th category by id, which is wrong for a detector with
                other classes or another order.

        Returns:
            Detections: Detections in the order of the results. Those of
            classes that the annotations do not have are left out, with a
            warning.

        Raises:
            InvalidTypeError: If an object has another type.
            InvalidValueError: If an image or label is unknown, a value is out
                of range, or most boxes match objects of other classes than
                their labels.
        """
        from ..formats.python_objects import from_supervision
        return from_supervision(results, image_ids, ground_truth, label_names)

    @classmethod
    def from_torchvision(
        cls,
        results: Sequence[Mapping[str, Any]],
        image_ids: Sequence[Any],
        ground_truth: GroundTruth,
        label_names: Union[Sequence[str], Mapping[int, str], None] = None
    ) -> 'Detections':
        """Convert the dicts that torchvision's detectors return.

        Args:
            results (Sequence[Mapping[str, Any]]): One dict for each image,
                with 'boxes' (x1, y1, x2, y2, shape (D, 4)), 'scores' and
                'labels' (shape (D,)): tensors on any device, or arrays.
            image_ids (Sequence[Any]): Image id of each result.
            ground_truth (GroundTruth): Images and classes that the detections
                refer to.
            label_names (Sequence[str] | Mapping[int, str], optional): Name of
                each label, including that of the background (0), such as
                ``weights.meta['categories']``. Defaults to None, which takes
                labels as category ids, as in torchvision's COCO models.

        Returns:
            Detections: The same as of :meth:`from_supervision`.

        Raises:
            InvalidTypeError: If an object has another type.
            InvalidValueError: If a value is wrong, see
                :meth:`from_supervision`.
        """
        from ..formats.python_objects import from_torchvision
        return from_torchvision(results, image_ids, ground_truth, label_names)

    @classmethod
    def from_ultralytics(
        cls,
        results: Sequence[Any],
        ground_truth: GroundTruth,
        image_ids: Optional[Sequence[Any]] = None,
        label_names: Union[Sequence[str], Mapping[int, str], None] = None
    ) -> 'Detections':
        """Convert ``ultralytics`` ``Results``.

        Args:
            results (Sequence[Any]): One result for each image, with ``boxes``
                (``xyxy``, ``conf``, ``cls``) and ``names``.
            ground_truth (GroundTruth): Images and classes that the detections
                refer to.
            image_ids (Sequence[Any], optional): Image id of each result.
                Defaults to None, which takes the file name of ``path`` without
                suffix, as a number if the ids are numbers.
            label_names (Sequence[str] | Mapping[int, str], optional): Name of
                each label. Defaults to None, which takes ``names`` of the
                results.

        Returns:
            Detections: The same as of :meth:`from_supervision`.

        Raises:
            InvalidTypeError: If an object has another type.
            InvalidValueError: If a value is wrong, see
                :meth:`from_supervision`.
        """
        from ..formats.python_objects import from_ultralytics
        return from_ultralytics(results, ground_truth, image_ids, label_names)


def ground_truth_from_coco(
        annotations: Mapping[str, Any],
        image_ids: Optional[Sequence[Any]] = None,
        category_ids: Optional[Sequence[Any]] = None) -> GroundTruth:
    """Check the content of a COCO annotation file and convert it to arrays.

    As in COCOeval, ``"ignore"`` of an annotation has no effect. Annotation ids
    are not used; they may be missing or 0.

    Args:
        annotations (Mapping[str, Any]): Content with the lists 'images',
            'categories' and 'annotations'.
        image_ids (Sequence[Any], optional): Ids of the images to evaluate.
            Defaults to None, which means all.
        category_ids (Sequence[Any], optional): Ids of the categories to
            evaluate. Defaults to None, which means all.

    Returns:
        GroundTruth: Arrays with records in file order.

    Raises:
        InvalidTypeError: If the file has another structure, or a value is not
            a number.
        InvalidValueError: If a record names an unknown image or category,
            or has a NaN or negative size; the message names the record.

    Example:
        >>> ground_truth = ground_truth_from_coco(
        ...     dict(
        ...         images=[dict(id=7, width=100, height=80)],
        ...         categories=[dict(id=1, name='cell')],
        ...         annotations=[
        ...             dict(image_id=7, category_id=1, bbox=[0, 0, 10, 10]),
        ...             dict(image_id=7, category_id=1, bbox=[20, 0, 10, 10])
        ...         ]))
        >>> ground_truth.num_objects
        array([2])
    """
    if not isinstance(annotations, Mapping):
        raise InvalidTypeError(
            '`annotations` must be a dict with `images`, `categories` and '
            f'`annotations`, but got {type(annotations).__name__}; results '
            'must be passed as the other argument')
    for key in ('images', 'categories', 'annotations'):
        if not isinstance(annotations.get(key), (list, tuple)):
            raise InvalidValueError(
                f'`annotations` must have a list `{key}`, but got the keys '
                f'{shortened(sorted(map(str, annotations)))}')
    images = annotations['images']
    categories = annotations['categories']
    objects = annotations['annotations']

    ids_of_images = field_column(images, 'images', 'id')
    ids_of_categories = field_column(categories, 'categories', 'id')
    known_images = sorted_ids(ids_of_images, 'images')
    known_categories = sorted_ids(ids_of_categories, 'categories')
    kept_images = subset_mask(image_ids, known_images, 'image_ids')
    kept_categories = subset_mask(category_ids, known_categories,
                                  'category_ids')

    sizes = np.zeros((len(known_images), 2))
    sizes[positions(ids_of_images, known_images, 'images', 'id')] = (
        image_sizes(images))
    names = [''] * len(known_categories)
    for category, row in zip(
            categories,
            positions(ids_of_categories, known_categories, 'categories',
                      'id')):
        names[row] = str(category.get('name', category['id']))

    image_index = positions(
        field_column(objects, 'annotations', 'image_id'), known_images,
        'annotations', 'image_id')
    class_index = positions(
        field_column(objects, 'annotations', 'category_id'), known_categories,
        'annotations', 'category_id')
    boxes = box_array(
        field_column(objects, 'annotations', 'bbox'), 'annotations')
    iscrowd = crowd_flags(objects, 'annotations')
    area = object_areas(objects, boxes)

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
        iscrowd=iscrowd[kept],
        area=area[kept])


def detections_from_coco(results: Sequence[Mapping[str, Any]],
                         ground_truth: GroundTruth) -> Detections:
    """Check the content of a COCO results file and convert it to arrays.

    Args:
        results (Sequence[Mapping[str, Any]]): Records with 'image_id',
            'category_id', 'bbox' (x, y, width, height) and 'score'.
        ground_truth (GroundTruth): Images and classes that the detections
            refer to.

    Returns:
        Detections: Arrays in file order; empty for an empty list.

    Raises:
        InvalidTypeError: If the list has another structure, or a value is not
            a number.
        InvalidValueError: If a record names an unknown image or category,
            lacks a field, or has a score or size that is out of range; the
            message names the record.
    """
    if not isinstance(results, (list, tuple)):
        raise InvalidTypeError('`results` must be a list of records, but '
                               f'got {_described(results)}')
    return detections_from_arrays(
        field_column(results, 'results', 'image_id'),
        field_column(results, 'results', 'category_id'),
        field_column(results, 'results', 'bbox'),
        field_column(results, 'results', 'score'), ground_truth)


def detections_from_arrays(image_ids: Sequence[Any],
                           category_ids: Sequence[Any],
                           boxes: Sequence[Sequence[float]],
                           scores: Sequence[float],
                           ground_truth: GroundTruth) -> Detections:
    """Like :func:`detections_from_coco`, with one column for each field.

    Args:
        image_ids (Sequence[Any]): Image id of each detection, shape (D,).
        category_ids (Sequence[Any]): Category id of each detection, shape
            (D,).
        boxes (Sequence[Sequence[float]]): Boxes as x, y, width, height, shape
            (D, 4).
        scores (Sequence[float]): Scores in [0, 1], shape (D,).
        ground_truth (GroundTruth): Images and classes that the detections
            refer to.

    Returns:
        Detections: Arrays in the given order.

    Raises:
        InvalidTypeError: If a value is not a number.
        InvalidValueError: If lengths differ, or a value is unknown or out
            of range; the message names the record.
    """
    check_ground_truth(ground_truth)
    lengths = (len(image_ids), len(category_ids), len(boxes), len(scores))
    if len(set(lengths)) > 1:
        raise InvalidValueError(
            '`image_ids`, `category_ids`, `boxes` and `scores` must have the '
            f'same length, but got {lengths}')
    image_index = positions(image_ids, ground_truth.image_ids, 'results',
                            'image_id')
    class_index = positions(category_ids, ground_truth.category_ids, 'results',
                            'category_id')
    return Detections(image_index, class_index, box_array(boxes, 'results'),
                      score_column(scores, 'results'))


def check_ground_truth(ground_truth: GroundTruth) -> None:
    """Raise unless the argument is of this type.

    Args:
        ground_truth (GroundTruth): Annotated objects.
    """
    check_type('ground_truth', ground_truth, GroundTruth,
               'convert annotations by ground_truth_from_coco')


def check_detections(detections: Detections) -> None:
    """Raise unless the argument is of this type.

    Args:
        detections (Detections): Scored boxes.
    """
    check_type('detections', detections, Detections,
               'convert results by detections_from_coco')


def _described(results: Any) -> str:
    """Describe what was given instead of a list of records."""
    if not isinstance(results, Mapping):
        return type(results).__name__
    keys = shortened(sorted(map(str, results)))
    if 'annotations' in results:
        return (f'a dict with the keys {keys}: an annotation file; was the '
                'ground truth passed as results?')
    return (f'a dict with the keys {keys}; write one dict with image_id, '
            'category_id, bbox and score for each detection')


def _renumbered(kept: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Renumber indices so that they count the kept entries only."""
    return (np.cumsum(kept) - 1)[index]
