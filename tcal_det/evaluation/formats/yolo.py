"""YOLO label folders with one text file for each image.

Each line is ``class cx cy w h`` for an object, and ``class cx cy w h conf``
for a detection, as Ultralytics writes it with ``save_txt=True
save_conf=True``. Centre and size are fractions of the width and height of the
image.
"""
import math
import os
import os.path as osp
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from tcal_det.checks import shortened
from tcal_det.errors import InvalidValueError
from .class_names import NAME_FILES, find_class_names, read_class_names
from .image_sizes import ImageSize, read_image_sizes
from .label_mapping import (LabelMapping, image_of, images_by_stem,
                            map_by_name, map_by_order)

Record = Dict[str, Any]
SIZES_REMEDY = ('name the folder of the images, or a .json or .csv file of '
                'their sizes, with --images')
# Without names, every class up to the largest label gets a row in the tables.
_MOST_UNNAMED = 10_000


class _Line(NamedTuple):
    """One line of a label file."""
    where: str
    label: int
    cx: float
    cy: float
    width: float
    height: float
    score: Optional[float]


def label_files(folder: str) -> List[str]:
    """Names of the label files of a folder, sorted.

    Args:
        folder (str): Path to the folder, which may contain other files as
            well.
    """
    return sorted(
        name for name in os.listdir(folder)
        if name.endswith('.txt') and name not in NAME_FILES and name[0] != '.')


def read_yolo_annotations(folder: str,
                          images: Optional[str] = None,
                          names: Optional[str] = None) -> Record:
    """Read a label folder of objects as COCO annotations.

    Image ids are file names without suffix. Category ids are the labels plus
    1, as in Ultralytics' ``predictions.json``.

    Args:
        folder (str): Path to the folder of the label files; an image without a
            label file has no objects.
        images (str, optional): Path to the images or their sizes, see
            :func:`read_image_sizes`. Defaults to None, which means the folder
            whose path has ``images`` instead of the last ``labels``.
        names (str, optional): Path to the file of class names, see
            :func:`read_class_names`. Defaults to None, which means the file
            that :func:`find_class_names` finds. If there is none, the labels
            are used as names.

    Returns:
        Record: COCO annotations with 'images', 'categories' and 'annotations'.

    Raises:
        MissingFileError: If one of the given files does not exist.
        InvalidValueError: If sizes are missing, or a line is wrong; the
            message names file and line.
    """
    sizes = _sizes_for(folder, images)
    if sizes is None:
        raise InvalidValueError(
            f'ground truth {folder!r} needs the sizes of the images, as '
            f"YOLO's boxes are fractions of them; {SIZES_REMEDY}")
    names = names or find_class_names(folder)
    class_names = None if names is None else read_class_names(names)
    objects: List[Record] = []
    labels = []
    for file_name in label_files(folder):
        path = osp.join(folder, file_name)
        stem = file_name[:-len('.txt')]
        if stem not in sizes:
            raise InvalidValueError(
                f'{path!r} must belong to an image, but none of the '
                f'{len(sizes)} images is called {shortened(stem)}; were '
                'labels and images taken from the same split?')
        for line in _lines(path, with_score=False):
            _check_label(line, class_names, names)
            labels.append(line.label)
            objects.append(
                dict(
                    id=len(objects) + 1,
                    image_id=stem,
                    category_id=line.label + 1,
                    bbox=_box(line, sizes[stem].width, sizes[stem].height),
                    iscrowd=0))
    if class_names is None:
        class_names = [
            str(label) for label in range(max(labels, default=0) + 1)
        ]
    return dict(
        images=[
            dict(
                id=stem,
                file_name=size.file_name,
                width=size.width,
                height=size.height) for stem, size in sizes.items()
        ],
        categories=[
            dict(id=label + 1, name=name)
            for label, name in enumerate(class_names)
        ],
        annotations=objects)


def read_yolo_results(folder: str,
                      annotations: Record,
                      categories: Sequence[Record],
                      images: Optional[str] = None,
                      names: Optional[str] = None) -> List[Record]:
    """Read a label folder of detections as COCO results records.

    Args:
        folder (str): Path to the folder of the label files; an image without a
            label file has no detections.
        annotations (Record): Checked COCO annotations. Images are identified
            by file name without suffix.
        categories (Sequence[Record]): Categories in the order of the labels,
            if there is no file of names.
        images (str, optional): Path to the images or their sizes, for images
            without a size in the annotations. Defaults to None, as in
            :func:`read_yolo_annotations`.
        names (str, optional): Path to the file with the class names of the
            detector's labels. Defaults to None, which means the file that
            :func:`find_class_names` finds. With names, labels are mapped to
            categories by name.

    Returns:
        list[Record]: Records with 'image_id', 'category_id', 'bbox' and
        'score'.

    Raises:
        MissingFileError: If one of the given files does not exist.
        InvalidValueError: If sizes are missing, no name is a category, or a
            line is wrong; the message names file and line.
    """
    names = names or find_class_names(folder)
    mapping = map_by_order(categories) if names is None else map_by_name(
        read_class_names(names), annotations['categories'],
        f'class names {names!r}')
    by_stem = images_by_stem(annotations)
    more_sizes = None
    records: List[Record] = []
    left_out: List[int] = []
    for file_name in label_files(folder):
        path = osp.join(folder, file_name)
        stem = file_name[:-len('.txt')]
        image = image_of(stem, by_stem, repr(path))
        width: Any = image.get('width')
        height: Any = image.get('height')
        if not (_is_side(width) and _is_side(height)):
            more_sizes = more_sizes or _sizes_for(folder, images) or {}
            if stem not in more_sizes:
                raise InvalidValueError(
                    f'{path!r} needs the size of its image, as YOLO\'s boxes '
                    'are fractions of it, but the annotations do not have it; '
                    f'{SIZES_REMEDY}')
            width, height = more_sizes[stem].width, more_sizes[stem].height
        records += _image_records(path, image['id'], width, height, mapping,
                                  left_out)
    mapping.warn_of_left_out(left_out)
    return records


def _image_records(path: str, image_id: Any, width: float, height: float,
                   mapping: LabelMapping,
                   left_out: List[int]) -> Iterator[Record]:
    """Read the records of one image; collect left-out labels."""
    for line in _lines(path, with_score=True):
        category_id = mapping.category_of(line.label, line.where)
        if category_id is None:
            left_out.append(line.label)
        else:
            yield dict(
                image_id=image_id,
                category_id=category_id,
                bbox=_box(line, width, height),
                score=line.score)


def _sizes_for(folder: str,
               images: Optional[str]) -> Optional[Dict[str, ImageSize]]:
    """Read sizes from the given path, else from the standard folder."""
    if images is None:
        parts = osp.abspath(folder).split(os.sep)
        if 'labels' in parts:
            place = len(parts) - 1 - parts[::-1].index('labels')
            parts[place] = 'images'
            candidate = os.sep.join(parts)
            if osp.isdir(candidate):
                images = candidate
    return None if images is None else read_image_sizes(images)


def _box(line: _Line, width: float, height: float) -> List[float]:
    """Get x, y, width, height in pixels."""
    return [(line.cx - line.width / 2) * width,
            (line.cy - line.height / 2) * height, line.width * width,
            line.height * height]


def _lines(path: str, with_score: bool) -> Iterator[_Line]:
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise InvalidValueError(
            f'labels {path!r} cannot be read: {error}') from None
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split()
        if columns:
            yield _parsed(columns, f'line {number} of {path!r}', with_score)


def _parsed(columns: List[str], where: str, with_score: bool) -> _Line:
    expected = 'class cx cy w h conf' if with_score else 'class cx cy w h'
    if len(columns) != 5 + with_score:
        remedy = ''
        if with_score and len(columns) == 5:
            remedy = ('; the confidence is missing: predict with '
                      'save_txt=True save_conf=True')
        elif not with_score and len(columns) == 6:
            remedy = ('; objects have no confidence: were predictions given '
                      'as ground truth?')
        elif len(columns) > 6:
            remedy = ('; polygons, keypoints, rotated boxes and track ids are '
                      'not supported: write boxes only')
        raise InvalidValueError(f'{where} must be `{expected}`, but has '
                                f'{len(columns)} columns{remedy}')
    try:
        label = float(columns[0])
        values = [float(column) for column in columns[1:]]
    except ValueError:
        raise InvalidValueError(
            f'{where} must be `{expected}`, all numbers, but got '
            f'{shortened(" ".join(columns))}') from None
    if not (label >= 0 and label.is_integer()):
        raise InvalidValueError(
            f'{where}: class must be a whole number >= 0, but got '
            f'{shortened(columns[0])}')
    _check_values(values, where)
    x, y, width, height = values[:4]
    return _Line(where, int(label), x, y, width, height,
                 values[4] if with_score else None)


def _check_values(values: List[float], where: str) -> None:
    # Written so that NaN fails.
    if not all(abs(value) <= 2 for value in values[:4]):
        raise InvalidValueError(
            f'{where}: cx cy w h must be fractions of the image, from 0 to 1, '
            f'but got {values[:4]}; boxes in pixels must be divided by its '
            'width and height')
    if not (values[2] >= 0 and values[3] >= 0):
        raise InvalidValueError(
            f'{where}: w and h must not be negative, but got {values[2:4]}')
    if len(values) > 4 and not 0 <= values[4] <= 1:
        raise InvalidValueError(
            f'{where}: conf must be in [0, 1], but got {values[4]}; write '
            'probabilities, not logits or per cent')


def _check_label(line: _Line, class_names: Optional[Sequence[str]],
                 names: Optional[str]) -> None:
    if class_names is not None and line.label >= len(class_names):
        raise InvalidValueError(
            f'{line.where}: class must be below {len(class_names)}, the '
            f'number of class names in {names!r}, but got '
            f'{shortened(line.label)}')
    if line.label >= _MOST_UNNAMED:
        raise InvalidValueError(
            f'{line.where}: class must be below {_MOST_UNNAMED} where there '
            f'are no class names, but got {shortened(line.label)}')


def _is_side(value: Any) -> bool:
    """Whether a value of an annotation file is a valid width or height."""
    return isinstance(
        value,
        (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
