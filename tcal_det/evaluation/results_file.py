"""Reading of annotation and results files: COCO JSON and mmdet pickle."""
import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import (ImplausibleDataWarning, InvalidTypeError,
                             InvalidValueError, MissingFileError,
                             TcalDetWarning, UserError)
from tcal_det.restricted_pickle import load_plain_pickle
from .functional import (Detections, GroundTruth, detections_from_coco,
                         ground_truth_from_coco)
from .functional.record_ids import is_id, positions
from .json_reading import collector_paused, iter_record_blocks, load_json
from .plausibility import check_labels
from .predicted_instances import class_probability_rows, predicted_instances

PICKLE_SUFFIXES = ('.pkl', '.pickle')
CLASSES_REMEDY = ('name the classes that the detector knows with --classes; '
                  'its labels count these in the order of the annotations')
Record = Dict[str, Any]


def read_json(path: str, what: str) -> Any:
    """Read a JSON file, or raise an error with a one-line message.

    Args:
        path (str): Path to the file.
        what (str): Name of the content in messages, e.g. 'annotations'.

    Returns:
        Any: Content of the file.

    Raises:
        MissingFileError: If there is no such file.
        InvalidValueError: If the file is truncated or not JSON.
    """
    try:
        return load_json(path)
    except FileNotFoundError:
        raise MissingFileError(f'{what} {path!r} does not exist') from None
    except OSError as error:
        raise InvalidValueError(
            f'{what} {path!r} cannot be read: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        # A truncated file and a file that is not text both raise ValueError.
        raise InvalidValueError(
            f'{what} {path!r} cannot be read as JSON ({error}); was the file '
            'written completely?') from None


@contextmanager
def naming_file(path: str) -> Iterator[None]:
    """Add the name of the file to the messages of errors in its content.

    Args:
        path (str): Path to the file that the content was read from.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(f'{error} (in {path!r})') from None


def read_annotations_and_results(
    ground_truth_path: str,
    results_path: str,
    class_names: Optional[Sequence[str]] = None
) -> Tuple[GroundTruth, Detections, List[Record]]:
    """Read ground truth and detections.

    As with ``catIds`` of COCOeval, detections of a category that is not chosen
    are left out; a category that is not in the annotations is an error.

    Args:
        ground_truth_path (str): Path to the COCO annotations.
        results_path (str): Path to the results, see :func:`read_results`.
        class_names (Sequence[str], optional): Names of the classes to keep;
            the labels of a pickle are indices into them. Defaults to None,
            which means all categories.

    Returns:
        tuple[GroundTruth, Detections, list[Record]]: Ground truth and
        detections of the chosen classes, and their categories by label.

    Raises:
        UserError: If a file, a record or a class name is wrong.
    """
    annotations = read_json(ground_truth_path, 'ground truth')
    with naming_file(ground_truth_path):
        # Checks the categories before they are used below.
        ground_truth = ground_truth_from_coco(annotations)
        check_class_names(annotations, class_names)
    categories = categories_by_label(annotations, class_names)
    category_ids = [category['id'] for category in categories]
    if class_names is None:
        # Freed, as the records use most of the memory.
        annotations = None
    detections = _detections_in_blocks(results_path, ground_truth)
    if detections is None:
        results = read_results(results_path, category_ids,
                               ground_truth.image_ids)
        with naming_file(results_path):
            detections = detections_from_coco(results, ground_truth)
            if results_path.endswith(PICKLE_SUFFIXES):
                check_labels(ground_truth, detections, CLASSES_REMEDY)
        if class_names is None and results_path.endswith(PICKLE_SUFFIXES):
            _warn_of_few_labels(results, category_ids)
    if class_names is not None:
        ground_truth, detections = keep_classes(annotations, ground_truth,
                                                detections, category_ids)
    return ground_truth, detections, categories


def _detections_in_blocks(path: str,
                          ground_truth: GroundTruth) -> Optional[Detections]:
    """Read detections of a JSON file in blocks, to save memory.

    Returns:
        Detections, optional: Detections; None if the file has another format
        or contains an error. Reading the whole file then raises the error.
    """
    if path.endswith(PICKLE_SUFFIXES):
        return None
    parts = []
    try:
        with collector_paused():
            for records in iter_record_blocks(path):
                parts.append(detections_from_coco(records, ground_truth))
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    return Detections(*(np.concatenate(columns)
                        for columns in zip(*(vars(part).values()
                                             for part in parts))))


def keep_classes(
        annotations: Record, ground_truth: GroundTruth, detections: Detections,
        category_ids: Sequence[Any]) -> Tuple[GroundTruth, Detections]:
    """Keep only the objects and detections of some classes.

    Args:
        annotations (Record): Checked content of an annotation file.
        ground_truth (GroundTruth): All objects of the file.
        detections (Detections): Detections of all categories of the file.
        category_ids (Sequence[Any]): Ids of the categories to keep.

    Returns:
        tuple[GroundTruth, Detections]: Ground truth and detections, with class
        indices that count the kept classes.
    """
    known_ids = ground_truth.category_ids
    ground_truth = ground_truth_from_coco(
        annotations, category_ids=category_ids)
    is_chosen = np.isin(known_ids, ground_truth.category_ids)
    kept = is_chosen[detections.class_index]
    return ground_truth, Detections(
        detections.image_index[kept],
        # Class indices count the chosen classes instead of all classes.
        (np.cumsum(is_chosen) - 1)[detections.class_index[kept]],
        detections.boxes[kept],
        detections.scores[kept])


def read_results(path: str,
                 category_ids: Sequence[Any],
                 image_ids: Optional[np.ndarray] = None,
                 with_class_probs: bool = False) -> List[Record]:
    """Read detections of any framework as COCO results records.

    Args:
        path (str): Path to a COCO results file, or to a pickle that mmdet's
            ``tools/test.py --out`` wrote; code in the pickle is not run.
        category_ids (Sequence[Any]): Category id of each label, for a pickle,
            which has labels only.
        image_ids (ndarray, optional): ``GroundTruth.image_ids``, which must
            include the images of a pickle, with or without detections.
            Defaults to None, which allows any images.
        with_class_probs (bool): Whether the records of a pickle get 'scores',
            the probabilities of all classes. Defaults to False.

    Returns:
        list[Record]: Records with 'image_id', 'category_id', 'bbox' and
        'score'. The content of a JSON file is not checked here, but by
        :func:`detections_from_coco`.

    Raises:
        MissingFileError: If there is no such file.
        InvalidValueError: If the file cannot be read in this format.
    """
    if not str(path).endswith(PICKLE_SUFFIXES):
        return read_json(path, 'results')
    samples = _read_pickle(path)
    with naming_file(path):
        records = records_from_samples(samples, category_ids, with_class_probs)
        if image_ids is not None:
            positions([sample['img_id'] for sample in samples], image_ids,
                      'results', 'img_id')
            if len(samples) < len(image_ids):
                warnings.warn(
                    f'the results are of {len(samples)} of the '
                    f'{len(image_ids)} images of the annotations; objects in '
                    'the others count as missed',
                    TcalDetWarning,
                    stacklevel=2)
        return records


def records_from_samples(samples: Sequence[Record],
                         category_ids: Sequence[Any],
                         with_class_probs: bool = False) -> List[Record]:
    """Convert data samples to COCO results records, as CocoMetric does.

    Boxes become x, y, width, height in float64, and the scores of the model
    are converted to float64.

    Args:
        samples (Sequence[Record]): Data sample of each image, with 'img_id'
            and 'pred_instances', see :func:`predicted_instances`.
        category_ids (Sequence[Any]): Category id of each label.
        with_class_probs (bool): Whether the records get 'scores', see
            :func:`class_probability_rows`. Defaults to False.

    Raises:
        InvalidTypeError: If a sample has another type.
        InvalidValueError: If a sample is wrong or an image occurs twice.
    """
    records = []
    image_ids = []
    for number, sample in enumerate(samples):
        try:
            sample.keys()  # indexing a tensor by a text raises odd errors
            image_id, pred = sample['img_id'], sample['pred_instances']
        except (AttributeError, KeyError):
            raise InvalidTypeError(
                f'`results[{number}]` of a pickle must have `img_id` and '
                "`pred_instances`, as mmdet 3.x's tools/test.py --out writes "
                f'it, but got {shortened(sample)}') from None
        if not is_id(image_id):
            raise InvalidTypeError(
                f'`results[{number}]`: `img_id` must be a whole number or a '
                f'text, as in the annotations, but got {shortened(image_id)}')
        where = f'`results[{number}]` (image {shortened(image_id)})'
        found = predicted_instances(pred, where, len(category_ids))
        if isinstance(image_id, np.generic):
            # JSON does not support numpy numbers.
            image_id = image_id.item()
        image_ids.append(image_id)
        records += [
            dict(
                image_id=image_id,
                category_id=category_ids[label],
                bbox=box,
                score=score)
            for box, score, label in zip(*(part.tolist() for part in found))
        ]
        if with_class_probs:
            rows = class_probability_rows(pred, where, len(found.scores))
            for record, row in zip(records[len(records) - len(rows):], rows):
                record['scores'] = row.tolist()
    check_each_image_once(image_ids, 'results')
    return records


def check_each_image_once(image_ids: Sequence[Any], list_name: str) -> None:
    """Raise if an image occurs twice, as its detections would count twice.

    Args:
        image_ids (Sequence[Any]): Image of each prediction, in order.
        list_name (str): Name of the list, for the message.
    """
    first_place: Dict[Any, int] = {}
    for place, image_id in enumerate(image_ids):
        if image_id in first_place:
            raise InvalidValueError(
                f'`{list_name}` must have each image once, but '
                f'`{list_name}[{first_place[image_id]}]` and '
                f'`{list_name}[{place}]` are both image '
                f'{shortened(image_id)}; were several runs joined, or does '
                'the data set list it twice?')
        first_place[image_id] = place


def categories_by_label(
        annotations: Record,
        class_names: Optional[Sequence[str]] = None) -> List[Record]:
    """Get the category of each label of an mmdet detector.

    As in mmdet's CocoDataset and CocoMetric, these are the categories, in file
    order, whose name is among the classes of the data set.

    Args:
        annotations (Record): Checked content of an annotation file.
        class_names (Sequence[str], optional): Class names of the data set,
            ``metainfo['classes']``. Defaults to None, which means all
            categories.

    Returns:
        list[Record]: One category for each label.
    """
    return [
        category for category in annotations['categories']
        if class_names is None or category.get('name') in class_names
    ]


def check_class_names(annotations: Record,
                      class_names: Optional[Sequence[str]]) -> None:
    """Raise unless every class name is a category of the annotations."""
    known = [category.get('name') for category in annotations['categories']]
    unknown = [name for name in class_names or () if name not in known]
    if unknown:
        raise InvalidValueError(
            f'the classes must be categories of the annotations ({known[:5]}'
            f'{"..." if len(known) > 5 else ""}), but got {unknown[0]!r}')


def _warn_of_few_labels(records: Sequence[Record],
                        category_ids: Sequence[Any]) -> None:
    """Warn if the largest label is far below the number of categories.

    The labels of a detector of some of the classes are indices into these
    classes. Without their names its labels mean other categories.
    """
    label_of = {
        category_id: label
        for label, category_id in enumerate(category_ids)
    }
    used = [label_of[record['category_id']] for record in records]
    if used and max(used) + 1 <= len(category_ids) / 2:
        warnings.warn(
            f'the results have labels up to {max(used)}, which are used as '
            f'the first {max(used) + 1} of {len(category_ids)} categories; if '
            'the detector knows fewer classes than the annotations, name them '
            'with --classes',
            ImplausibleDataWarning,
            stacklevel=3)


def _read_pickle(path: str) -> Sequence[Record]:
    try:
        with open(path, 'rb') as file:
            samples = load_plain_pickle(file)
    except FileNotFoundError:
        raise MissingFileError(f'results {path!r} does not exist') from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InvalidValueError(
            f'results {path!r} cannot be unpickled ({error}); was the file '
            'written completely?') from None
    if not isinstance(samples, (list, tuple)):
        raise InvalidTypeError(
            f'results {path!r} must hold a list of samples, as '
            f"mmdet's tools/test.py --out writes it, but holds a "
            f'{type(samples).__name__}')
    return samples
