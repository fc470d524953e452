"""Contents of the page, in the order of the template.

All values are prepared here, so that the template needs no logic but loops.
Numbers stay numbers: the template formats them.
"""
import datetime
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from tcal_det.evaluation.functional import GroundTruth
from tcal_det.evaluation.functional.conformal_threshold import (
    precision_thresholds, recall_thresholds)
from tcal_det.evaluation.intervals import PairedDifference
from tcal_det.version import __version__
from .captioned_charts import (Chart, Column, error_charts, reliability_charts,
                               threshold_curve_chart)
from .example_images import (ExampleImage, false_positive_images,
                             missed_object_images)
from .explanations import CLASS_COLUMNS, HEADLINES, figure
from .measurement import Measurement
from .operating_point import class_operating_points
from .recalibration_gain import TARGETS, best_gain
from .summary import is_certain, summarize_difference, summarize_results

# Bound of the share of missed objects or of wrong detections, and probability
# that the bound of the wrong detections does not hold.
_RISK, _CHANCE = 0.2, 0.1


@dataclass(frozen=True)
class Chapter:
    """Contents of the page for one results file; see the template."""
    id: str
    name: str
    data_warnings: Sequence[str]
    is_doubtful: bool
    short: List[str]
    counts: Dict[str, int]
    headlines: List[Dict[str, Any]]
    diagrams: List[Chart]
    class_columns: List[Column]
    class_rows: List[Dict[str, Any]]
    places: List[Chart]
    threshold: Chart
    threshold_columns: List[Column]
    threshold_rows: List[Dict[str, Any]]
    false_positives: List[ExampleImage]
    missed: List[ExampleImage]
    gain_columns: List[Column]
    gain_rows: List[Dict[str, Any]]
    best: Dict[str, Any]


def page_contents(title: str, ground_truth: GroundTruth,
                  measurements: Sequence[Measurement],
                  image_files: Optional[Mapping[Any, str]], num_images: int,
                  num_resamples: int, seed: int) -> Dict[str, Any]:
    """Prepare all variables of the template.

    Args:
        title (str): Title of the page.
        ground_truth (GroundTruth): Annotated objects.
        measurements (Sequence[Measurement]): Measurement of each results
            file.
        image_files (Mapping[Any, str], optional): Path of each image by its
            id; None for a page without images.
        num_images (int): Maximum number of images of each kind.
        num_resamples (int): Number of bootstrap samples; 0 for no intervals.
        seed (int): Random seed of the bootstrap samples.

    Returns:
        dict[str, Any]: Variables by name.
    """
    chapters = [
        _chapter(f'r{number}', ground_truth, measurement, image_files,
                 num_images)
        for number, measurement in enumerate(measurements, 1)
    ]
    return dict(
        title=title,
        date=datetime.date.today().isoformat(),
        version=__version__,
        chapters=chapters,
        comparison=_comparison(measurements),
        compared_short=[
            summarize_difference(measurements[0], measurement)
            for measurement in measurements[1:]
        ],
        figures=HEADLINES,
        settings=measurements[0].report.settings,
        num_resamples=num_resamples,
        seed=seed,
        has_images=image_files is not None,
        data={
            measurement.name: _data(measurement)
            for measurement in measurements
        })


def _data(measurement: Measurement) -> Dict[str, Any]:
    """Evaluation as `tcal-eval` writes it, without the bins of classes."""
    content = measurement.report.to_dict()
    content['bins'].pop('per_class')
    content['intervals'] = {
        key: dict(low=interval.low, high=interval.high)
        for key, interval in measurement.intervals.items()
    }
    content['error_split'] = measurement.split.to_dict()
    return content


def _chapter(identity: str, ground_truth: GroundTruth,
             measurement: Measurement, image_files: Optional[Mapping[Any,
                                                                     str]],
             num_images: int) -> Chapter:
    point = measurement.operating_point
    false_positives, missed = [], []
    if image_files is not None:
        false_positives = false_positive_images(ground_truth,
                                                measurement.detections,
                                                measurement.matches,
                                                measurement.split, image_files,
                                                num_images)
        missed = missed_object_images(ground_truth, measurement.matches,
                                      point.threshold, image_files, num_images)
    return Chapter(
        id=identity,
        name=measurement.name,
        data_warnings=[str(warning) for warning in measurement.data_warnings],
        is_doubtful=measurement.is_doubtful,
        short=summarize_results(measurement),
        counts=measurement.report.counts,
        headlines=_headlines(measurement),
        diagrams=reliability_charts(identity, ground_truth, measurement),
        class_columns=[
            Column('name', 'Class', kind='text'),
            Column('num_objects', 'Objects', kind='count'),
            Column('num_detections', 'Detections', kind='count'),
            *(Column(f.key, f.title, f.sentence) for f in CLASS_COLUMNS)
        ],
        class_rows=measurement.report.to_dict()['per_class'],
        places=error_charts(identity, ground_truth, measurement),
        threshold=threshold_curve_chart(identity, measurement),
        threshold_columns=[
            Column('name', 'Class', kind='text'),
            Column('threshold', 'Threshold',
                   'Lowest score of the detections that are kept.'),
            Column('precision', 'Precision',
                   'Share of the kept detections that are right.', 'share'),
            Column('recall', 'Recall', 'Share of the objects found.', 'share'),
            Column('lrp', 'LRP',
                   figure('olrp').sentence),
            Column(
                'for_recall', 'For recall 80 %', 'The highest threshold '
                'that misses at most 20 % of the objects of a new image, '
                'on average.'),
            Column(
                'for_precision', 'For precision 80 %', 'The lowest '
                'threshold at which at most 20 % of the detections of a '
                'new image are wrong, on average, with 90 % confidence.')
        ],
        threshold_rows=_threshold_rows(ground_truth, measurement),
        false_positives=false_positives,
        missed=missed,
        gain_columns=[
            Column('method', 'Map', kind='text'),
            Column('scope', 'Fitted to', kind='text'),
            Column('d_ece', 'D-ECE', 'After a map to precision.'),
            Column('laece_0', 'LaECE_0', 'After a map to precision times IoU.')
        ],
        gain_rows=_gain_rows(measurement),
        best={
            target: best
            for target in TARGETS
            for best in [_best_row(measurement, target)] if best is not None
        })


def _headlines(measurement: Measurement) -> List[Dict[str, Any]]:
    overall = measurement.report.overall
    return [
        dict(
            figure=f,
            value=overall[f.key],
            interval=measurement.intervals.get(f.key)) for f in HEADLINES
    ]


def _comparison(measurements: Sequence[Measurement]) -> List[Dict[str, Any]]:
    """One row per figure; empty if there is only one results file."""
    if len(measurements) < 2:
        return []
    rows = []
    for f in HEADLINES:
        cells = [
            dict(
                value=measurement.report.overall[f.key],
                interval=measurement.intervals.get(f.key),
                difference=measurement.differences.get(f.key))
            for measurement in measurements
        ]
        for cell in cells:
            cell['verdict'] = _verdict(cell['difference'], f.higher_is_better)
        rows.append(dict(figure=f, cells=cells))
    return rows


def _verdict(difference: Optional[PairedDifference],
             higher_is_better: bool) -> str:
    if difference is None or not difference.excludes_zero:
        return ''
    return 'better' if (difference.low > 0) == higher_is_better else 'worse'


def _threshold_rows(ground_truth: GroundTruth,
                    measurement: Measurement) -> List[Dict[str, Any]]:
    """One threshold for all classes, then one for each class."""
    for_recall = recall_thresholds(ground_truth, measurement.matches, _RISK)
    for_precision = precision_thresholds(measurement.detections,
                                         measurement.matches, _RISK, _CHANCE)
    names = ('All classes', *ground_truth.category_names)
    points = (measurement.operating_point,
              *class_operating_points(measurement.report))
    rows = [
        dict(
            name=name,
            for_recall=recall.threshold,
            for_precision=precision.threshold,
            **vars(point))
        for name, point, recall, precision in zip(names, points, (
            for_recall.overall,
            *for_recall.per_class), (for_precision.overall,
                                     *for_precision.per_class))
    ]
    rows[0]['is_total'] = True
    return rows


def _gain_rows(measurement: Measurement) -> List[Dict[str, Any]]:
    """One row for the raw scores, then one row per kind of map."""
    if not measurement.gains:
        return []
    overall = measurement.report.overall
    rows = [
        dict(
            method='Raw scores',
            scope='',
            d_ece=overall['d_ece'],
            laece_0=overall['laece_0'],
            is_total=True)
    ]
    by_map = {}
    for gain in measurement.gains:
        row = by_map.setdefault(
            (gain.method, gain.classwise),
            dict(
                method=gain.method.capitalize(),
                scope='each class' if gain.classwise else 'all classes'))
        row[gain.figure] = gain.value
    return rows + list(by_map.values())


def _best_row(measurement: Measurement,
              target: str) -> Optional[Dict[str, Any]]:
    best = best_gain(measurement.gains, target)
    if best is None:
        return None
    return dict(
        figure=figure(best.figure),
        before=measurement.report.overall[best.figure],
        after=best.value,
        method=best.method,
        classwise=best.classwise,
        helps=is_certain(measurement, best),
        difference=measurement.gain_differences.get(target))
