"""Charts of one results file with their captions and their numbers."""
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from tcal_det.evaluation.functional import GroundTruth
from . import charts
from .error_places import (detections_by_score, errors_by_size,
                           gaps_by_position, misses_by_position)
from .example_images import KINDS_OF_ERROR
from .explanations import figure
from .measurement import Measurement
from .operating_point import threshold_curve

# Diagrams of more classes would make the file of the page too large.
_MOST_DIAGRAMS = 100


@dataclass(frozen=True)
class Column:
    """One column of a sortable table.

    Attributes:
        key (str): Key of the column in the rows.
        title (str): Heading of the column.
        explanation (str): Meaning of the column. Defaults to ''.
        kind (str): Kind of the values: 'text', 'count', 'figure' (3
            decimals), 'signed' or 'share' (a percentage). Defaults to
            'figure'.
    """
    key: str
    title: str
    explanation: str = ''
    kind: str = 'figure'


@dataclass(frozen=True)
class Chart:
    """A chart with its caption.

    Attributes:
        id (str): Id of the HTML element that contains the chart.
        title (str): Heading of the chart.
        caption (str): Description of the chart and how to read it.
        specs (tuple[dict, ...]): Vega-Lite specifications, drawn one below
            the other.
        classes (tuple[str, ...]): Names of the classes that can be selected.
            Defaults to ().
        columns (tuple[Column, ...]): Columns of the table with the numbers
            of the chart. Defaults to ().
        rows (Sequence[Mapping]): Rows of this table. Defaults to ().
        is_wide (bool): Whether the chart takes the whole width of the page.
            Defaults to False.
    """
    id: str
    title: str
    caption: str
    specs: Tuple[Dict[str, Any], ...]
    classes: Tuple[str, ...] = ()
    columns: Tuple[Column, ...] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    is_wide: bool = False


def reliability_charts(identity: str, ground_truth: GroundTruth,
                       measurement: Measurement) -> List[Chart]:
    """Reliability diagrams of D-ECE and LaECE.

    Args:
        identity (str): Prefix of the ids of the HTML elements.
        ground_truth (GroundTruth): Annotations with the class names.
        measurement (Measurement): Measurement of one results file.
    """
    report = measurement.report
    frequent = np.argsort(-report.num_detections, kind='stable')
    shown = np.sort(frequent[:_MOST_DIAGRAMS]).tolist()
    names = tuple(ground_truth.category_names[k] for k in shown)
    if len(names) < 2:  # a single class has the diagram of all classes
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
                f'{identity}-{key}', f'{figure(key).title} '
                f'{_number(measurement.report.overall[key])}',
                f'Blue bars: {target} of the detections in a bin of scores. '
                'The line across a bin is their mean score, orange where it '
                'is too high and grey where it is too low; the shaded part '
                'between the two is the error. Bars of a calibrated detector '
                'end on the dashed diagonal. Bins with fewer than 20 '
                f'detections are faint. {text}', (charts.reliability_chart(
                    tables, title), charts.count_chart(tables)), names,
                (*columns, Column('t', title),
                 Column('gap', 'Score minus target', kind='signed')),
                charts.bin_rows([error.bins])))
    return diagrams


def error_charts(identity: str, ground_truth: GroundTruth,
                 measurement: Measurement) -> List[Chart]:
    """Charts of the errors by score, kind, size and, if known, position.

    Args:
        identity (str): Prefix of the ids of the HTML elements.
        ground_truth (GroundTruth): Annotated objects.
        measurement (Measurement): Measurement of one results file.
    """
    threshold = measurement.operating_point.threshold
    at_threshold = f'at threshold {_number(threshold)}'
    sizes = errors_by_size(ground_truth, measurement.matches, threshold)
    kinds = [
        dict(
            kind=KINDS_OF_ERROR[kind],
            cost=cost,
            number=measurement.split.num_errors[kind])
        for kind, cost in measurement.split.d_ap.items()
    ]
    places = [
        Chart(
            f'{identity}-scores',
            'By score',
            'Right and wrong detections by their score. The axis has a '
            'square-root scale, so that small numbers are visible.',
            (charts.score_chart(detections_by_score(measurement.matches)), ),
            is_wide=True),
        Chart(
            f'{identity}-kinds', 'By kind of error',
            'Increase of AP50 if all errors of one kind, and only these, '
            'were corrected (TIDE). The kind with the longest bar costs the '
            'most.',
            (charts.bar_chart(kinds, 'kind', 'cost', 'AP50 increase'), ), (),
            (Column('kind', 'Kind',
                    kind='text'), Column('cost', 'AP50 increase'),
             Column('number', 'Errors', kind='count')), kinds),
        Chart(
            f'{identity}-sizes', 'By size',
            f'Objects missed and detections that are wrong {at_threshold}. '
            'Small is below 32 x 32 pixels, large above 96 x 96.',
            (charts.size_chart(sizes), ), (),
            (Column('size', 'Size',
                    kind='text'), Column('objects', 'Objects', kind='count'),
             Column('missed', 'Missed', kind='share'),
             Column('detections', 'Detections',
                    kind='count'), Column('false', 'Wrong', kind='share'),
             Column('score', 'Mean score'),
             Column('gap', 'Score minus precision', kind='signed')), sizes),
    ]
    misses = misses_by_position(ground_truth, measurement.matches, threshold)
    if misses:
        places.append(
            Chart(
                f'{identity}-misses', 'Missed objects by position',
                f'Share of the objects missed {at_threshold}, by the '
                'position of their centre in the image. Cells with fewer than '
                '5 objects are blank.',
                (charts.position_chart(misses, 'Missed', False), )))
    gaps = gaps_by_position(measurement.report)
    if gaps:
        limit = max(0.05, max(abs(row['value']) for row in gaps))
        places.append(
            Chart(
                f'{identity}-gaps', 'Calibration by position',
                'Mean score minus precision by the position of the centre of '
                'the predicted box in the image: orange where scores are too '
                'high, blue where they are too low. Cells with few '
                'detections are blank.',
                (charts.position_chart(gaps, 'Score minus precision', True,
                                       math.ceil(limit * 20) / 20), )))
    return places


def threshold_curve_chart(identity: str, measurement: Measurement) -> Chart:
    """Chart of precision and recall over the score threshold.

    Args:
        identity (str): Prefix of the id of the HTML element.
        measurement (Measurement): Measurement of one results file.
    """
    curve = threshold_curve(measurement.matches)
    return Chart(
        f'{identity}-threshold-curve', 'Precision and recall by threshold',
        'Precision and recall if detections with scores below the threshold '
        'are left out: the share of the other detections that are right, and '
        'the share of the objects that they find. '
        'The dashed line marks the threshold with the least LRP error.',
        (charts.threshold_chart(curve,
                                measurement.operating_point.threshold), ), (),
        (Column('threshold',
                'Threshold'), Column('precision', 'Precision', kind='share'),
         Column('recall', 'Recall', kind='share'),
         Column('detections', 'Detections', kind='count')), curve[::10])


def _number(value: float) -> str:
    return 'undefined' if math.isnan(value) else f'{value:.3f}'
