"""Pascal VOC: XML annotations and text files of detections.

Coordinates are those of the VOC devkit: pixels are counted from 1, and the box
includes both corners. xmin, ymin, xmax, ymax become x = xmin - 1,
y = ymin - 1, width = xmax - xmin + 1, height = ymax - ymin + 1.
"""
import os
import os.path as osp
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple, cast
from xml.etree import ElementTree

from tcal_det.checks import shortened
from tcal_det.errors import InvalidValueError
from ..functional.record_fields import LARGEST_COORDINATE
from .class_names import read_class_names
from .image_sizes import ImageSize, read_image_sizes, stem_of
from .label_mapping import image_of, images_by_stem, map_by_name

Record = Dict[str, Any]
# comp4_det_test_aeroplane.txt: competition, image set, class.
_RESULTS_NAME = re.compile(r'comp\d+_det_[^_]+_(.+)\.txt')
_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def xml_files(folder: str) -> List[str]:
    """Names of the XML files of a folder, sorted.

    Args:
        folder (str): Path to the folder, which may contain other files as
            well.
    """
    return sorted(
        name for name in os.listdir(folder)
        if name.endswith('.xml') and name[0] != '.')


def voc_results_files(folder: str) -> List[str]:
    """Names of the VOC results files of a folder, sorted.

    Args:
        folder (str): Path to the folder, which may contain other files as
            well.
    """
    return sorted(filter(_RESULTS_NAME.fullmatch, os.listdir(folder)))


def read_voc_annotations(folder: str,
                         images: Optional[str] = None,
                         names: Optional[str] = None) -> Record:
    """Read a folder of Pascal VOC XML as COCO annotations.

    Image ids are file names without suffix. ``difficult`` objects become
    crowds: they need not be detected, and detections on them are neither true
    nor false positives. The VOC devkit ignores them as well, but compares the
    IoU with the threshold. COCO's rule for crowds compares the share of the
    detection that is inside the crowd, so that smaller detections are ignored
    as well. ``part`` objects within an object are not read.

    Args:
        folder (str): Path to the folder of the XML files, one for each image.
        images (str, optional): Path to the images or their sizes, for images
            whose XML file has no size, see :func:`read_image_sizes`. Defaults
            to None; then figures by box position and size are undefined
            without these sizes.
        names (str, optional): Path to the file of class names, in the order of
            the categories, see :func:`read_class_names`. Defaults to None,
            which means the names in the XML files, sorted.

    Returns:
        Record: COCO annotations with 'images', 'categories' and 'annotations'.

    Raises:
        MissingFileError: If one of the given files does not exist.
        InvalidValueError: If a file or an object is wrong; the message
            names them.
    """
    sizes = {} if images is None else read_image_sizes(images)
    image_records: List[Record] = []
    objects: List[Record] = []
    for file_name in xml_files(folder):
        path = osp.join(folder, file_name)
        stem = file_name[:-len('.xml')]
        root = parse_voc_xml(path)
        image_records.append(_image_record(root, stem, sizes.get(stem)))
        for number, element in enumerate(root.findall('object')):
            objects.append(
                dict(
                    _object_record(element, f'`object[{number}]` of {path!r}'),
                    id=len(objects) + 1,
                    image_id=stem))
    found = sorted({record['name'] for record in objects})
    class_names = found if names is None else read_class_names(names)
    id_of_name = {name: number for number, name in enumerate(class_names, 1)}
    for record in objects:
        name = record.pop('name')
        if name not in id_of_name:
            raise InvalidValueError(
                f'class names must have every class of the annotations, but '
                f'lack {shortened(name)} of image '
                f'{shortened(record["image_id"])} (in {names!r})')
        record['category_id'] = id_of_name[name]
    return dict(
        images=image_records,
        categories=[
            dict(id=number, name=name) for name, number in id_of_name.items()
        ],
        annotations=objects)


def read_voc_results(folder: str, annotations: Record) -> List[Record]:
    """Read VOC results files as COCO results records.

    Args:
        folder (str): Path to a folder of files ``comp4_det_test_CLASS.txt``
            with lines ``image confidence xmin ymin xmax ymax``.
        annotations (Record): Checked COCO annotations. Images are identified
            by file name without suffix, categories by name.

    Returns:
        list[Record]: Records with 'image_id', 'category_id', 'bbox' and
        'score'.

    Raises:
        InvalidValueError: If no class is a category, or a line is wrong; the
            message names file and line.
    """
    file_names = voc_results_files(folder)
    names = [
        _RESULTS_NAME.fullmatch(name).group(1)  # type: ignore[union-attr]
        for name in file_names  # All match.
    ]
    mapping = map_by_name(names, annotations['categories'],
                          f'classes of the results files of {folder!r}')
    by_stem = images_by_stem(annotations)
    records: List[Record] = []
    left_out: List[int] = []
    for label, file_name in enumerate(file_names):
        path = osp.join(folder, file_name)
        for where, stem, score, box in _result_lines(path):
            if mapping.category_ids[label] is None:
                left_out.append(label)
                continue
            records.append(
                dict(
                    image_id=image_of(stem, by_stem, where)['id'],
                    category_id=mapping.category_ids[label],
                    bbox=box,
                    score=score))
    mapping.warn_of_left_out(left_out)
    return records


class _DoctypeError(Exception):
    """An XML file has a document type."""


class _TreeWithoutDoctype(ElementTree.TreeBuilder):
    """Builder that refuses a document type before anything in it is used.

    The entities of a document type can expand a small file to gigabytes.
    """

    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Called at the beginning of the document type."""
        raise _DoctypeError


def parse_voc_xml(path: str) -> ElementTree.Element:
    """Parse a Pascal VOC XML file, which must have no document type.

    Args:
        path (str): Path to the file.

    Returns:
        Element: Element ``annotation``.

    Raises:
        InvalidValueError: If the file cannot be read, or is not Pascal VOC.
    """
    parser = ElementTree.XMLParser(target=_TreeWithoutDoctype())
    try:
        root = ElementTree.parse(path, parser).getroot()
    except _DoctypeError:
        raise InvalidValueError(
            f'annotations {path!r} must be XML without <!DOCTYPE>, whose '
            'entities can fill the memory, but have one; remove it') from None
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise InvalidValueError(
            f'annotations {path!r} cannot be read as XML ({error}); was the '
            'file written completely?') from None
    if root.tag != 'annotation':
        raise InvalidValueError(
            f'annotations {path!r} must be Pascal VOC XML, <annotation> with '
            f'<object>s, but got <{shortened(root.tag)}>')
    return root


def _image_record(root: ElementTree.Element, stem: str,
                  size: Optional[ImageSize]) -> Record:
    """Create an image record, with its size if it is known."""
    record: Record = dict(id=stem, file_name=root.findtext('filename') or stem)
    if stem_of(record['file_name']) != stem:
        # The XML files of renamed data sets contain the old name.
        record['file_name'] = stem
    sides = [(root.findtext(f'size/{side}') or '').strip()
             for side in ('width', 'height')]
    if all(side.isdecimal() and int(side) > 0 for side in sides):
        record.update(width=int(sides[0]), height=int(sides[1]))
    elif size is not None:
        record.update(width=size.width, height=size.height)
    return record


def _object_record(element: ElementTree.Element, where: str) -> Record:
    name = (element.findtext('name') or '').strip()
    if not name:
        raise InvalidValueError(f'{where} must have a <name>')
    difficult = (element.findtext('difficult') or '0').strip()
    if difficult not in ('0', '1'):
        raise InvalidValueError(
            f'{where}: <difficult> must be 0 or 1, but got '
            f'{shortened(difficult)}')
    texts = [element.findtext(f'bndbox/{corner}') for corner in _CORNERS]
    return dict(
        name=name, bbox=_box(texts, where), iscrowd=int(difficult == '1'))


def _result_lines(path: str) -> List[Tuple[str, str, float, List[float]]]:
    """Get position, image, score and box of each line."""
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:
        raise InvalidValueError(
            f'results {path!r} cannot be read: {error}') from None
    found = []
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if not columns:
            continue
        where = f'line {number} of {path!r}'
        if len(columns) != 6:
            raise InvalidValueError(
                f'{where} must be `image confidence xmin ymin xmax ymax`, but '
                f'has {len(columns)} columns')
        score = _number(columns[1])
        # Written so that NaN fails.
        if not (score is not None and 0 <= score <= 1):
            raise InvalidValueError(
                f'{where}: confidence must be a number in [0, 1], but got '
                f'{shortened(columns[1])}; write probabilities, not logits')
        found.append((where, columns[0], score, _box(columns[2:], where)))
    return found


def _box(texts: Sequence[Optional[str]], where: str) -> List[float]:
    """Get x, y, width, height from inclusive corners counted from 1."""
    corners = [_number(text) for text in texts]
    # Written so that NaN fails.
    if not all(
            corner is not None and abs(corner) <= LARGEST_COORDINATE
            for corner in corners):
        raise InvalidValueError(
            f'{where} must have {", ".join(_CORNERS)}, numbers of at most '
            f'{LARGEST_COORDINATE:g}, but got {shortened(list(texts))}')
    left, top, right, bottom = cast(List[float], corners)
    # With inclusive corners, a box below one pixel may end before it begins.
    width, height = right - left + 1, bottom - top + 1
    if width < 0 or height < 0:
        raise InvalidValueError(
            f'{where} must have xmin <= xmax and ymin <= ymax, but got '
            f'{corners}; is it written as x, y, width, height?')
    return [left - 1, top - 1, width, height]


def _number(text: Optional[str]) -> Optional[float]:
    try:
        return float(text)  # type: ignore[arg-type]  # None is a TypeError
    except (TypeError, ValueError):
        return None
