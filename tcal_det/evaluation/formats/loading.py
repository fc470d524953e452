"""Loading of annotations and results in any supported format, as arrays."""
import os
import os.path as osp
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

from tcal_det.errors import (ImplausibleDataWarning, InvalidValueError,
                             MissingFileError)
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
    """Detect the format of annotations or results.

    Args:
        path (str): Path to a file or folder.
        what (str): Name of the content in messages, e.g. 'ground truth'.

    Returns:
        str: Format, 'json', 'pickle', 'yolo', 'voc' or 'voc_results'.

    Raises:
        MissingFileError: If it does not exist.
        InvalidValueError: If it is a folder or file of another format.
    """
    if not osp.exists(path):
        raise MissingFileError(f'{what} {path!r} does not exist')
    if not osp.isdir(path):
        if path.endswith(('.txt', '.xml')):
            raise InvalidValueError(
                f'{what} must be {_FORMS}, but got the file {path!r}; give '
                'its folder, as there is one label file for each image')
        return 'pickle' if path.endswith(PICKLE_SUFFIXES) else 'json'
    texts, has_xml = label_files(path), bool(xml_files(path))
    results = voc_results_files(path)
    if bool(texts) == has_xml:
        raise InvalidValueError(
            f'{what} must be {_FORMS}, but got the folder {path!r} '
            f'{_describe(path) if not texts else "with .txt and .xml files"}')
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
    """Read annotations in any format as COCO annotations.

    Args:
        path (str): Path to COCO JSON, a YOLO label folder or a folder of
            Pascal VOC XML.
        images (str, optional): Path to the folder of the images, or to a file
            of their sizes, see :func:`read_image_sizes`. Defaults to None.
        names (str, optional): Path to the file of class names, see
            :func:`read_class_names`. Defaults to None.

    Returns:
        Record: COCO annotations with 'images', 'categories' and 'annotations'.

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
            f'{path!r}; are ground truth and results swapped?')
    return read_json(path, 'ground truth')


def read_records(path: str,
                 annotations: Record,
                 categories: Sequence[Record],
                 images: Optional[str] = None,
                 names: Optional[str] = None) -> List[Record]:
    """Read results in any format as COCO results records.

    Args:
        path (str): Path to COCO results JSON, a pickle of mmdet, a YOLO label
            folder with confidences, or a folder of VOC results files.
        annotations (Record): Checked COCO annotations.
        categories (Sequence[Record]): Categories in the order of the labels,
            for a pickle and for a YOLO folder without a file of names.
        images (str, optional): Path to the images or their sizes, for a YOLO
            folder if the annotations have no sizes. Defaults to None.
        names (str, optional): Path to the file with the class names of YOLO's
            labels. Defaults to None.

    Returns:
        list[Record]: Records with 'image_id', 'category_id', 'bbox' and
        'score'. The content of a JSON file is not checked here.

    Raises:
        UserError: If a file or a record is wrong.
    """
    kind = find_format(path, 'results')
    if kind == 'voc':
        raise InvalidValueError(
            f'results must have confidences, but got the annotations {path!r}'
            '; are ground truth and results swapped?')
    if kind == 'yolo':
        return read_yolo_results(path, annotations, categories, images, names)
    if kind == 'voc_results':
        return read_voc_results(path, annotations)
    results = read_results(path, [category['id'] for category in categories])
    return _with_known_images(results, annotations)


def load_annotations_and_results(
    ground_truth_path: str,
    results_path: str,
    class_names: Optional[Sequence[str]] = None,
    images: Optional[str] = None,
    names: Optional[str] = None
) -> Tuple[GroundTruth, Detections, List[Record]]:
    """Read ground truth and detections in any format.

    The formats are detected. COCO JSON is read by
    :func:`read_annotations_and_results`; other formats are converted to COCO
    records and pass the same checks. In all formats, boxes that leave their
    images and labels that stand for other classes are detected.

    Args:
        ground_truth_path (str): Path to the annotations, see
            :func:`read_annotations`.
        results_path (str): Path to the results, see :func:`read_records`.
        class_names (Sequence[str], optional): Names of the classes to keep.
            The labels of a pickle, and of a YOLO folder without a file of
            names, are indices into these classes. Defaults to None, which
            means all categories.
        images (str, optional): Path to the folder of the images, or to a .json
            or .csv file of their sizes, which YOLO labels need. Defaults to
            None.
        names (str, optional): Path to ``classes.txt`` or ``data.yaml`` with
            the names of YOLO's labels. Defaults to None, which searches for
            these files near the labels.

    Returns:
        tuple[GroundTruth, Detections, list[Record]]: Ground truth and
        detections of the chosen classes, and their categories by label.

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
        # Only a warning: category ids are explicit, while labels are positions
        # in a list.
        found = find_swapped_labels(ground_truth, detections)
        if found:
            warnings.warn(
                f'{found}; do the category ids of {results_path!r} match '
                f'those of {ground_truth_path!r}, and start at the same '
                'number?',
                ImplausibleDataWarning,
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
        # The labels of a YOLO folder are those of the ground truth.
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
            [category['id'] for category in categories])
    return ground_truth, detections, categories


def _with_known_images(results: Any, annotations: Record) -> Any:
    """Replace numeric image ids by the file names of the annotations.

    Ultralytics writes the id 7 for ``0007.jpg``, whose id here is '0007'.
    """
    if not isinstance(results, list):
        return results  # raises an error later
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


def _describe(folder: str) -> str:
    """Describe the content of a folder without labels, for a message."""
    entries = sorted(os.listdir(folder))
    if not entries:
        return 'that is empty'
    if all(osp.isdir(osp.join(folder, entry)) for entry in entries):
        first = osp.join(folder, entries[0])
        return f'that contains only folders; did you mean {first!r}?'
    return f'with {entries[0]!r} and no such files'
