"""Recalibration of a detector's scores: fit on one split, apply to another.

Shapes:
    D: detections
    K: classes, in the order of the detector's labels
"""
import math
import warnings
from dataclasses import dataclass
from typing import (Any, Callable, Dict, List, Mapping, Optional, Sequence,
                    Tuple, Union)

import numpy as np

from tcal_det.checks import (check_choice, check_fraction, check_iou_thr,
                             shortened)
from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             TcalDetWarning, UserError)
from tcal_det.evaluation.functional import (DetectionMatches, Detections,
                                            GroundTruth, detections_from_coco,
                                            ground_truth_from_coco,
                                            match_at_thresholds, olrp)
from tcal_det.evaluation.functional.array_checks import as_unit_interval
from tcal_det.evaluation.functional.coco_arrays import (check_detections,
                                                        check_ground_truth)
from tcal_det.evaluation.functional.record_ids import is_id
from tcal_det.evaluation.results_file import Record, read_json
from .methods import METHODS, AnyMap, apply_map, fit_map, map_from_dict
from .size_dependent_map import relative_areas

# Quantity that a recalibrated score estimates, with the default IoU threshold
# of the matching: precision (D-ECE), or precision times IoU (LaECE_0).
TARGETS = dict(precision=0.5, precision_x_iou=0.0)
# A class with fewer counted detections uses the map of all classes.
FEWEST_DETECTIONS = 20
REFIT = 'fit it with `tcal-recalibrate fit`'


@dataclass(frozen=True)
class ClassRecalibration:
    """Score threshold and map of one class.

    Attributes:
        category_id (Any): Id of the category in COCO files.
        name (str): Name of the category.
        score_thr (float, optional): Score threshold; detections with a lower
            original score are left out. Defaults to None, no threshold.
        score_map (AnyMap, optional): Map of this class. Defaults to None, the
            map of all classes.
    """
    category_id: Any
    name: str
    score_thr: Optional[float] = None
    score_map: Optional[AnyMap] = None


@dataclass(frozen=True)
class Recalibration:
    """Score thresholds and maps, fitted on one split for use on others.

    Attributes:
        settings (dict[str, Any]): Options of the fit, and the numbers of its
            images and detections.
        score_map (AnyMap): Map of all classes together.
        classes (tuple[ClassRecalibration, ...]): Score threshold and map of
            each class in the order of the labels, length K.
    """
    settings: Dict[str, Any]
    score_map: AnyMap
    classes: Tuple[ClassRecalibration, ...]

    @property
    def score_thresholds(self) -> Dict[Any, Optional[float]]:
        """Score thresholds by category id, for `evaluate_detections`."""
        return {entry.category_id: entry.score_thr for entry in self.classes}

    def recalibrate(
        self,
        scores: np.ndarray,
        labels: np.ndarray,
        relative_areas: Optional[np.ndarray] = None
    ) -> Tuple[np.ndarray, np.ndarray]:
        """Recalibrate the scores of detections.

        Args:
            scores (ndarray): Original scores in [0, 1], shape (D,).
            labels (ndarray): Class labels in [0, K), shape (D,).
            relative_areas (ndarray, optional): Areas of the boxes as
                fractions of their images, shape (D,). Required by a map that
                depends on the box size. Defaults to None.

        Returns:
            tuple[ndarray, ndarray]: Recalibrated scores, float64, and a
            boolean mask of the detections that reach the threshold of their
            class, both of shape (D,).

        Raises:
            InvalidTypeError: If a score is not a number.
            InvalidValueError: If a score is NaN or outside [0, 1], a label
                is outside [0, K), or areas are required but not given.
        """
        scores = as_unit_interval('scores', scores)
        labels = np.asarray(labels, dtype=np.int64)
        has_no_class = (labels < 0) | (labels >= len(self.classes))
        if has_no_class.any():
            raise InvalidValueError(
                f'labels must be below {len(self.classes)}, the number of '
                'classes of the recalibration, and not negative, but got '
                f'{labels[has_no_class.argmax()]}: '
                f'{REFIT} for the classes of this detector')
        recalibrated = apply_map(self.score_map, scores, relative_areas)
        for label, entry in enumerate(self.classes):
            if entry.score_map is not None:
                members = labels == label
                areas = None if relative_areas is None else relative_areas[
                    members]
                recalibrated[members] = apply_map(entry.score_map,
                                                  scores[members], areas)
        # NaN for no threshold: every comparison with it is false.
        thresholds = np.array([
            np.nan if entry.score_thr is None else entry.score_thr
            for entry in self.classes
        ])
        return recalibrated, ~(scores < thresholds[labels])

    def apply(self, detections: Detections,
              ground_truth: GroundTruth) -> Detections:
        """Recalibrate detections.

        Args:
            detections (Detections): Detections with original scores.
            ground_truth (GroundTruth): Images and classes that the detections
                refer to; categories are identified by their ids.

        Returns:
            Detections: Detections in the same order with new scores, without
            those below the threshold of their class.

        Raises:
            InvalidTypeError: If an argument has another type.
            InvalidValueError: If the recalibration does not have the category
                of a detection, or needs an unknown image size.
        """
        check_detections(detections)
        check_ground_truth(ground_truth)
        label_of_id = {
            entry.category_id: label
            for label, entry in enumerate(self.classes)
        }
        label_of = np.array([
            label_of_id.get(category_id, -1)
            for category_id in ground_truth.category_ids.tolist()
        ],
                            dtype=np.int64)
        labels = label_of[detections.class_index]
        if (labels < 0).any():
            unknown = ground_truth.category_ids.tolist()[
                detections.class_index[labels.argmin()]]
            raise InvalidValueError(
                '`detections` must have categories of the recalibration '
                f'({shortened(list(label_of_id))}), but got '
                f'{shortened(unknown)}: {REFIT} for these categories')
        scores, is_kept = self.recalibrate(
            detections.scores, labels,
            relative_areas(detections.boxes,
                           ground_truth.image_sizes[detections.image_index]))
        return Detections(detections.image_index[is_kept],
                          detections.class_index[is_kept],
                          detections.boxes[is_kept], scores[is_kept])

    def apply_to_records(
        self,
        results: Sequence[Record],
        image_sizes: Optional[Mapping[Any, Tuple[float, float]]] = None
    ) -> List[Record]:
        """Recalibrate COCO results.

        Args:
            results (Sequence[Record]): Records of a COCO results file; not
                changed.
            image_sizes (Mapping[Any, tuple[float, float]], optional): Width
                and height of each image by image id. Required by a map that
                depends on the box size. Defaults to None.

        Returns:
            list[Record]: New records in the same order, without the
            detections below the threshold of their class. All fields but the
            score are kept.

        Raises:
            UserError: If a record is invalid or its category is unknown.
        """
        detections = self._checked(results)
        # `class_index` counts the sorted category ids; the order of the
        # labels can be another one.
        label_of = np.array(
            sorted(
                range(len(self.classes)),
                key=lambda label: self.classes[label].category_id))
        areas = None
        if image_sizes is not None:
            unknown = (math.nan, math.nan)
            sizes = [
                image_sizes.get(record['image_id'], unknown)
                for record in results
            ]
            areas = relative_areas(detections.boxes,
                                   np.reshape(sizes, (len(sizes), 2)))
        scores, is_kept = self.recalibrate(detections.scores,
                                           label_of[detections.class_index],
                                           areas)
        return [
            dict(record, score=score)
            for record, score, kept in zip(results, scores.tolist(), is_kept)
            if kept
        ]

    def _checked(self, results: Sequence[Record]) -> Detections:
        """Check the records and return them as arrays."""
        image_ids = [
            record.get('image_id')
            for record in (results if isinstance(results, list) else ())
            if isinstance(record, Mapping)
        ]
        # Invalid ids, and ids of another type than the first, are left out
        # here, so that the check below reports them.
        image_ids = {
            image_id
            for image_id in image_ids if is_id(image_id)
            and isinstance(image_id, str) == isinstance(image_ids[0], str)
        }
        known = ground_truth_from_coco(
            dict(
                images=[dict(id=image_id) for image_id in image_ids],
                categories=[
                    dict(id=entry.category_id) for entry in self.classes
                ],
                annotations=[]))
        return detections_from_coco(results, known)

    def to_json_dict(self) -> Dict[str, Any]:
        """JSON form, which :meth:`from_json_dict` reads."""
        return dict(
            settings=self.settings,
            recalibrator=self.score_map.to_json_dict(),
            classes=[
                dict(
                    category_id=entry.category_id,
                    name=entry.name,
                    score_thr=entry.score_thr,
                    recalibrator=entry.score_map
                    and entry.score_map.to_json_dict())
                for entry in self.classes
            ])

    @classmethod
    def from_json_dict(cls, content: Dict[str, Any]) -> 'Recalibration':
        """Build a recalibration from its JSON form.

        Args:
            content (dict[str, Any]): Result of :meth:`to_json_dict`.

        Raises:
            InvalidTypeError: If a value has the wrong type; the message
                names its key.
            InvalidValueError: If a key is missing or unknown, or a value is
                out of range; the message names the key.
        """
        try:
            _check_keys('a recalibration', content,
                        ('settings', 'recalibrator', 'classes'))
            if not isinstance(content['settings'], dict):
                raise InvalidTypeError('`settings` must be an object, but got '
                                       f'{shortened(content["settings"])}')
            return cls(
                settings=content['settings'],
                score_map=_read_part('recalibrator', map_from_dict,
                                     content['recalibrator']),
                classes=_read_classes(content['classes']))
        except UserError as error:
            raise type(error)(f'{error}: {REFIT}') from None

    @classmethod
    def from_file(cls, path: str) -> 'Recalibration':
        """Read a file that ``tcal-recalibrate fit`` wrote.

        Args:
            path (str): Path of the JSON file.

        Raises:
            MissingFileError: If the file does not exist.
            InvalidValueError: If the file does not contain a recalibration.
        """
        content = read_json(path, 'recalibration')
        try:
            return cls.from_json_dict(content)
        except UserError as error:
            raise InvalidValueError(f'{error} (in {path!r})') from None


def _read_classes(
        forms: List[Dict[str, Any]]) -> Tuple[ClassRecalibration, ...]:
    """Read the classes; their ids must be distinct and of one type."""
    if not isinstance(forms, list) or not forms:
        raise InvalidTypeError('`classes` must be a list of at least one '
                               f'class, but got {shortened(forms)}')
    classes = tuple(
        _read_part(f'classes[{label}]', _read_class, form)
        for label, form in enumerate(forms))
    ids = [entry.category_id for entry in classes]
    if len({isinstance(category_id, str) for category_id in ids}) > 1:
        raise InvalidTypeError(
            '`category_id` of `classes` must be all whole numbers or all '
            f'texts, but got {shortened(ids)}')
    repeated = [
        category_id for k, category_id in enumerate(ids)
        if category_id in ids[:k]
    ]
    if repeated:
        raise InvalidValueError(
            '`category_id` of `classes` must differ from class to class, but '
            f'got {shortened(repeated[0])} twice')
    return classes


def _read_class(form: Dict[str, Any]) -> ClassRecalibration:
    _check_keys('a class', form,
                ('category_id', 'name', 'score_thr', 'recalibrator'))
    category_id, name = form['category_id'], form['name']
    if not is_id(category_id):
        raise InvalidTypeError('`category_id` must be a whole number or a '
                               f'text, but got {shortened(category_id)}')
    if not isinstance(name, str):
        raise InvalidTypeError(
            f'`name` must be a text, but got {shortened(name)}')
    score_thr = form['score_thr']
    if score_thr is not None:
        score_thr = check_fraction('score_thr', score_thr)
    score_map = form['recalibrator']
    if score_map is not None:
        score_map = _read_part('recalibrator', map_from_dict, score_map)
    return ClassRecalibration(category_id, name, score_thr, score_map)


def _read_part(key: str, read: Callable[[Any], Any], form: Any) -> Any:
    """Read a part of the content, and add its key to error messages."""
    try:
        return read(form)
    except UserError as error:
        raise type(error)(f'`{key}`: {error}') from None


def _check_keys(subject: str, form: Any, keys: Tuple[str, ...]) -> None:
    if not isinstance(form, dict) or set(form) != set(keys):
        given = (f'has the keys {shortened(sorted(form, key=str))}'
                 if isinstance(form, dict) else f'is {shortened(form)}')
        raise InvalidValueError(
            f'{subject} must be an object with the keys {list(keys)}, but '
            f'{given}')


def fit_recalibration(ground_truth: GroundTruth,
                      detections: Detections,
                      categories: Sequence[Record],
                      method: str = 'isotonic',
                      target: str = 'precision',
                      iou_thr: Optional[float] = None,
                      classwise: bool = False,
                      score_thr: Union[None, float, str] = None,
                      max_dets: int = 100) -> Recalibration:
    """Choose thresholds and fit maps on the detections of one split.

    This is the protocol of Kuzucu et al.: thresholds are chosen on the
    original scores, and the maps are fitted to the detections that reach
    them. So the maps are fitted to the kind of detections that remain when
    the thresholds are applied.

    Args:
        ground_truth (GroundTruth): Annotations of images that the detector
            was not trained on.
        detections (Detections): Detections with original scores.
        categories (Sequence[Record]): Category records with 'id', in the
            order of the labels.
        method (str): Name of the map: 'temperature', 'platt', 'beta',
            'isotonic', 'histogram', or 'size_platt', which needs image sizes
            and can change AP. Defaults to 'isotonic'.
        target (str): Quantity that a recalibrated score estimates:
            'precision', as in D-ECE, or 'precision_x_iou', as in LaECE.
            Defaults to 'precision'.
        iou_thr (float, optional): IoU threshold of the matching. Defaults to
            None: 0.5 for precision, 0 for precision times IoU.
        classwise (bool): Whether each class with at least 20 detections gets
            its own map. Defaults to False.
        score_thr (float | str, optional): One score threshold for all
            classes, or 'lrp_optimal': the threshold of each class with the
            least LRP error at IoU threshold 0. Defaults to None, keep
            everything.
        max_dets (int): Maximum number of detections per image and class.
            Defaults to 100.

    Returns:
        Recalibration: Thresholds and maps for other splits.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range, or no detection is
            left to fit to.

    Reference:
        Kuzucu et al., "On Calibration of Object Detectors", ECCV 2024.
    """
    check_choice('method', method, tuple(METHODS))
    check_choice('target', target, tuple(TARGETS))
    iou_thr = check_iou_thr('iou_thr',
                            TARGETS[target] if iou_thr is None else iou_thr)
    matches_0, matches = match_at_thresholds(ground_truth, detections,
                                             (0.0, iou_thr), max_dets)
    thresholds = _choose_thresholds(score_thr, matches_0)
    matches = matches.above(thresholds)
    if not matches.is_counted.any():
        raise InvalidValueError(
            'the results must hold detections to fit to, but none counts'
            f'{"" if score_thr is None else " above the score threshold"}')
    counted = matches.is_counted
    targets = matches.is_tp if target == 'precision' else matches.iou
    targets = targets[counted].astype(np.float64)
    areas = relative_areas(matches.boxes[counted],
                           matches.image_sizes[counted])
    score_map = fit_map(method, matches.scores[counted], targets, areas)

    index_of = {
        category_id: k
        for k, category_id in enumerate(ground_truth.category_ids.tolist())
    }
    classes, classes_without_map = [], []
    for category in categories:
        k = index_of[category['id']]
        members = matches.class_index[counted] == k
        class_map = None
        if classwise and members.sum() >= FEWEST_DETECTIONS:
            class_map = fit_map(method, matches.scores[counted][members],
                                targets[members], areas[members])
        name = ground_truth.category_names[k]
        if classwise and class_map is None:
            classes_without_map.append(name)
        classes.append(
            ClassRecalibration(
                category['id'], name,
                None if np.isnan(thresholds[k]) else float(thresholds[k]),
                class_map))
    if classes_without_map:
        warnings.warn(
            f'{len(classes_without_map)} class(es) (such as '
            f'{", ".join(classes_without_map[:3])}) '
            f'have fewer than {FEWEST_DETECTIONS} detections and use the '
            'map of all classes',
            TcalDetWarning,
            stacklevel=2)
    return Recalibration(
        dict(
            method=method,
            target=target,
            iou_thr=iou_thr,
            classwise=classwise,
            score_thr=score_thr,
            max_dets=max_dets,
            images=ground_truth.num_images,
            detections=int(counted.sum())), score_map, tuple(classes))


def _choose_thresholds(score_thr: Union[None, float, str],
                       matches_0: DetectionMatches) -> np.ndarray:
    """Score threshold of each class, NaN for none, shape (K,)."""
    if score_thr == 'lrp_optimal':
        return olrp(matches_0).threshold
    if score_thr is None:
        return np.full(matches_0.num_classes, np.nan)
    try:
        score_thr = check_fraction('score_thr', score_thr)
    except UserError:
        raise InvalidValueError(
            "`score_thr` must be None, 'lrp_optimal' or a number in [0, 1], "
            f'but got {shortened(score_thr)}') from None
    return np.full(matches_0.num_classes, score_thr)
