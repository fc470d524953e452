"""Types of detection errors, and the AP that each type costs (TIDE).

Shapes:
    G: objects of the ground truth
    D: detections
    K: classes

Names:
    free object: object without a matching true positive
    target: free object that a false positive would match if its class or its
        box were right
"""
from dataclasses import dataclass
from typing import Any, Dict, Sequence, Tuple

import numpy as np

from tcal_det.checks import check_choice, check_fraction
from tcal_det.errors import InvalidValueError
from .array_checks import check_same_length
from .box_pairs import BoxPairs, _narrowed, is_first_of_run
from .coco_arrays import (Detections, GroundTruth, check_detections,
                          check_ground_truth)
from .image_pairs import image_pairs
from .matching import FALSE_POSITIVE, DetectionMatches, check_matches
from .precision_table import RECALL_THRS
from .undefined_values import mean_of_defined

DETECTION_ERRORS = ('classification', 'localization', 'both', 'duplicate',
                    'background')
ERROR_TYPES = DETECTION_ERRORS + ('missed', )
_CLASSIFICATION, _LOCALIZATION = 0, 1


@dataclass(frozen=True, eq=False)
class ErrorSplit:
    """Errors of a detector by type, and the AP that each type costs.

    Attributes:
        iou_thr (float): IoU threshold of a match.
        background_iou_thr (float): Largest IoU of a detection on background.
        ap (float): COCO AP at ``iou_thr``, mean over classes with objects;
            NaN if there are none.
        num_errors (dict[str, int]): Number of false positives of each of
            ``DETECTION_ERRORS``, and number of 'missed' objects, which no
            error of another type explains.
        d_ap (dict[str, float]): AP gained if all errors of one type, and no
            others, were corrected; never negative, NaN where no class is left.
        d_ap_false_positive (float): AP gained if every true positive had a
            higher score than every false positive.
        d_ap_false_negative (float): AP gained if unmatched objects were
            removed.
        per_class (dict[str, ndarray]): ``num_errors`` of each class, by the
            class of the detection or of the missed object, shape (K,).
        error_type (ndarray): Index into ``DETECTION_ERRORS`` of each false
            positive, -1 for other detections, int8, shape (D,).
        is_missed (ndarray): Whether each object is 'missed', boolean, shape
            (G,).
    """
    iou_thr: float
    background_iou_thr: float
    ap: float
    num_errors: Dict[str, int]
    d_ap: Dict[str, float]
    d_ap_false_positive: float
    d_ap_false_negative: float
    per_class: Dict[str, np.ndarray]
    error_type: np.ndarray
    is_missed: np.ndarray
    _curve_data: '_CurveData'

    def ap_when_fixed(self, types: Sequence[str]) -> float:
        """AP if the errors of several types were corrected together.

        With all of ``ERROR_TYPES`` it is 1.

        Args:
            types (Sequence[str]): Error types, any of ``ERROR_TYPES``.

        Raises:
            InvalidValueError: If a type is unknown.
        """
        for error_type in types:
            check_choice('types', error_type, ERROR_TYPES)
        return self._curve_data.when_fixed(types)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists, without arrays of detections."""
        return dict(
            iou_thr=self.iou_thr,
            background_iou_thr=self.background_iou_thr,
            ap=self.ap,
            num_errors=dict(self.num_errors),
            d_ap=dict(self.d_ap),
            d_ap_false_positive=self.d_ap_false_positive,
            d_ap_false_negative=self.d_ap_false_negative,
            per_class={
                name: counts.tolist()
                for name, counts in self.per_class.items()
            })


def error_split(ground_truth: GroundTruth,
                detections: Detections,
                matches: DetectionMatches,
                background_iou_thr: float = 0.1) -> ErrorSplit:
    """Split errors as TIDE does, with COCO's matching and AP.

    A false positive gets the first of these types whose condition holds.
    "Same" is the largest IoU with an object of its class, "other" the largest
    IoU with an object of another class, both in its image, whether free or
    not:

    - localization: background_iou_thr <= same <= iou_thr
    - classification: other >= iou_thr
    - duplicate: same >= iou_thr
    - background: same and other <= background_iou_thr
    - both: all others

    A localization or classification error points to the object with this
    largest IoU. If that object is free, the highest-scoring error that points
    to it is corrected to a true positive of the object's class. All other
    false positives are corrected by removal. A free object to which no error
    points is missed; it is corrected by removing it from the number of
    objects. If a class then has neither objects nor detections, it is not part
    of the mean; a class with detections only has AP 0.

    The rules and figures are those of tidecv 1.0.1 (which multiplies by 100),
    except where it differs from COCOeval, with which all other figures of this
    package agree:

    - detections on crowds are not errors here; tidecv counts them;
    - the best 100 detections of each image *and class* are used here; in
      tidecv, of each image;
    - among objects of equal IoU a detection matches the later one here; in
      tidecv, the earlier one;
    - detections of equal score keep their order here; in tidecv, false
      positives come first after a correction, so that its gains can differ;
    - classes without objects are not part of the mean here, but their
      detections are counted as errors; in tidecv, a class with detections only
      has AP 0;
    - recall levels are those of COCOeval here; ten of them differ from
      tidecv's by one rounding step, so that AP may differ if a class reaches
      exactly these.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        matches (DetectionMatches): Matches of these detections at the required
            IoU threshold, usually 0.5.
        background_iou_thr (float): Largest IoU of a detection on background,
            in (0, ``matches.iou_thr``]. Defaults to 0.1.

    Returns:
        ErrorSplit: Counts and AP gained.

    Raises:
        InvalidTypeError: If the threshold is not a number.
        InvalidValueError: If the threshold is out of range, or the matches do
            not belong to these detections.

    Reference:
        Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
        Errors", ECCV 2020.
    """
    check_ground_truth(ground_truth)
    check_detections(detections)
    check_matches(matches)
    check_fraction('background_iou_thr', background_iou_thr)
    if not 0 < background_iou_thr <= matches.iou_thr:
        raise InvalidValueError(
            '`background_iou_thr` must be in (0, iou_thr], with the matches\' '
            f'iou_thr {matches.iou_thr}, but got {background_iou_thr}')
    check_same_length('matches.scores', matches.scores, 'detections',
                      detections)

    is_fp = matches.status == FALSE_POSITIVE
    pairs = image_pairs(ground_truth, detections, is_fp)
    is_same = (
        detections.class_index[pairs.detection] == ground_truth.class_index[
            pairs.object])
    same, same_object = _best(pairs.select(is_same), len(detections))
    other, other_object = _best(pairs.select(~is_same), len(detections))
    error_type = _error_types(same, other, matches.iou_thr, background_iou_thr)
    error_type[~is_fp] = -1

    is_free = ~ground_truth.iscrowd
    is_free[matches.object_index[matches.is_tp]] = False
    target = np.select(
        [error_type == _LOCALIZATION, error_type == _CLASSIFICATION],
        [same_object, other_object], -1)
    has_target = target >= 0
    has_target[has_target] = is_free[target[has_target]]
    # COCO's order: by score, then image, then file.
    order = np.lexsort((detections.image_index, -detections.scores))
    targeting = order[has_target[order]]
    target_objects, first = np.unique(target[targeting], return_index=True)
    corrected_class = np.full(len(detections), -1)
    corrected_class[
        targeting[first]] = ground_truth.class_index[target_objects]
    is_missed = is_free.copy()
    is_missed[target_objects] = False

    num_classes = ground_truth.num_classes
    per_class = {
        name:
        np.bincount(
            detections.class_index[error_type == code], minlength=num_classes)
        for code, name in enumerate(DETECTION_ERRORS)
    }
    per_class['missed'] = np.bincount(
        ground_truth.class_index[is_missed], minlength=num_classes)

    counted = order[matches.is_counted[order]]
    curve_data = _CurveData(detections.class_index[counted],
                            error_type[counted], corrected_class[counted],
                            ground_truth.num_objects, per_class['missed'])
    ap = curve_data.when_fixed(())
    return ErrorSplit(
        iou_thr=matches.iou_thr,
        background_iou_thr=float(background_iou_thr),
        ap=ap,
        num_errors={
            name: int(counts.sum())
            for name, counts in per_class.items()
        },
        d_ap={
            name: curve_data.when_fixed([name]) - ap
            for name in ERROR_TYPES
        },
        d_ap_false_positive=curve_data.without_false_positives() - ap,
        d_ap_false_negative=curve_data.without_false_negatives() - ap,
        per_class=per_class,
        error_type=error_type,
        is_missed=is_missed,
        _curve_data=curve_data)


def _error_types(same: np.ndarray, other: np.ndarray, iou_thr: float,
                 background_iou_thr: float) -> np.ndarray:
    """Find the first type whose condition holds, int8, shape (D,)."""
    conditions = dict(
        localization=(background_iou_thr <= same) & (same <= iou_thr),
        classification=other >= iou_thr,
        duplicate=same >= iou_thr,
        background=np.maximum(same, other) <= background_iou_thr,
        both=np.ones(len(same), dtype=bool))
    codes = [DETECTION_ERRORS.index(name) for name in conditions]
    return np.select(list(conditions.values()), codes).astype(np.int8)


def _best(pairs: BoxPairs,
          num_detections: int) -> Tuple[np.ndarray, np.ndarray]:
    """Find the largest IoU of each detection, and its object.

    Returns:
        tuple[ndarray, ndarray]: Largest IoU, 0 without pairs; and index of its
        object, the first among equal IoUs, -1 without pairs; shape (D,) each.
    """
    iou = np.zeros(num_detections)
    start = np.flatnonzero(is_first_of_run(pairs.detection))
    iou[pairs.detection[start]] = np.maximum.reduceat(pairs.iou, start)
    is_best = np.flatnonzero(pairs.iou == iou[pairs.detection])[::-1]
    best = np.full(num_detections, -1)
    # For repeated indices numpy keeps the last value: here the first object,
    # as the order is reversed.
    best[pairs.detection[is_best]] = pairs.object[is_best]
    return iou, best


@dataclass(frozen=True, eq=False)
class _CurveData:
    """Data from which AP is computed, after any correction.

    Attributes:
        class_index (ndarray): Class of each counted detection, by descending
            score.
        error_type (ndarray): Index of the error type, -1 for a true positive.
        corrected_class (ndarray): Class of the true positive that a
            correction makes of the detection; -1 if the correction removes it.
        num_objects (ndarray): Number of objects of each class, shape (K,).
        num_missed (ndarray): Number of missed objects of each class, shape
            (K,).
    """
    class_index: np.ndarray
    error_type: np.ndarray
    corrected_class: np.ndarray
    num_objects: np.ndarray
    num_missed: np.ndarray

    def when_fixed(self, types: Sequence[str]) -> float:
        """AP if the errors of these types were corrected."""
        codes = [
            code for code, name in enumerate(DETECTION_ERRORS) if name in types
        ]
        is_fixed = np.isin(self.error_type, codes)
        is_kept = ~is_fixed | (self.corrected_class >= 0)
        is_tp = is_fixed | (self.error_type < 0)
        class_index = np.where(is_fixed, self.corrected_class,
                               self.class_index)
        num_objects = self.num_objects - (
            self.num_missed if 'missed' in types else 0)
        return self._ap(class_index[is_kept], is_tp[is_kept], num_objects)

    def without_false_positives(self) -> float:
        """AP with true positives ranked before false positives."""
        is_tp = self.error_type < 0
        order = np.argsort(~is_tp, kind='stable')
        return self._ap(self.class_index[order], is_tp[order],
                        self.num_objects)

    def without_false_negatives(self) -> float:
        """AP with as many objects as true positives."""
        is_tp = self.error_type < 0
        num_found = np.bincount(
            self.class_index[is_tp], minlength=len(self.num_objects))
        return self._ap(self.class_index, is_tp, num_found)

    def _ap(self, class_index: np.ndarray, is_tp: np.ndarray,
            num_objects: np.ndarray) -> float:
        """Mean over the classes that had objects before the correction."""
        num_detections = np.bincount(class_index, minlength=len(num_objects))
        by_class = is_tp[np.argsort(_narrowed(class_index), kind='stable')]
        end = np.cumsum(num_detections)
        ap = np.full(len(num_objects), np.nan)
        for k in np.flatnonzero(self.num_objects):
            if num_objects[k] > 0:
                ap[k] = _average_precision(
                    by_class[end[k] - num_detections[k]:end[k]],
                    num_objects[k])
            elif num_detections[k] > 0:
                ap[k] = 0.0
        return mean_of_defined(ap)


def _average_precision(is_tp: np.ndarray, num_objects: int) -> float:
    """Mean over recall levels of the best precision at this recall or more."""
    num_tp = np.cumsum(is_tp)
    precision = num_tp / np.arange(1, len(is_tp) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(num_tp / num_objects, RECALL_THRS, side='left')
    return float(np.append(precision, 0.0)[place].mean())
