"""All calibration figures of a detector, with one matching per IoU threshold.

Shapes:
    K: classes

Names:
    overall: figure of the whole data set
    per class: the same figure of each class
"""
import warnings
from functools import cached_property
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from tcal_det.checks import check_count
from tcal_det.errors import TcalDetWarning
from .average_precision import AveragePrecision, average_precision
from .box_pairs import rank_pairs
from .coco_arrays import (Detections, GroundTruth, check_detections,
                          check_ground_truth)
from .debiased_calibration_error import DebiasedCalibrationError
from .detection_calibration import (MAX_CELLS, DetectionCalibrationError,
                                    LocalizationAwareAdaptiveError,
                                    LocalizationAwareError,
                                    detection_calibration_error, laace, laece)
from .error_split import ErrorSplit, error_split
from .evaluation_options import (MAX_POSITION_BINS, EvaluationOptions,
                                 ScoreThreshold)
from .figures import BY_KEY, FIGURES
from .lrp import LRPError, lrp, olrp
from .matching import (DROPPED, FALSE_POSITIVE, IGNORED, TRUE_POSITIVE,
                       DetectionMatches, match_at_thresholds)
from .object_calibration_error import (ObjectCalibrationError,
                                       object_calibration_error)
from .score_decomposition import ScoreDecomposition, brier_score_decomposition
from .score_thresholds import class_thresholds
from .scoring_rules import SMALLEST_LIKELIHOOD
from .size_calibration import (CalibrationErrorBySize,
                               calibration_error_by_size,
                               size_dependent_calibration_error)
from .smooth_calibration_error import (SmoothCalibrationError,
                                       smooth_calibration_error)

# LaECE_0, LaACE_0, LRP_0 and the thresholds of Kuzucu et al.
_ANY_OVERLAP = 0.0
_POSITION = ('cx', 'cy')


class DetectionCalibrationReport:
    """All figures, and the bins from which D-ECE and LaECE can be recomputed.

    Each result is computed at its first access.

    Args:
        ground_truth (GroundTruth): Annotated objects.
        detections (Detections): Detections on the same images and classes.
        options (EvaluationOptions): Options of the evaluation.

    Attributes:
        counts (dict[str, int]): Numbers of images, classes, objects and
            detections.
        category_ids (tuple): Category ids, in the order of every per-class
            array.
        category_names (tuple[str, ...]): Category names, in the same order.
        num_objects (ndarray): Number of objects per class, shape (K,).
        num_detections (ndarray): Number of counted detections per class at the
            IoU threshold of D-ECE, shape (K,).
        score_thresholds (ndarray): Score threshold of each class; detections
            below it are left out. NaN where all are kept. Shape (K,).
    """

    def __init__(self, ground_truth: GroundTruth, detections: Detections,
                 options: EvaluationOptions) -> None:
        check_ground_truth(ground_truth)
        check_detections(detections)
        check_count('position_bins', options.position_bins, 1,
                    _most_position_bins(ground_truth.num_classes))
        self.options = options
        self.ground_truth = ground_truth
        self.detections = detections
        iou_thrs = sorted({
            _ANY_OVERLAP, options.d_ece_iou_thr, options.laece_iou_thr,
            options.olrp_iou_thr
        })
        # Used for the matches and for AP.
        self._pairs = rank_pairs(ground_truth, detections, options.max_dets)
        self._matches = dict(
            zip(
                iou_thrs,
                match_at_thresholds(ground_truth, detections, iou_thrs,
                                    options.max_dets, options.zero_iou,
                                    self._pairs)))
        self.score_thresholds = class_thresholds(options.score_thr,
                                                 ground_truth,
                                                 self._matches[_ANY_OVERLAP])
        if options.score_thr is not None:
            self._matches = {
                thr: matches.above(self.score_thresholds)
                for thr, matches in self._matches.items()
            }
        matches = self.matches
        self.counts = _counts(ground_truth, matches)
        self.category_ids = tuple(ground_truth.category_ids.tolist())
        self.category_names = ground_truth.category_names
        self.num_objects = ground_truth.num_objects
        self.num_detections = (
            matches.count_by_class(TRUE_POSITIVE) +
            matches.count_by_class(FALSE_POSITIVE))

    @classmethod
    def from_detections(cls, ground_truth: GroundTruth, detections: Detections,
                        **options: Any) -> 'DetectionCalibrationReport':
        """Create a report from options by name; nothing is computed yet.

        Args:
            ground_truth (GroundTruth): Annotated objects.
            detections (Detections): Detections on the same images and classes.
            **options: Options of the evaluation, see
                :class:`EvaluationOptions`.
        """
        return cls(ground_truth, detections,
                   EvaluationOptions.from_kwargs(**options))

    @property
    def settings(self) -> Dict[str, Any]:
        """The options of the evaluation."""
        return self.options.to_dict()

    @property
    def matches(self) -> DetectionMatches:
        """Matches at the IoU threshold of D-ECE."""
        return self.matches_at(self.options.d_ece_iou_thr)

    def matches_at(self, iou_thr: float) -> DetectionMatches:
        """Matches of the detections above the score thresholds.

        Args:
            iou_thr (float): IoU threshold of one of the figures, or 0.
        """
        return self._matches[iou_thr]

    @cached_property
    def average_precision(self) -> AveragePrecision:
        """COCO's AP and AR, of all detections."""
        return average_precision(self.ground_truth, self.detections,
                                 self._pairs)

    @cached_property
    def d_ece(self) -> DetectionCalibrationError:
        """D-ECE in bins of the score."""
        return detection_calibration_error(self.matches,
                                           self.options.d_ece_bins,
                                           self.options.closed)

    @cached_property
    def d_ece_position(self) -> Optional[DetectionCalibrationError]:
        """D-ECE in cells of score and box centre; None without image sizes."""
        if self._lacks_image_sizes:
            return None
        return detection_calibration_error(
            self.matches,
            self.options.position_bins,
            self.options.closed,
            features=_POSITION,
            min_samples=self.options.position_min_samples)

    @cached_property
    def d_ece_size(self) -> Optional[DetectionCalibrationError]:
        """D-ECE in cells of score and box size; None without image sizes."""
        if self._lacks_image_sizes:
            return None
        return size_dependent_calibration_error(
            self.matches, self.options.position_bins, self.options.closed,
            self.options.position_min_samples)

    @cached_property
    def d_ece_by_size(self) -> CalibrationErrorBySize:
        """D-ECE of small, medium and large boxes."""
        return calibration_error_by_size(self.matches, self.options.d_ece_bins,
                                         self.options.closed)

    @cached_property
    def d_ece_debiased(self) -> DebiasedCalibrationError:
        """D-ECE corrected for the bias of bins with few detections."""
        return DebiasedCalibrationError.from_bins(
            self.d_ece.bins)  # type: ignore[arg-type]  # no grid: one feature

    @cached_property
    def smooth(self) -> SmoothCalibrationError:
        """Smooth calibration error of all classes together, without bins."""
        return smooth_calibration_error(*self._confidence_and_correct)

    @cached_property
    def brier_decomposition(self) -> ScoreDecomposition:
        """CORP decomposition of the Brier score of all classes together."""
        return brier_score_decomposition(*self._confidence_and_correct)

    @property
    def _confidence_and_correct(self) -> Tuple[np.ndarray, np.ndarray]:
        counted = self.matches.is_counted
        return self.matches.scores[counted], self.matches.is_tp[counted]

    @property
    def _lacks_image_sizes(self) -> bool:
        return bool(
            np.isnan(self.matches.image_sizes[self.matches.is_counted]).any())

    @cached_property
    def laece(self) -> LocalizationAwareError:
        """LaECE at its own IoU threshold."""
        return self._laece(self.options.laece_iou_thr)

    @cached_property
    def laece_0(self) -> LocalizationAwareError:
        """LaECE at IoU threshold 0."""
        return self._laece(_ANY_OVERLAP)

    def _laece(self, iou_thr: float) -> LocalizationAwareError:
        return laece(self._matches[iou_thr], self.options.laece_bins,
                     self.options.closed)

    @cached_property
    def laace_0(self) -> LocalizationAwareAdaptiveError:
        """LaACE at IoU threshold 0."""
        return laace(self._matches[_ANY_OVERLAP])

    @cached_property
    def lrp_0(self) -> LRPError:
        """LRP at IoU threshold 0."""
        return lrp(self._matches[_ANY_OVERLAP])

    @cached_property
    def olrp(self) -> LRPError:
        """Optimal LRP at its own IoU threshold."""
        return olrp(self._matches[self.options.olrp_iou_thr])

    @cached_property
    def oce(self) -> ObjectCalibrationError:
        """Object-level calibration error, of all detections."""
        return object_calibration_error(self.ground_truth, self.detections)

    @cached_property
    def error_split(self) -> ErrorSplit:
        """Errors by type, at the IoU threshold of D-ECE."""
        return error_split(self.ground_truth, self.detections, self.matches)

    @property
    def brier(self) -> np.ndarray:
        """Brier score: overall, then of each class, shape (1 + K,)."""
        return self._likelihoods[0]

    @property
    def nll(self) -> np.ndarray:
        """NLL: overall, then of each class, shape (1 + K,)."""
        return self._likelihoods[1]

    @cached_property
    def _likelihoods(self) -> Tuple[np.ndarray, np.ndarray]:
        return _scoring_rules(self.matches)

    def figures(self, keys: Iterable[str]) -> Dict[str, float]:
        """Compute some figures of the whole data set, and no others.

        Args:
            keys (Iterable[str]): Keys of the figures in ``FIGURES``.
        """
        with warnings.catch_warnings():
            # `why_undefined` gives one message for all figures instead.
            warnings.simplefilter('ignore', TcalDetWarning)
            return {
                key: BY_KEY[key].overall(self)  # type: ignore[misc]  # has it
                for key in keys
            }

    @cached_property
    def overall(self) -> Dict[str, float]:
        """Figures of the whole data set; NaN where undefined."""
        return self.figures(figure.key for figure in FIGURES
                            if figure.overall is not None)

    @cached_property
    def per_class(self) -> List[Dict[str, Any]]:
        """One row per class, by category id, with the figures of the class."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', TcalDetWarning)
            return [self._class_row(k) for k in range(len(self.category_ids))]

    def _class_row(self, k: int) -> Dict[str, Any]:
        return dict(
            category_id=self.category_ids[k],
            name=self.category_names[k],
            num_objects=int(self.num_objects[k]),
            num_detections=int(self.num_detections[k]),
            score_threshold=float(self.score_thresholds[k]),
            **{
                figure.key: figure.of_class(self, k)
                for figure in FIGURES if figure.of_class is not None
            })

    def why_undefined(self, figures: Mapping[str, float]) -> Optional[str]:
        """Explain in one line which figures are NaN, and why.

        Args:
            figures (Mapping[str, float]): Figures from :meth:`figures`.

        Returns:
            str, optional: Message; None if all figures are defined.
        """
        undefined = [
            key for key, value in figures.items()
            if value != value and not BY_KEY[key].is_often_undefined
        ]
        if not undefined:
            return None
        if self.counts['objects'] == 0:
            reason = 'there is no object'
        elif self.num_detections.sum() == 0:
            reason = 'no detection is counted'
        elif self.counts['true_positives'] == 0:
            reason = 'there is no true positive'
        elif self.d_ece_position is None:
            reason = 'the annotations have images without width and height'
        else:
            reason = ('no cell of score and position or size holds '
                      f'{self.options.position_min_samples} detections')
        return f'undefined (NaN), as {reason}: {", ".join(undefined)}'

    def table(self) -> str:
        """Format the headline figures as a table for a terminal."""
        counts = self.counts
        kept = ''
        if self.options.score_thr is not None:
            kept = (f', {counts["detections"] - counts["dropped"]} of them '
                    'kept by the score threshold and `max_dets`')
        lines = [
            f'{counts["detections"]} detections of {counts["classes"]} '
            f'classes in {counts["images"]} images with {counts["objects"]} '
            f'objects{kept}'
        ]
        for figure in FIGURES:
            if figure.is_headline:
                title = '  ' * bool(figure.part_of) + figure.title
                lines.append(f'{title:<26}{self.overall[figure.key]:8.4f}')
        return '\n'.join(lines)

    __str__ = table

    @property
    def bins(self) -> Dict[str, Any]:
        """Bin tables of all classes together, by figure."""
        tables = dict(
            d_ece=self.d_ece.bins,
            laece=self.laece.bins,
            laece_0=self.laece_0.bins)
        if self.d_ece_position is not None:
            tables['d_ece_position'] = self.d_ece_position.bins
        return tables

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain numbers and lists; NaN stays NaN.

        ``bins`` has the tables of all classes together under 'overall' and
        those of each class, in the order of ``per_class``, under
        'per_class'. The grid of box positions is given overall only.
        """
        per_class_bins = [
            dict(
                category_id=category_id,
                d_ece=self.d_ece.per_class[k].bins.to_dict(),
                laece=self.laece.per_class[k].bins.to_dict(),
                laece_0=self.laece_0.per_class[k].bins.to_dict())
            for k, category_id in enumerate(self.category_ids)
        ]
        return dict(
            settings=dict(self.settings),
            counts=dict(self.counts),
            overall=self.overall,
            per_class=self.per_class,
            bins=dict(
                overall={
                    name: table.to_dict()
                    for name, table in self.bins.items()
                },
                per_class=per_class_bins))


def evaluate_detections(ground_truth: GroundTruth,
                        detections: Detections,
                        score_thr: ScoreThreshold = None,
                        **options: Any) -> DetectionCalibrationReport:
    """Compute all figures of this package.

    Args:
        ground_truth (GroundTruth): Annotated objects from
            :func:`ground_truth_from_coco`.
        detections (Detections): Detections from :func:`detections_from_coco`.
        score_thr (float | str | Mapping, optional): Lowest score of the
            counted detections, see :class:`EvaluationOptions`. Defaults to
            None, which keeps all detections.
        **options: Other options of :class:`EvaluationOptions`.

    Returns:
        DetectionCalibrationReport: ``.overall``, ``.per_class``, ``.bins``
        and ``.to_dict()``; ``print`` shows a table of the main figures.
        Without detections the calibration figures are NaN, with a warning,
        and LRP is 1.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.

    Example:
        >>> from tcal_det.evaluation.functional import (
        ...     Detections, GroundTruth, evaluate_detections)
        >>> ground_truth = GroundTruth.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 10]], labels=[1, 1])],
        ...     image_ids=[7],
        ...     class_names={1: 'cell'},
        ...     image_sizes=[(100, 80)])
        >>> detections = Detections.from_torchvision(
        ...     [dict(boxes=[[0, 0, 10, 10], [20, 0, 30, 8], [50, 0, 60, 10]],
        ...           scores=[.9, .6, .3], labels=[1, 1, 1])],
        ...     image_ids=[7], ground_truth=ground_truth)
        >>> report = evaluate_detections(
        ...     ground_truth, detections, position_min_samples=1)
        >>> round(report.overall['d_ece'], 4)  # (|.9-1| + |.6-1| + |.3-0|) / 3
        0.2667
    """
    report = DetectionCalibrationReport.from_detections(
        ground_truth, detections, score_thr=score_thr, **options)
    reason = report.why_undefined(report.overall)
    if reason is not None:
        warnings.warn(reason, TcalDetWarning, stacklevel=2)
    return report


def _most_position_bins(num_classes: int) -> int:
    """Largest number of bins per dimension whose cells fit into memory."""
    num_bins = MAX_POSITION_BINS
    while num_bins > 1 and num_bins**3 * num_classes > MAX_CELLS:
        num_bins -= 1
    return num_bins


def _scoring_rules(matches: DetectionMatches) -> Tuple[np.ndarray, np.ndarray]:
    """Brier and NLL, overall and of each class, shape (1 + K,) each."""
    counted = matches.is_counted
    scores = matches.scores[counted]
    class_index = matches.class_index[counted]
    likelihood = np.where(matches.is_tp[counted], scores, 1 - scores)
    squares = (1 - likelihood)**2
    negative_log = -np.log(np.maximum(likelihood, SMALLEST_LIKELIHOOD))
    count = _with_total(
        np.bincount(class_index, minlength=matches.num_classes))
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: no detections
        return tuple(
            _with_total(
                np.bincount(
                    class_index, values, minlength=matches.num_classes)) /
            count for values in (squares, negative_log))


def _with_total(values: np.ndarray) -> np.ndarray:
    return np.append(values.sum(), values)


def _counts(ground_truth: GroundTruth,
            matches: DetectionMatches) -> Dict[str, int]:
    status = np.bincount(matches.status, minlength=4).tolist()
    return dict(
        images=ground_truth.num_images,
        classes=ground_truth.num_classes,
        classes_with_objects=int((ground_truth.num_objects > 0).sum()),
        objects=int(ground_truth.num_objects.sum()),
        crowds=int(ground_truth.iscrowd.sum()),
        detections=len(matches.status),
        true_positives=status[TRUE_POSITIVE],
        false_positives=status[FALSE_POSITIVE],
        ignored=status[IGNORED],
        dropped=status[DROPPED])
