"""Annotations and results of any format that is read, as arrays."""
import os
import os.path as osp
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

from tcal_det.errors import InvalidValueError, MissingFileError
from ..functional import (Detections, GroundTruth, detections_from_coco,
                          ground_truth_from_coco)
from ..plausibility import (check_labels, find_swapped_labels,
                            warn_of_boxes_outside)
from ..results_file import (CLASSES_REMEDY, PICKLE_SUFFIXES,
                            categories_by_label, check_class_names,
                            keep_classes, naming_file,
                            read_annotations_and_results, read_json,
                            read_results)
from .label_mapping import images_by_stem
from .pascal_voc import (read_voc_annotations, read_voc_results,
                         voc_results_files, xml_files)
from .yolo import label_files, read_yolo_annotations, read_yolo_results

Record = Dict[str, Any]
_FORMS = ('a .json file, a .pkl of results, a folder of YOLO labels (.txt) or '
          'a folder of Pascal VOC XML')
_NAMES_REMEDY = ('name the classes of the detector in the order of its '
                 'labels, with --names (a classes.txt or data.yaml)')


def find_format(path: str, what: str) -> str:
    """Find out the format of annotations or results.

    Args:
        path (str): File or folder.
        what (str): What the user knows it as, e.g. 'ground truth'.

    Returns:
        str: 'json', 'pickle', 'yolo', 'voc' or 'voc_results'.

    Raises:
        MissingFileError: If it does not exist.
        InvalidValueError: If it is another folder.
    """
    if not osp.exists(path):
        raise MissingFileError(f'{what} {path!r} does not exist')
    if not osp.isdir(path):
        if path.endswith(('.txt', '.xml')):
            raise InvalidValueError(
                f'{what} must be {_FORMS}, but got the file {path!r}; name '
                'its folder, as labels are one file for each image')
        return 'pickle' if path.endswith(PICKLE_SUFFIXES) else 'json'
    texts, has_xml = label_files(path), bool(xml_files(path))
    results = voc_results_files(path)
    if bool(texts) == has_xml:
        raise InvalidValueError(
            f'{what} must be {_FORMS}, but got the folder {path!r} '
            f'{_holding(path) if not texts else "with .txt and .xml files"}')
    if has_xml:
        return 'voc'
    if not results:
        return 'yolo'
    if len(results) < len(texts):
        other = next(name for name in texts if name not in results)
        raise InvalidValueError(
            f'{what} {path!r} must hold either VOC results (comp4_det_...) or '
            f'YOLO labels, but got {results[0]!r} and {other!r}')
    return 'voc_results'


def read_annotations(path: str,
                     images: Optional[str] = None,
                     names: Optional[str] = None) -> Record:
    """Read annotations of any format as COCO annotations.

    Args:
        path (str): COCO JSON, a YOLO label folder or a folder of Pascal VOC
            XML.
        images (str, optional): Folder of the images, or a file of their
            sizes: see :func:`read_image_sizes`. Defaults to None.
        names (str, optional): File of class names: see
            :func:`read_class_names`. Defaults to None.

    Returns:
        Record: With 'images', 'categories' and 'annotations'.

    Raises:
        UserError: If a file or a record is wrong.
    """
    kind = find_format(path, 'ground truth')
    if kind == 'yolo':
        return read_yolo_annotations(path, images, names)
    if kind == 'voc':
        return read_voc_annotations(path, images, names)
    if kind != 'json':
        raise InvalidValueError(
            'ground truth must be annotations, but got the results '
            f'{path!r}; are ground truth and results exchanged?')
    return read_json(path, 'ground truth')


def read_records(path: str,
                 annotations: Record,
                 categories: Sequence[Record],
                 images: Optional[str] = None,
                 names: Optional[str] = None) -> List[Record]:
    """Read results of any format as COCO results records.

    Args:
        path (str): COCO results JSON, mmdet's pickle, a YOLO label folder
            with confidences, or a folder of VOC results files.
        annotations (Record): COCO annotations, checked.
        categories (Sequence[Record]): What the labels of a pickle count, and
            those of a YOLO folder without a file of names.
        images (str, optional): Sizes for a YOLO folder, where the
            annotations have none. Defaults to None.
        names (str, optional): Names of a YOLO detector's labels. Defaults
            to None.

    Returns:
        List[Record]: With 'image_id', 'category_id', 'bbox' and 'score'; of
        a JSON file whatever it holds.

    Raises:
        UserError: If a file or a record is wrong.
    """
    kind = find_format(path, 'results')
    if kind == 'voc':
        raise InvalidValueError(
            f'results must have confidences, but got the annotations {path!r}'
            '; are ground truth and results exchanged?')
    if kind == 'yolo':
        return read_yolo_results(path, annotations, categories, images, names)
    if kind == 'voc_results':
        return read_voc_results(path, annotations)
    results = read_results(path, [one['id'] for one in categories])
    return _with_known_images(results, annotations)


def load_annotations_and_results(
    ground_truth_path: str,
    results_path: str,
    class_names: Optional[Sequence[str]] = None,
    images: Optional[str] = None,
    names: Optional[str] = None
) -> Tuple[GroundTruth, Detections, List[Record]]:
    """Read what detections are measured by, and the detections.

    The formats are found out. COCO JSON is read by
    :func:`read_annotations_and_results`; other formats become COCO records
    and pass the same checks. Boxes that leave their images, and labels that
    stand for other classes, are looked for in all formats.

    Args:
        ground_truth_path (str): See :func:`read_annotations`.
        results_path (str): See :func:`read_records`.
        class_names (Sequence[str], optional): Keep these classes only. The
            labels of a pickle count them, and so do those of a YOLO folder
            for which no file of names is found. Defaults to None, all
            categories.
        images (str, optional): Folder of the images, or a .json or .csv file
            of their sizes, which YOLO labels need. Defaults to None.
        names (str, optional): ``classes.txt`` or ``data.yaml`` with the names
            of YOLO's labels. Defaults to None: looked for near the labels.

    Returns:
        Tuple[GroundTruth, Detections, List[Record]]: Of the chosen classes;
        and their categories, by label.

    Raises:
        UserError: If a file, a record or a class name is wrong.
    """
    formats = [
        find_format(ground_truth_path, 'ground truth'),
        find_format(results_path, 'results')
    ]
    if formats[0] == 'json' and formats[1] in ('json', 'pickle'):
        loaded = read_annotations_and_results(ground_truth_path, results_path,
                                              class_names)
    else:
        loaded = _load_as_records(ground_truth_path, results_path, class_names,
                                  images, names)
    ground_truth, detections, _ = loaded
    if formats[1] == 'yolo':
        with naming_file(results_path):
            check_labels(ground_truth, detections, _NAMES_REMEDY)
    elif formats[1] == 'json':
        # Ids were written on purpose, while labels are counted.
        found = find_swapped_labels(ground_truth, detections)
        if found:
            warnings.warn(
                f'{found}; do the category ids of {results_path!r} belong to '
                f'{ground_truth_path!r}, and count from the same number?',
                stacklevel=2)
    warn_of_boxes_outside(ground_truth, ground_truth, 'annotations')
    warn_of_boxes_outside(ground_truth, detections, 'results')
    return loaded


def _load_as_records(
        ground_truth_path: str, results_path: str,
        class_names: Optional[Sequence[str]], images: Optional[str],
        names: Optional[str]) -> Tuple[GroundTruth, Detections, List[Record]]:
    annotations = read_annotations(ground_truth_path, images, names)
    with naming_file(ground_truth_path):
        ground_truth = ground_truth_from_coco(annotations)
        check_class_names(annotations, class_names)
    categories = categories_by_label(annotations, class_names)
    is_named = find_format(ground_truth_path, 'ground truth') != 'json'
    is_pickle = find_format(results_path, 'results') == 'pickle'
    results = read_records(
        results_path,
        annotations,
        # A YOLO folder's labels are those of the ground truth's folder.
        annotations['categories']
        if is_named and not is_pickle else categories,
        images,
        names)
    with naming_file(results_path):
        detections = detections_from_coco(results, ground_truth)
        if is_pickle:
            check_labels(ground_truth, detections, CLASSES_REMEDY)
    if class_names is not None:
        ground_truth, detections = keep_classes(
            annotations, ground_truth, detections,
            [one['id'] for one in categories])
    return ground_truth, detections, categories


def _with_known_images(results: Any, annotations: Record) -> Any:
    """Give images that are called by a number the id of their file name.

    Ultralytics writes 7 for ``0007.jpg``; here the id is then '0007'.
    """
    if not isinstance(results, list):
        return results  # refused later
    stem_of_number: Dict[int, Optional[str]] = {}
    for stem in images_by_stem(annotations):
        if stem.isdecimal():
            is_second = int(stem) in stem_of_number
            stem_of_number[int(stem)] = None if is_second else stem
    return [
        dict(record, image_id=stem_of_number[record['image_id']])
        if isinstance(record, dict) and type(record.get('image_id')) is int
        and stem_of_number.get(record['image_id']) else record
        for record in results
    ]


def _holding(folder: str) -> str:
    """What a folder holds in place of labels, for a message."""
    entries = sorted(os.listdir(folder))
    if not entries:
        return 'that is empty'
    if all(osp.isdir(osp.join(folder, entry)) for entry in entries):
        first = osp.join(folder, entries[0])
        return f'that has only folders; is it {first!r}?'
    return f'with {entries[0]!r} and no such files'
