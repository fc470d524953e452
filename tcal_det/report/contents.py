"""The content of the page: what the template writes, in its order.

Everything a template needs is prepared here, so that it holds no logic but
loops. Numbers stay numbers: the template formats them.
"""
import datetime
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tcal_det.evaluation.functional import GroundTruth
from tcal_det.evaluation.functional.conformal_threshold import (
    precision_thresholds, recall_thresholds)
from tcal_det.evaluation.intervals import PairedDifference
from tcal_det.version import __version__
from . import charts
from .error_places import (detections_by_score, errors_by_size,
                           gaps_by_position, misses_by_position)
from .example_images import (KINDS_OF_ERROR, ExampleImage,
                             false_positive_images, missed_object_images)
from .explanations import CLASS_COLUMNS, HEADLINES, figure
from .measurement import Measurement
from .operating_point import class_operating_points, threshold_curve
from .recalibration_gain import TARGETS, best_gain
from .summary import compared_in_short, in_short

# Diagrams of more classes would fill the page's file.
_MOST_DIAGRAMS = 100
# Largest share of missed objects or of wrong detections, and chance that the
# second bound does not hold.
_RISK, _CHANCE = 0.2, 0.1


@dataclass(frozen=True)
class Column:
    """One column of a table that sorts.

    Attributes:
        key (str): Field of the rows.
        title (str): What the column is called.
        explanation (str): What it means. Defaults to ''.
        kind (str): 'text', 'count', 'figure' (3 decimals), 'signed' or
            'share' (a percentage). Defaults to 'figure'.
    """
    key: str
    title: str
    explanation: str = ''
    kind: str = 'figure'


@dataclass(frozen=True)
class Chart:
    """A chart with its caption.

    Attributes:
        id (str): Of the element it is drawn in.
        title (str): Its heading.
        caption (str): What it shows, and how to read it.
        specs (Tuple[dict, ...]): Vega-Lite, one below the other.
        classes (Tuple[str, ...]): That can be chosen. Defaults to ().
        columns (Tuple[Column, ...]): Of its numbers as a table. Defaults to
            ().
        rows (Sequence[Mapping]): Of that table. Defaults to ().
        is_wide (bool): Whether it takes the whole width. Defaults to False.
    """
    id: str
    title: str
    caption: str
    specs: Tuple[Dict[str, Any], ...]
    classes: Tuple[str, ...] = ()
    columns: Tuple[Column, ...] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    is_wide: bool = False


@dataclass(frozen=True)
class Chapter:
    """What the page says about one results file; see the template."""
    id: str
    name: str
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
    """All variables of the template.

    Args:
        title (str): Title of the page.
        ground_truth (GroundTruth): Objects.
        measurements (Sequence[Measurement]): One for each results file.
        image_files (Mapping[Any, str], optional): Path of each image.
        num_images (int): Largest number of images of each kind.
        num_resamples (int): Bootstrap samples; 0 for none.
        seed (int): Random seed.
    """
    chapters = [
        _chapter(f'r{number}', ground_truth, one, image_files, num_images)
        for number, one in enumerate(measurements, 1)
    ]
    return dict(
        title=title,
        date=datetime.date.today().isoformat(),
        version=__version__,
        chapters=chapters,
        comparison=_comparison(measurements),
        compared_short=[
            compared_in_short(measurements[0], one) for one in measurements[1:]
        ],
        figures=HEADLINES,
        settings=measurements[0].evaluation.report.settings,
        num_resamples=num_resamples,
        seed=seed,
        has_images=image_files is not None,
        data={one.name: _data(one)
              for one in measurements})


def _data(one: Measurement) -> Dict[str, Any]:
    """The evaluation as `tcal-eval` writes it, bins of classes left out."""
    content = one.evaluation.to_dict()
    content['bins'].pop('per_class')
    content['intervals'] = {
        key: dict(low=interval.low, high=interval.high)
        for key, interval in one.intervals.items()
    }
    content['error_split'] = one.split.to_dict()
    return content


def _chapter(identity: str, ground_truth: GroundTruth, one: Measurement,
             image_files: Optional[Mapping[Any,
                                           str]], num_images: int) -> Chapter:
    point = one.operating_point
    false_positives, missed = [], []
    if image_files is not None:
        false_positives = false_positive_images(ground_truth, one.detections,
                                                one.matches, one.split,
                                                image_files, num_images)
        missed = missed_object_images(ground_truth, one.matches,
                                      point.threshold, image_files, num_images)
    curve = threshold_curve(one.matches)
    return Chapter(
        id=identity,
        name=one.name,
        short=in_short(one),
        counts=one.evaluation.report.counts,
        headlines=_headlines(one),
        diagrams=_diagrams(identity, ground_truth, one),
        class_columns=[
            Column('name', 'Class', kind='text'),
            Column('num_objects', 'Objects', kind='count'),
            Column('num_detections', 'Detections', kind='count'),
            *(Column(f.key, f.title, f.sentence) for f in CLASS_COLUMNS)
        ],
        class_rows=one.evaluation.to_dict()['per_class'],
        places=_places(identity, ground_truth, one),
        threshold=Chart(
            f'{identity}-threshold-curve', 'Precision and recall by threshold',
            'What is right among the detections that are left, and what '
            'share of the objects they find, when scores below a threshold '
            'are dropped. The dashed line marks the threshold with the least '
            'LRP error.', (charts.threshold_chart(curve, point.threshold), ),
            (),
            (Column('threshold', 'Threshold'),
             Column('precision', 'Precision',
                    kind='share'), Column('recall', 'Recall', kind='share'),
             Column('detections', 'Detections', kind='count')), curve[::10]),
        threshold_columns=[
            Column('name', 'Class', kind='text'),
            Column('threshold', 'Threshold',
                   'Keep detections of this score and more.'),
            Column('precision', 'Precision',
                   'Share of right ones among the detections left.', 'share'),
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
        threshold_rows=_threshold_rows(ground_truth, one),
        false_positives=false_positives,
        missed=missed,
        gain_columns=[
            Column('method', 'Map', kind='text'),
            Column('scope', 'Fitted to', kind='text'),
            Column('d_ece', 'D-ECE', 'After maps to precision.'),
            Column('laece_0', 'LaECE_0', 'After maps to precision times IoU.')
        ],
        gain_rows=_gain_rows(one),
        best={
            target: best
            for target in TARGETS
            for best in [_best_row(one, target)] if best is not None
        })


def _headlines(one: Measurement) -> List[Dict[str, Any]]:
    overall = one.evaluation.overall
    return [
        dict(
            figure=f, value=overall[f.key], interval=one.intervals.get(f.key))
        for f in HEADLINES
    ]


def _comparison(measurements: Sequence[Measurement]) -> List[Dict[str, Any]]:
    """One row per figure; empty with one result."""
    if len(measurements) < 2:
        return []
    rows = []
    for f in HEADLINES:
        cells = [
            dict(
                value=one.evaluation.overall[f.key],
                interval=one.intervals.get(f.key),
                difference=one.differences.get(f.key)) for one in measurements
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


def _diagrams(identity: str, ground_truth: GroundTruth,
              one: Measurement) -> List[Chart]:
    report = one.evaluation.report
    frequent = np.argsort(-report.num_detections, kind='stable')
    shown = np.sort(frequent[:_MOST_DIAGRAMS]).tolist()
    names = tuple(ground_truth.category_names[k] for k in shown)
    if len(names) < 2:  # one class is all classes
        shown, names = [], ()
    settings = report.settings
    columns = (Column('label', 'Scores',
                      kind='text'), Column('n', 'Detections', kind='count'),
               Column('s', 'Mean score'))
    diagrams = []
    for key, error, target, text in (
        ('d_ece', report.d_ece, 'precision',
         f'{settings["d_ece_bins"]} bins, match at IoU '
         f'{settings["d_ece_iou_thr"]:g}.'),
        ('laece', report.laece, 'precision times IoU',
         f'{settings["laece_bins"]} bins, match at IoU '
         f'{settings["laece_iou_thr"]:g}; the figure is the mean over '
         'classes, the diagram shows all classes together.')):
        title = target[0].upper() + target[1:]
        tables = [error.bins, *(error.per_class[k].bins for k in shown)]
        diagrams.append(
            Chart(
                f'{identity}-{key}',
                f'{figure(key).title} {_number(one.evaluation.overall[key])}',
                f'Blue bars: {target} of the detections in a bin of scores. '
                'The line across a bin is their mean score, orange where it '
                'is too high and grey where it is too low; the shaded part '
                'between the two is the error. Bars of a calibrated detector '
                'end on the dashed diagonal. Bins of fewer than 20 '
                f'detections are faint. {text}', (charts.reliability_chart(
                    tables, title), charts.count_chart(tables)), names,
                (*columns, Column('t', title),
                 Column('gap', 'Score minus that', kind='signed')),
                charts.bin_rows([error.bins])))
    return diagrams


def _places(identity: str, ground_truth: GroundTruth,
            one: Measurement) -> List[Chart]:
    threshold = one.operating_point.threshold
    at = f'at threshold {_number(threshold)}'
    sizes = errors_by_size(ground_truth, one.matches, threshold)
    kinds = [
        dict(
            kind=KINDS_OF_ERROR[kind],
            cost=cost,
            number=one.split.num_errors[kind])
        for kind, cost in one.split.d_ap.items()
    ]
    places = [
        Chart(
            f'{identity}-scores',
            'By score',
            'Right and wrong detections by their score; the axis shows '
            'square roots, so that small numbers are seen.',
            (charts.score_chart(detections_by_score(one.matches)), ),
            is_wide=True),
        Chart(
            f'{identity}-kinds', 'By kind of error',
            'AP50 that would be gained if all errors of one kind were put '
            'right, and no other (TIDE): the longest bar is the best place '
            'to start.',
            (charts.bar_chart(kinds, 'kind', 'cost', 'AP50 to gain'), ), (),
            (Column('kind', 'Kind', kind='text'), Column(
                'cost', 'AP50 to gain'),
             Column('number', 'Errors', kind='count')), kinds),
        Chart(
            f'{identity}-sizes', 'By size',
            f'Objects missed and detections that are wrong {at}. Small is '
            'below 32 x 32 pixels, large above 96 x 96.',
            (charts.size_chart(sizes), ), (),
            (Column('size', 'Size',
                    kind='text'), Column('objects', 'Objects', kind='count'),
             Column('missed', 'Missed', kind='share'),
             Column('detections', 'Detections',
                    kind='count'), Column('false', 'Wrong', kind='share'),
             Column('score', 'Mean score'),
             Column('gap', 'Score minus precision', kind='signed')), sizes),
    ]
    misses = misses_by_position(ground_truth, one.matches, threshold)
    if misses:
        places.append(
            Chart(
                f'{identity}-misses', 'Missed, by place in the image',
                f'Share of the objects missed {at}, by where their centre '
                'lies; cells of fewer than 5 objects are blank.',
                (charts.position_chart(misses, 'Missed', False), )))
    gaps = gaps_by_position(one.evaluation.report)
    if gaps:
        limit = max(0.05, max(abs(row['value']) for row in gaps))
        places.append(
            Chart(
                f'{identity}-gaps', 'Calibration, by place in the image',
                'Mean score minus precision by where the centre of the '
                'predicted box lies: orange where scores are too high, blue '
                'where they are too low; cells of few detections are blank.',
                (charts.position_chart(gaps, 'Score minus precision', True,
                                       math.ceil(limit * 20) / 20), )))
    return places


def _threshold_rows(ground_truth: GroundTruth,
                    one: Measurement) -> List[Dict[str, Any]]:
    """One threshold for all classes, then one for each class."""
    for_recall = recall_thresholds(ground_truth, one.matches, _RISK)
    for_precision = precision_thresholds(one.detections, one.matches, _RISK,
                                         _CHANCE)
    names = ('All, one for all', *ground_truth.category_names)
    points = (one.operating_point,
              *class_operating_points(one.evaluation.report))
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


def _gain_rows(one: Measurement) -> List[Dict[str, Any]]:
    """The scores as they are, then one row per kind of map."""
    if not one.gains:
        return []
    overall = one.evaluation.overall
    rows = [
        dict(
            method='Scores as they are',
            scope='',
            d_ece=overall['d_ece'],
            laece_0=overall['laece_0'],
            is_total=True)
    ]
    by_map = {}
    for gain in one.gains:
        row = by_map.setdefault(
            (gain.method, gain.classwise),
            dict(
                method=gain.method.capitalize(),
                scope='each class' if gain.classwise else 'all classes'))
        row[gain.figure] = gain.value
    return rows + list(by_map.values())


def _best_row(one: Measurement, target: str) -> Optional[Dict[str, Any]]:
    best = best_gain(one.gains, target)
    if best is None:
        return None
    return dict(
        figure=figure(best.figure),
        before=one.evaluation.overall[best.figure],
        after=best.value,
        method=best.method,
        classwise=best.classwise,
        target=target,
        difference=one.gain_differences.get(target))


def _number(value: float) -> str:
    return 'undefined' if math.isnan(value) else f'{value:.3f}'
