"""Catalogue of all figures, with their names, descriptions and functions.

To add a figure, add an entry here. The report, its JSON, the table of
``tcal-eval``, the keys of the metric, the HTML page and the comparison of
results files use this catalogue.
"""
import math
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Callable, Dict, Optional, Tuple, cast

from .debiased_calibration_error import DebiasedCalibrationError
from .size_calibration import COCO_SIZES

if TYPE_CHECKING:
    from .binning import BinTable
    from .detection_suite import DetectionCalibrationReport as Report


@dataclass(frozen=True)
class Figure:
    """One number about a set of detections.

    Attributes:
        key (str): Name in JSON and in the log of the metric.
        title (str): Name in tables and on axes.
        meaning (str): One-sentence explanation for readers who do not know the
            figure.
        overall (Callable, optional): Function from a report to the figure of
            the whole data set. None if only classes have the figure.
        of_class (Callable, optional): Function from a report and a class index
            to the figure of the class. None if classes do not have the figure.
        part_of (str, optional): Key of the figure that this figure is a part
            of.
        is_headline (bool): Whether the printed table includes the figure.
        in_metric (bool): Whether ``DetectionCalibrationMetric`` logs the
            figure.
        better (str, optional): Better direction, 'lower' or 'higher'; None if
            neither is better.
        is_often_undefined (bool): Whether NaN is common, so that there is no
            warning.
    """
    key: str
    title: str
    meaning: str
    overall: Optional[Callable[['Report'], float]]
    of_class: Optional[Callable[['Report', int], float]] = None
    part_of: Optional[str] = None
    is_headline: bool = False
    in_metric: bool = False
    better: Optional[str] = 'lower'
    is_often_undefined: bool = False


def _precision_figure(key: str,
                      title: str,
                      meaning: str,
                      is_headline: bool = False) -> Figure:
    return Figure(
        key,
        title,
        meaning,
        lambda report: report.average_precision.overall[key],
        lambda report, k: report.average_precision.per_class[k][key],
        is_headline=is_headline,
        better='higher',
        # Few data sets have objects of all sizes.
        is_often_undefined=key.endswith(('small', 'medium', 'large')))


def _lrp_figures(attribute: str, title: str, meaning: str,
                 are_parts_headlines: bool) -> Tuple[Figure, ...]:
    """Create the figures of LRP and its three components."""
    parts = dict(
        lrp=('', title, meaning),
        loc=('_loc', 'localisation', 'Mean of (1 - IoU) / (1 - threshold) '
             'of the true positives.'),
        fp=('_fp', 'false positives', 'Share of the detections that match '
            'no object: 1 - precision.'),
        fn=('_fn', 'false negatives', 'Share of the objects that no '
            'detection matches: 1 - recall.'))

    def figure(part: str) -> Figure:
        suffix, own_title, own_meaning = parts[part]
        return Figure(
            attribute + suffix,
            own_title,
            own_meaning,
            lambda report: getattr(getattr(report, attribute), f'mean_{part}'),
            lambda report, k: float(
                getattr(getattr(report, attribute), part)[k]),
            part_of=attribute if suffix else None,
            is_headline=are_parts_headlines or not suffix,
            in_metric=True)

    return tuple(map(figure, parts))


def _d_ece_figure(key: str,
                  title: str,
                  attribute: str,
                  meaning: str,
                  is_headline: bool = True,
                  better: Optional[str] = 'lower') -> Figure:
    return Figure(
        key,
        title,
        meaning,
        lambda report: getattr(report.d_ece, attribute),
        lambda report, k: getattr(report.d_ece.per_class[k], attribute),
        part_of=None if key == 'd_ece' else 'd_ece',
        is_headline=is_headline,
        in_metric=True,
        better=better)


def _d_ece_of_size(report: 'Report', row: int) -> float:
    return report.d_ece_by_size.errors[row].ece


def _class_d_ece_of_size(report: 'Report', k: int, row: int) -> float:
    return report.d_ece_by_size.errors[row].per_class[k].ece


def _cell_figures(attribute: str, title: str,
                  meaning: str) -> Tuple[Figure, Figure]:
    """Create the figures of an error in cells, and of its coverage."""

    def value(report: 'Report', name: str, k: Optional[int] = None) -> float:
        error = getattr(report, attribute)
        if error is None:  # image sizes are unknown
            return math.nan
        if k is not None:
            error = error.per_class[k]
        # Without any used cell the sum is 0, which would look perfect.
        is_defined = error.num_used or name == 'coverage'
        return getattr(error, name) if is_defined else math.nan

    return (Figure(
        attribute,
        title,
        meaning,
        lambda report: value(report, 'ece'),
        lambda report, k: value(report, 'ece', k),
        is_headline=True),
            Figure(
                f'{attribute}_coverage',
                'its coverage',
                'Share of the detections in cells with enough detections.',
                lambda report: value(report, 'coverage'),
                lambda report, k: value(report, 'coverage', k),
                part_of=attribute,
                is_headline=True,
                better='higher'))


FIGURES = (
    _precision_figure(
        'mAP', 'mAP', 'Mean average precision over IoU thresholds .50 to .95 '
        'and classes, as COCO measures it.', True),
    _precision_figure('AP50', 'AP50', 'Average precision at IoU .50.', True),
    _precision_figure('AP75', 'AP75', 'Average precision at IoU .75.', True),
    _precision_figure('AP_small', 'AP small',
                      'mAP of objects below 32 x 32 pixels.'),
    _precision_figure('AP_medium', 'AP medium',
                      'mAP of objects from 32 x 32 to 96 x 96 pixels.'),
    _precision_figure('AP_large', 'AP large',
                      'mAP of objects above 96 x 96 pixels.'),
    _precision_figure('AR_1', 'AR 1',
                      'Mean recall with one detection per image and class.'),
    _precision_figure('AR_10', 'AR 10',
                      'Mean recall with 10 detections per image and class.'),
    _precision_figure('AR_100', 'AR 100',
                      'Mean recall with 100 detections per image and class.'),
    _precision_figure('AR_small', 'AR small', 'Mean recall of small objects.'),
    _precision_figure('AR_medium', 'AR medium',
                      'Mean recall of medium objects.'),
    _precision_figure('AR_large', 'AR large', 'Mean recall of large objects.'),
    _d_ece_figure(
        'd_ece', 'D-ECE', 'ece', 'Mean distance between the score of a '
        'detection and the precision of detections with a similar score.'),
    _d_ece_figure('d_ece_over', 'over', 'over',
                  'The part of D-ECE where scores are above the precision.'),
    _d_ece_figure('d_ece_under', 'under', 'under',
                  'The part of D-ECE where scores are below the precision.'),
    _d_ece_figure('d_ece_coverage', 'coverage', 'coverage',
                  'Share of the detections that D-ECE uses.', False, 'higher'),
    Figure(
        'laece',
        'LaECE',
        'Mean over classes of the distance between score and precision x IoU.',
        lambda report: report.laece.laece,
        lambda report, k: report.laece.per_class[k].ece,
        is_headline=True,
        in_metric=True),
    Figure(
        'laece_0',
        'LaECE_0',
        'LaECE where any overlap is a match: the score should be the IoU.',
        lambda report: report.laece_0.laece,
        lambda report, k: report.laece_0.per_class[k].ece,
        is_headline=True,
        in_metric=True),
    Figure(
        'laace_0',
        'LaACE_0',
        'Mean distance between the score of a detection and its own IoU.',
        lambda report: report.laace_0.laace,
        lambda report, k: float(report.laace_0.per_class[k]),
        is_headline=True,
        in_metric=True),
    *_lrp_figures(
        'lrp_0', 'LRP_0', 'Localisation, false positives and missed objects '
        'in one error, where any overlap is a match.', True),
    *_lrp_figures(
        'olrp', 'oLRP', 'The smallest LRP over all score thresholds, chosen '
        'for each class.', False),
    Figure(
        'olrp_threshold',
        'oLRP score',
        'The score threshold of the smallest LRP.',
        None,
        lambda report, k: float(report.olrp.threshold[k]),
        better=None),
    Figure(
        'oce',
        'OCE',
        'Mean Brier score of the class that the detections on each object '
        'predict; missed objects have the full cost.',
        lambda report: report.oce.oce,
        lambda report, k: float(report.oce.per_class[k]),
        is_headline=True),
    *_cell_figures('d_ece_position', 'D-ECE, score x position',
                   'D-ECE in cells of score and of the position of the box.'),
    *_cell_figures('d_ece_size', 'D-ECE, score x size',
                   'D-ECE in cells of score, width and height of the box.'),
    *(Figure(
        f'd_ece_{size}',
        f'D-ECE, {size} boxes',
        f'D-ECE of the detections whose boxes are {size}, by COCO\'s bounds '
        'of 32 x 32 and 96 x 96 pixels.',
        partial(_d_ece_of_size, row=row),
        partial(_class_d_ece_of_size, row=row),
        is_often_undefined=True) for row, size in enumerate(COCO_SIZES)),
    Figure(
        'd_ece_debiased',
        'D-ECE, debiased',
        'D-ECE minus the bias from chance in bins with few detections.',
        lambda report: report.d_ece_debiased.ece,
        lambda report, k: DebiasedCalibrationError.from_bins(
            cast('BinTable', report.d_ece.per_class[k].bins)).ece,
        is_often_undefined=True),
    Figure(
        'smece',
        'Smooth ECE',
        'Mean distance between score and precision, computed with a kernel '
        'instead of bins.',
        lambda report: report.smooth.smece,
        is_headline=True),
    Figure(
        'brier',
        'Brier score',
        'Mean squared difference between the score and 1 for a true, 0 for a '
        'false positive.',
        lambda report: float(report.brier[0]),
        lambda report, k: float(report.brier[1 + k]),
        is_headline=True),
    *(Figure(
        f'brier_{key}',
        title,
        meaning,
        attrgetter(f'brier_decomposition.{title}'),
        part_of='brier',
        is_headline=True,
        better=better) for key, title, meaning, better in
      (('mcb', 'miscalibration',
        'Decrease of the Brier score by the best monotone recalibration.',
        'lower'),
       ('dsc', 'discrimination',
        'How well the recalibrated scores separate true from false positives.',
        'higher'),
       ('unc', 'uncertainty',
        'The Brier score of one constant score for all detections.', None))),
    Figure(
        'nll',
        'NLL',
        'Mean negative log-likelihood of the true and false positives, given '
        'the scores.',
        lambda report: float(report.nll[0]),
        lambda report, k: float(report.nll[1 + k]),
        is_headline=True),
)
BY_KEY: Dict[str, Figure] = {figure.key: figure for figure in FIGURES}
