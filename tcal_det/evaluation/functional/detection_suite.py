"""Every calibration figure of a detector, from one matching per threshold.

Shape shorthand:
    K: classes

Names:
    overall: a figure of the whole data set
    per class: the same figure of each class alone
"""
import math
import warnings
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from tcal_det.checks import check_choice, check_count, check_iou_thr
from tcal_det.errors import InvalidTypeError, InvalidValueError
from .binning import CLOSED_SIDES, MAX_BINS
from .box_pairs import RankedPairs
from .calibration_error import CalibrationError
from .coco_arrays import Detections, GroundTruth
from .detection_calibration import (MAX_CELLS, DetectionCalibrationError,
                                    LocalizationAwareAdaptiveError,
                                    LocalizationAwareError,
                                    detection_calibration_error, laace, laece)
from .lrp import LRPError, lrp, olrp
from .matching import (DROPPED, FALSE_POSITIVE, IGNORED, TRUE_POSITIVE,
                       ZERO_IOU_RULES, DetectionMatches, match_at_thresholds)
from .scoring_rules import SMALLEST_LIKELIHOOD

ScoreThreshold = Union[None, float, str, Mapping[Any, float]]

# LaECE_0, LaACE_0, LRP_0 and the thresholds of Kuzucu et al.
_ANY_OVERLAP = 0.0
_POSITION = ('cx', 'cy')
_MAX_POSITION_BINS = 100


@dataclass(frozen=True, eq=False)
class DetectionCalibrationReport:
    """All figures, and the bins that D-ECE and LaECE can be recomputed from.

    Attributes:
        settings (Dict[str, Any]): The options of the evaluation.
        counts (Dict[str, int]): Images, classes, objects and detections.
        category_ids (Tuple): In the order of every per-class array.
        category_names (Tuple[str, ...]): In the same order.
        num_objects (ndarray): Objects per class, shape (K,).
        num_detections (ndarray): Counted detections per class at the
            threshold of D-ECE, shape (K,).
        score_thresholds (ndarray): Detections under it were left out; NaN
            where all were kept. Shape (K,).
        d_ece (DetectionCalibrationError): Confidence alone.
        d_ece_position (DetectionCalibrationError | None): Cells of score
            and box centre; None if image sizes are unknown.
        laece (LocalizationAwareError): At its own IoU threshold.
        laece_0 (LocalizationAwareError): At IoU threshold 0.
        laace_0 (LocalizationAwareAdaptiveError): At IoU threshold 0.
        lrp_0 (LRPError): At IoU threshold 0.
        olrp (LRPError): At its own IoU threshold.
        brier (ndarray): Overall, then of each class, shape (1 + K,).
        nll (ndarray): Overall, then of each class, shape (1 + K,).
    """
    settings: Dict[str, Any]
    counts: Dict[str, int]
    category_ids: Tuple[Any, ...]
    category_names: Tuple[str, ...]
    num_objects: np.ndarray
    num_detections: np.ndarray
    score_thresholds: np.ndarray
    d_ece: DetectionCalibrationError
    d_ece_position: Optional[DetectionCalibrationError]
    laece: LocalizationAwareError
    laece_0: LocalizationAwareError
    laace_0: LocalizationAwareAdaptiveError
    lrp_0: LRPError
    olrp: LRPError
    brier: np.ndarray
    nll: np.ndarray

    @property
    def overall(self) -> Dict[str, float]:
        """The figures of the whole data set; NaN where undefined."""
        return dict(
            d_ece=self.d_ece.ece,
            d_ece_over=self.d_ece.over,
            d_ece_under=self.d_ece.under,
            d_ece_coverage=self.d_ece.coverage,
            laece=self.laece.laece,
            laece_0=self.laece_0.laece,
            laace_0=self.laace_0.laace,
            lrp_0=self.lrp_0.mean_lrp,
            lrp_0_loc=self.lrp_0.mean_loc,
            lrp_0_fp=self.lrp_0.mean_fp,
            lrp_0_fn=self.lrp_0.mean_fn,
            olrp=self.olrp.mean_lrp,
            olrp_loc=self.olrp.mean_loc,
            olrp_fp=self.olrp.mean_fp,
            olrp_fn=self.olrp.mean_fn,
            **_position_figures(self.d_ece_position),
            brier=float(self.brier[0]),
            nll=float(self.nll[0]))

    @property
    def per_class(self) -> List[Dict[str, Any]]:
        """One row per class, by category id: `overall`'s keys and more."""
        return [self._class_row(k) for k in range(len(self.category_ids))]

    def _class_row(self, k: int) -> Dict[str, Any]:
        d_ece = self.d_ece.per_class[k]
        position = self.d_ece_position and self.d_ece_position.per_class[k]
        return dict(
            category_id=self.category_ids[k],
            name=self.category_names[k],
            num_objects=int(self.num_objects[k]),
            num_detections=int(self.num_detections[k]),
            score_threshold=float(self.score_thresholds[k]),
            d_ece=d_ece.ece,
            d_ece_over=d_ece.over,
            d_ece_under=d_ece.under,
            d_ece_coverage=d_ece.coverage,
            laece=self.laece.per_class[k].ece,
            laece_0=self.laece_0.per_class[k].ece,
            laace_0=float(self.laace_0.per_class[k]),
            lrp_0=float(self.lrp_0.lrp[k]),
            lrp_0_loc=float(self.lrp_0.loc[k]),
            lrp_0_fp=float(self.lrp_0.fp[k]),
            lrp_0_fn=float(self.lrp_0.fn[k]),
            olrp=float(self.olrp.lrp[k]),
            olrp_loc=float(self.olrp.loc[k]),
            olrp_fp=float(self.olrp.fp[k]),
            olrp_fn=float(self.olrp.fn[k]),
            olrp_threshold=float(self.olrp.threshold[k]),
            **_position_figures(position),
            brier=float(self.brier[1 + k]),
            nll=float(self.nll[1 + k]))

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
        """Plain numbers and lists; NaN stays NaN.

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


def evaluate_detections(
        ground_truth: GroundTruth,
        detections: Detections,
        score_thr: ScoreThreshold = None,
        max_dets: int = 100,
        zero_iou: str = 'reject',
        closed: str = 'right',
        d_ece_iou_thr: float = 0.5,
        d_ece_bins: int = 10,
        laece_iou_thr: float = 0.1,
        laece_bins: int = 25,
        olrp_iou_thr: float = 0.5,
        position_bins: int = 8,
        position_min_samples: int = 8,
        pairs: Optional[RankedPairs] = None) -> DetectionCalibrationReport:
    """Measure the calibration of detections in every way of this package.

    Args:
        ground_truth (GroundTruth): From :func:`ground_truth_from_coco`.
        detections (Detections): From :func:`detections_from_coco`.
        score_thr (float | str | Mapping, optional): Leave out detections of
            lower score: one number; one for each category id; or
            'lrp_optimal', the threshold at which each class's LRP at IoU
            threshold 0 is least on these very detections (Kuzucu et al.;
            choose them on another split where figures are compared). A
            class without threshold keeps everything, with a warning.
            Defaults to None, keep everything.
        max_dets (int): Detections per image and class. Defaults to 100.
        zero_iou (str): See :func:`match_detections`. Defaults to 'reject'.
        closed (str): See :func:`bin_index`. Defaults to 'right'.
        d_ece_iou_thr (float): For D-ECE, Brier and NLL. Defaults to 0.5.
        d_ece_bins (int): In [1, 1000]. Defaults to 10.
        laece_iou_thr (float): For LaECE. Defaults to 0.1.
        laece_bins (int): For LaECE and LaECE_0, in [1, 1000]. Defaults to
            25.
        olrp_iou_thr (float): Defaults to 0.5.
        position_bins (int): Bins per dimension of position-dependent D-ECE
            (score, cx, cy), in [1, 100] and fewer where there are more than
            10 classes: 10 million cells of all classes. Defaults to 8.
        position_min_samples (int): Cells of it with fewer detections are
            not used. Defaults to 8.
        pairs (RankedPairs, optional): From :func:`rank_pairs` of the same
            data, so that several functions share them. Defaults to None.

    Returns:
        DetectionCalibrationReport: ``.overall``, ``.per_class``, ``.bins``
        and ``.to_dict()``. Without detections the calibration figures are
        NaN, with a warning, and LRP is 1.

    Raises:
        InvalidTypeError: If an option has the wrong type.
        InvalidValueError: If an option is out of range.
    """
    for name, value in (('d_ece_iou_thr', d_ece_iou_thr),
                        ('laece_iou_thr', laece_iou_thr), ('olrp_iou_thr',
                                                           olrp_iou_thr)):
        check_iou_thr(name, value)
    for name, value, highest in (('d_ece_bins', d_ece_bins, MAX_BINS),
                                 ('laece_bins', laece_bins,
                                  MAX_BINS), ('position_bins', position_bins,
                                              _most_position_bins(
                                                  ground_truth.num_classes)),
                                 ('position_min_samples', position_min_samples,
                                  None), ('max_dets', max_dets, None)):
        check_count(name, value, 1, highest)
    check_choice('closed', closed, CLOSED_SIDES)
    check_choice('zero_iou', zero_iou, ZERO_IOU_RULES)
    _check_score_thr(score_thr)

    iou_thrs = sorted({
        _ANY_OVERLAP,
        float(d_ece_iou_thr),
        float(laece_iou_thr),
        float(olrp_iou_thr)
    })
    matches_at = dict(
        zip(
            iou_thrs,
            match_at_thresholds(ground_truth, detections, iou_thrs, max_dets,
                                zero_iou, pairs)))
    thresholds = _class_thresholds(score_thr, ground_truth,
                                   matches_at[_ANY_OVERLAP])
    if score_thr is not None:
        matches_at = {
            thr: matches.above(thresholds)
            for thr, matches in matches_at.items()
        }
    matches = matches_at[float(d_ece_iou_thr)]
    matches_0 = matches_at[_ANY_OVERLAP]

    brier, nll = _scoring_rules(matches)
    with warnings.catch_warnings():
        # One warning below says the same for all figures.
        warnings.simplefilter('ignore', UserWarning)
        report = DetectionCalibrationReport(
            settings=dict(
                score_thr=_plain_score_thr(score_thr),
                max_dets=max_dets,
                zero_iou=zero_iou,
                closed=closed,
                d_ece_iou_thr=d_ece_iou_thr,
                d_ece_bins=d_ece_bins,
                laece_iou_thr=laece_iou_thr,
                laece_bins=laece_bins,
                olrp_iou_thr=olrp_iou_thr,
                position_bins=position_bins,
                position_min_samples=position_min_samples),
            counts=_counts(ground_truth, matches),
            category_ids=tuple(ground_truth.category_ids.tolist()),
            category_names=ground_truth.category_names,
            num_objects=ground_truth.num_objects,
            num_detections=(matches.count_by_class(TRUE_POSITIVE) +
                            matches.count_by_class(FALSE_POSITIVE)),
            score_thresholds=thresholds,
            d_ece=detection_calibration_error(matches, d_ece_bins, closed),
            d_ece_position=_position_error(matches, position_bins, closed,
                                           position_min_samples),
            laece=laece(matches_at[float(laece_iou_thr)], laece_bins, closed),
            laece_0=laece(matches_0, laece_bins, closed),
            laace_0=laace(matches_0),
            lrp_0=lrp(matches_0),
            olrp=olrp(matches_at[float(olrp_iou_thr)]),
            brier=brier,
            nll=nll)
    _warn_of_undefined(report)
    return report


def _most_position_bins(num_classes: int) -> int:
    """Bins per dimension whose cells, over all classes, fit the memory."""
    num_bins = _MAX_POSITION_BINS
    while num_bins > 1 and num_bins**3 * num_classes > MAX_CELLS:
        num_bins -= 1
    return num_bins


def _check_score_thr(score_thr: ScoreThreshold) -> None:
    remedy = ("`score_thr` must be None, a number in [0, 1], 'lrp_optimal' "
              'or a dict of a number for each category id, but got '
              f'{score_thr!r}')
    if isinstance(score_thr, str):
        if score_thr != 'lrp_optimal':
            raise InvalidValueError(remedy)
    elif isinstance(score_thr, Mapping):
        for category_id, value in score_thr.items():
            # NaN and None: no threshold was found for the class.
            if value is not None and not _is_number(value):
                raise InvalidTypeError(
                    f'`score_thr[{category_id!r}]` must be a number in '
                    f'[0, 1], but got {value!r}')
            if value is not None and (value < 0 or value > 1):
                raise InvalidValueError(
                    f'`score_thr[{category_id!r}]` must be in [0, 1], but '
                    f'got {value!r}')
    elif score_thr is not None:
        if not _is_number(score_thr):
            raise InvalidTypeError(remedy)
        if not 0 <= score_thr <= 1:
            raise InvalidValueError(remedy)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(
        value, (int, float, np.integer, np.floating))


def _plain_score_thr(score_thr: ScoreThreshold) -> Any:
    if isinstance(score_thr, Mapping):
        return {
            str(category_id): None if value is None else float(value)
            for category_id, value in score_thr.items()
        }
    return score_thr


def _class_thresholds(score_thr: ScoreThreshold, ground_truth: GroundTruth,
                      matches: DetectionMatches) -> np.ndarray:
    """The score threshold of each class, NaN for none, shape (K,)."""
    num_classes = ground_truth.num_classes
    if score_thr is None:
        return np.full(num_classes, np.nan)
    if isinstance(score_thr, str):
        thresholds = olrp(matches).threshold
    elif isinstance(score_thr, Mapping):
        thresholds = _thresholds_of_mapping(score_thr, ground_truth)
    else:
        return np.full(num_classes, float(score_thr))
    has_detections = np.bincount(
        matches.class_index, minlength=num_classes) > 0
    unlimited = np.flatnonzero(np.isnan(thresholds) & has_detections)
    if len(unlimited):
        names = [ground_truth.category_names[k] for k in unlimited]
        warnings.warn(
            f'no score threshold is known for {len(unlimited)} class(es) '
            f'(such as {", ".join(names[:3])}), so all of their detections '
            'are kept',
            stacklevel=3)
    return thresholds


def _thresholds_of_mapping(score_thr: Mapping[Any, float],
                           ground_truth: GroundTruth) -> np.ndarray:
    # JSON turns the keys of a dict into texts: '7' is category 7.
    by_text = {str(key): value for key, value in score_thr.items()}
    category_ids = [str(key) for key in ground_truth.category_ids.tolist()]
    unknown = sorted(set(by_text) - set(category_ids))
    if unknown:
        raise InvalidValueError(
            '`score_thr` must have category ids of the annotations as keys, '
            f'but got {unknown[0]}; were the thresholds chosen on the same '
            'classes?')
    values = [by_text.get(key) for key in category_ids]
    return np.array([np.nan if value is None else value for value in values],
                    dtype=np.float64)


def _position_error(matches: DetectionMatches, num_bins: int, closed: str,
                    min_samples: int) -> Optional[DetectionCalibrationError]:
    if np.isnan(matches.image_sizes[matches.is_counted]).any():
        return None
    return detection_calibration_error(
        matches, num_bins, closed, features=_POSITION, min_samples=min_samples)


def _position_figures(error: Optional[CalibrationError]) -> Dict[str, float]:
    if error is None:
        return dict(d_ece_position=math.nan, d_ece_position_coverage=math.nan)
    # Without a single used cell the sum is 0, which reads as perfect.
    return dict(
        d_ece_position=error.ece if error.num_used else math.nan,
        d_ece_position_coverage=error.coverage)


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


def _warn_of_undefined(report: DetectionCalibrationReport) -> None:
    undefined = [
        name for name, value in report.overall.items() if math.isnan(value)
    ]
    if not undefined:
        return
    position = report.d_ece_position
    if report.counts['objects'] == 0:
        reason = 'there is no object to be found'
    elif report.num_detections.sum() == 0:
        reason = 'no detection counts'
    elif report.counts['true_positives'] == 0:
        reason = 'no detection is right'
    elif position is None:
        reason = 'the annotations have images without width and height'
    else:
        least = report.settings['position_min_samples']
        reason = f'no cell of score and position holds {least} detections'
    warnings.warn(
        f'undefined (NaN), as {reason}: {", ".join(undefined)}', stacklevel=3)
