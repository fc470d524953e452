"""Class probabilities of detections in pickles and COCO results files.

In a COCO results file, the probabilities of a detection are the list
``scores`` of its record, in addition to ``score``: K numbers, or K + 1 with
the background class last. The columns are the categories that the detector
knows, in the order of the annotation file. In a pickle of ``tools/test.py
--out``, they are ``pred_instances.class_probs``.
"""
import warnings
from itertools import chain
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tcal_det.checks import shortened
from tcal_det.errors import InvalidTypeError, InvalidValueError, TcalDetWarning
from tcal_det.fileio import write_json_atomically
from .functional import (Detections, GroundTruth, detections_from_coco,
                         ground_truth_from_coco)
from .functional.array_checks import are_numbers
from .functional.class_probability_calibration import (
    ClassProbabilityCalibration, class_probability_calibration)
from .functional.record_fields import field_column
from .functional.record_ids import positions
from .results_file import (categories_by_label, check_class_names, naming_file,
                           read_json, read_results)

# A larger share of rows whose most probable class differs from the category of
# the record gives a warning.
LARGEST_SHARE_OF_OTHER_CLASSES = 0.5


def class_probabilities_from_coco(results: Sequence[Mapping[str, Any]],
                                  category_ids: Sequence[Any],
                                  ground_truth: GroundTruth) -> np.ndarray:
    """Check the rows ``scores`` of COCO results records.

    The most probable class of a row need not be the class of its record,
    because a detector can return a box for several classes. If it differs in
    most of the rows, a warning says that the columns may have another order.

    Args:
        results (Sequence[Mapping[str, Any]]): Records with 'scores' and
            'category_id', in the format of :func:`detections_from_coco`.
        category_ids (Sequence[Any]): Category id of each of the K columns.
        ground_truth (GroundTruth): Ground truth with these categories.

    Returns:
        ndarray: Probabilities, float64, shape (D, K) or (D, K + 1), with
        columns in the order of ``ground_truth.category_ids``, background last.

    Raises:
        InvalidTypeError: If a row is not a list of numbers.
        InvalidValueError: If a record has no row, or a row has another length
            or a value out of range; the message names the record.
    """
    num_classes = len(category_ids)
    rows = field_column(results, 'results', 'scores')
    length = len(rows[0]) if rows and _is_row(rows[0]) else num_classes
    for number, row in enumerate(rows):
        if not _is_row(row):
            raise InvalidTypeError(
                f'`results[{number}]`: `scores` must be a list of numbers in '
                f'[0, 1], one for each class, but got {shortened(row)}')
        if len(row) != length or length - num_classes not in (0, 1):
            raise InvalidValueError(
                f'`results[{number}]`: `scores` must have {num_classes} '
                f'numbers, one for each class, or {num_classes + 1} with '
                'background last, and as many in each record, but got '
                f'{len(row)}: were the results made for the same classes?')
    probs = np.fromiter(
        chain.from_iterable(rows), np.float64,
        len(rows) * length).reshape(-1, length)
    # Written so that NaN fails it.
    is_valid = ((probs >= 0) & (probs <= 1)).all(axis=1)
    if not is_valid.all():
        number = int(np.argmin(is_valid))
        raise InvalidValueError(
            f'`results[{number}]`: `scores` must be in [0, 1], but got '
            f'{shortened(rows[number])}; write probabilities, not logits')
    ordered = probs.copy()
    ordered[:,
            positions(category_ids, ground_truth.category_ids, 'categories',
                      'category_id')] = probs[:, :num_classes]
    _warn_of_other_classes(results, ordered, ground_truth)
    return ordered


def _is_row(row: Any) -> bool:
    return isinstance(row, (list, tuple)) and are_numbers(row)


def _warn_of_other_classes(results: Sequence[Mapping[str,
                                                     Any]], probs: np.ndarray,
                           ground_truth: GroundTruth) -> None:
    if len(probs) == 0:
        return
    class_index = positions(
        field_column(results, 'results', 'category_id'),
        ground_truth.category_ids, 'results', 'category_id')
    largest = probs[:, :ground_truth.num_classes].max(axis=1)
    share = float(np.mean(probs[np.arange(len(probs)), class_index] < largest))
    if share > LARGEST_SHARE_OF_OTHER_CLASSES:
        warnings.warn(
            f'for {share:.0%} of the detections the most probable class in '
            '`scores` differs from `category_id`: are the columns the '
            'categories in the order of the annotation file?',
            TcalDetWarning,
            stacklevel=3)


def read_class_probabilities(
    ground_truth_path: str,
    results_path: str,
    class_names: Optional[Sequence[str]] = None
) -> Tuple[GroundTruth, Detections, np.ndarray]:
    """Read annotations, detections and their class probabilities.

    Args:
        ground_truth_path (str): Path to the COCO annotations.
        results_path (str): Path to COCO results with ``scores``, or to a
            pickle of a detector with ``class_probabilities=True``.
        class_names (Sequence[str], optional): Names of the classes that the
            detector knows. Defaults to None, which means all categories.

    Returns:
        tuple[GroundTruth, Detections, ndarray]: Ground truth, detections and
        their class probabilities, shape (D, K) or (D, K + 1), see
        :func:`class_probabilities_from_coco`.

    Raises:
        UserError: If a file, a record or a class name is wrong.
    """
    annotations, category_ids, ground_truth = _read_annotations(
        ground_truth_path, class_names)
    results = read_results(
        results_path,
        category_ids,
        ground_truth.image_ids,
        with_class_probs=True)
    with naming_file(results_path):
        detections = detections_from_coco(results, ground_truth)
        probs = class_probabilities_from_coco(results, category_ids,
                                              ground_truth)
    return ground_truth, detections, probs


def _read_annotations(
    path: str, class_names: Optional[Sequence[str]]
) -> Tuple[Mapping[str, Any], List[Any], GroundTruth]:
    annotations = read_json(path, 'ground truth')
    with naming_file(path):
        # Checks the categories before they are used below.
        ground_truth = ground_truth_from_coco(annotations)
        check_class_names(annotations, class_names)
    category_ids = [
        category['id']
        for category in categories_by_label(annotations, class_names)
    ]
    if class_names is not None:
        ground_truth = ground_truth_from_coco(
            annotations, category_ids=category_ids)
    return annotations, category_ids, ground_truth


def evaluate_class_probabilities(
        ground_truth_path: str,
        results_path: str,
        class_names: Optional[Sequence[str]] = None,
        **options: Any) -> ClassProbabilityCalibration:
    """Compute calibration figures of the class probabilities in a file.

    Args:
        ground_truth_path (str): Path to the COCO annotations.
        results_path (str): Path to the results, see
            :func:`read_class_probabilities`.
        class_names (Sequence[str], optional): Names of the classes that the
            detector knows. Defaults to None, which means all categories.
        **options: Options of :func:`class_probability_calibration`.

    Returns:
        ClassProbabilityCalibration: Calibration figures.

    Raises:
        UserError: If a file, a record or an option is wrong.
    """
    return class_probability_calibration(
        *read_class_probabilities(ground_truth_path, results_path,
                                  class_names), **options)


def write_results_with_class_probabilities(
        ground_truth_path: str,
        results_path: str,
        out: str,
        class_names: Optional[Sequence[str]] = None) -> int:
    """Write the detections of a pickle as COCO results with ``scores``.

    Args:
        ground_truth_path (str): Path to the COCO annotations with the
            categories.
        results_path (str): Path to a pickle of a detector with
            ``class_probabilities=True``.
        out (str): Path to the JSON file, which is written atomically.
        class_names (Sequence[str], optional): Names of the classes that the
            detector knows. Defaults to None, which means all categories.

    Returns:
        int: Number of detections.

    Raises:
        UserError: If a file, a record or a class name is wrong.
    """
    _, category_ids, ground_truth = _read_annotations(ground_truth_path,
                                                      class_names)
    results = read_results(
        results_path,
        category_ids,
        ground_truth.image_ids,
        with_class_probs=True)
    write_json_atomically(out, results, indent=None)
    return len(results)
