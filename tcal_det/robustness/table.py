"""Tables of a robustness summary in Markdown."""
import math
from typing import List, Mapping, Optional, Sequence, Union

from tcal_det.evaluation.intervals import Interval, PairedDifference
from tcal_det.tables import markdown_table
from .cells import FIGURES, Cell
from .options import CONFIDENCE
from .summary import RobustnessSummary

NAMES = dict(mAP='mAP', AP50='AP50', d_ece='D-ECE', laece_0='LaECE_0')
_HEADER = list(NAMES.values())


def robustness_tables(summary: RobustnessSummary) -> str:
    """All tables, with an explanation of how to read them.

    Args:
        summary (RobustnessSummary): Summary of the cells.
    """
    parts = [_overview(summary)]
    if summary.by_corruption:
        parts += [
            '## Corruptions, mean over severities',
            markdown_table(
                [['corruption', *_HEADER],
                 *(_row(name, figures.intervals())
                   for name, figures in summary.by_corruption.items())])
        ]
    parts += ['## Every cell', _cell_table(summary.cells)]
    return '\n\n'.join(parts)


def overview_table(summary: RobustnessSummary) -> str:
    """Table of clean images, means over corruptions, severities and attacks.

    Args:
        summary (RobustnessSummary): Summary of the cells.
    """
    clean = summary.clean.figures
    rows = [_row('clean', clean.intervals())]
    if summary.mean is not None:
        rows += [
            _row('corrupted (mPC)', summary.mean.intervals()),
            _row('corrupted - clean', summary.mean.differences_from(clean)),
            _row('corrupted / clean (rPC)',
                 summary.relative.intervals(math.inf))
        ]
        rows += [
            _row(f'severity {severity}', figures.intervals())
            for severity, figures in sorted(summary.by_severity.items())
        ]
    rows += [
        _row(str(cell.shift), cell.figures.intervals())
        for cell in summary.attacked
    ]
    return markdown_table([['images', *_HEADER], *rows])


def _overview(summary: RobustnessSummary) -> str:
    lines = [
        'All figures x 100. mAP and AP50 are better when higher, D-ECE and '
        'LaECE_0 when lower.'
    ]
    if len(summary.clean.figures.resamples['mAP']):
        lines.append(f'In brackets: {CONFIDENCE:.0%} intervals over resampled '
                     'images, the same ones in all rows.')
    if summary.mean is not None:
        severities = ', '.join(map(str, sorted(summary.by_severity)))
        lines.append(f'The means are over {len(summary.by_corruption)} '
                     f'corruptions at the severities {severities}.')
    return f'{overview_table(summary)}\n\n{" ".join(lines)}'


def _cell_table(cells: Sequence[Cell]) -> str:
    """Table with the number of detections, as few make an error uncertain."""
    return markdown_table([['images', *_HEADER, 'detections'], *([
        *_row(str(cell.shift), cell.figures.intervals()),
        str(cell.num_detections)
    ] for cell in cells)])


def _row(
        name: str,
        figures: Mapping[str, Union[Interval, PairedDifference]]) -> List[str]:
    return [name, *(_text(figures.get(key)) for key in FIGURES)]


def _text(figure: Optional[Union[Interval, PairedDifference]]) -> str:
    if figure is None:
        return ''
    is_difference = isinstance(figure, PairedDifference)
    value = figure.difference if is_difference else figure.value
    if math.isnan(value):
        return 'n/a'
    form = '+.1f' if is_difference else '.1f'
    text = f'{100 * value:{form}}'
    if math.isnan(figure.low):
        return text
    return f'{text} [{100 * figure.low:{form}}, {100 * figure.high:{form}}]'
