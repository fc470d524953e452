"""The tables of docs/study.md: about methods, and a list of all tables."""
import json
import math
from functools import partial
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .comparisons import (BASELINE, FIGURES, UNCALIBRATED, Entry, contrasts,
                          find, gradient_entries, gradient_scale,
                          grid_baseline, main_entries)
from .estimates import Mean, holm, mean_of
from .headlines import headlines_table, power_table
from .markdown import (NOT_MEASURED, NOTHING, change, p_value, percent, spread,
                       table)
from .rows import Record, Row, by_seed, finished_runs, row_of
from .run_tables import runs_table, unplanned_table
from .selection import best_weight, grids_of, is_at_edge
from .teacher_tables import (inheritance_table, r2_table,
                             teacher_differences_table, teachers_table)

Results = Dict[str, Any]

# Parts of a run's overrides that other tables have columns for.
_TEACHER_KEYS = ('model.type.', 'model.student_type.', 'model.teacher.',
                 'model.distill_losses.')
_MEANS = ('On the test split, x 100: mean ± standard deviation over seeds.')
_DIFFERENCES = ('Differences are between runs of the same seed, with their '
                '95 % confidence interval (Student\'s t).')


def setting_table(results: Results) -> str:
    """Teachers and pilots one by one, and what the baseline reaches."""
    rows = [
        _setting_row(run) for stage in ('teachers', 'setting')
        for run in results['runs'] if run['stage'] == stage
    ]
    baselines = [
        run for run in finished_runs(results['runs'], 'seeds')
        if row_of(run) == BASELINE
    ]
    if baselines:
        means = {
            figure: mean_of(list(by_seed(baselines, 'val', figure).values()))
            for figure in FIGURES
        }
        rows.append([
            f'seeds/baseline, {means["mAP"].count} seeds',
            _config_name(baselines[0]), BASELINE.label, '', 'finished',
            *(spread(means[figure], decimals)
              for figure, decimals in FIGURES.items())
        ])
    if not rows:
        return NOT_MEASURED
    heading = ['run', 'config', 'method', 'changed', 'status', *FIGURES]
    return table(heading, rows, num_text_columns=5) + '\n\nOn val, x 100.'


def _setting_row(run: Record) -> List[str]:
    figures = run['val'] if run['status'] == 'finished' else None
    return [
        run['name'],
        _config_name(run),
        _method(run),
        _changes(run), run['status'],
        *(percent((figures or {}).get(figure), decimals)
          for figure, decimals in FIGURES.items())
    ]


def grid_table(results: Results) -> str:
    """Which weight each method gets, and how near the others come."""
    grids = grids_of(results['runs'])
    if not grids:
        return NOT_MEASURED
    weights = sorted(set().union(*grids.values()))
    rows = []
    for row, scores in grids.items():
        best = best_weight(scores)
        cells = []
        for weight in weights:
            cell = percent(scores.get(weight))
            if weight == best:
                edge = '\\*' if is_at_edge(scores, weight) else ''
                cell = f'**{cell}**{edge}'
            cells.append(cell)
        rows.append([row.label, *cells])
    heading = ['loss weight', *(f'{weight:g}' for weight in weights)]
    seeds = sorted(
        {run['seed']
         for run in finished_runs(results['runs'], 'grid')})
    text = (f'mAP on val, x 100, seed {", ".join(map(str, seeds))}. Bold: '
            'chosen. \\*: at an edge of the grid; a weight beyond it may be '
            'better.')
    baseline = grid_baseline(results)
    if baseline.count:
        text += f' The baseline: {percent(baseline.mean)}.'
    return f'{table(heading, rows)}\n\n{text}{_regression(results, grids)}'


def _regression(results: Results, grids: Dict[Row, Dict[float, float]]) -> str:
    """How far the chosen cells fall on val once other seeds are run."""
    compared = [entry for entry in main_entries(results) if entry.weight]
    falls = [
        100 * (grids[entry.row][entry.weight] -
               mean_of(list(entry.by_seed('mAP', 'val').values())).mean)
        for entry in compared
        if entry.weight == best_weight(grids.get(entry.row, {}))
    ]
    if not falls:
        return ''
    text = (' With the other seeds of the comparison below the chosen cells '
            f'fall by {sum(falls) / len(falls):.1f} on average '
            f'({min(falls):.1f} to {max(falls):.1f})')
    alone = find(main_entries(results), BASELINE)
    baseline = grid_baseline(results)
    if alone is None or not baseline.count:
        return f'{text}.'
    fall = baseline.mean - mean_of(list(alone.by_seed('mAP',
                                                      'val').values())).mean
    return f'{text}, the baseline by {percent(fall)}.'


def main_table(results: Results, stage: str = 'seeds') -> str:
    """All methods, each at its own weight."""
    entries = main_entries(results, stage)
    if not entries:
        return NOT_MEASURED
    baseline = find(entries, BASELINE)
    rows = [[
        entry.row.label,
        _weight(entry),
        str(entry.mean('mAP').count),
        *(spread(entry.mean(figure), decimals)
          for figure, decimals in FIGURES.items()),
        _change(entry, baseline)
    ] for entry in entries]
    heading = ['method', 'weight', 'seeds', *FIGURES, 'mAP vs. baseline']
    return f'{table(heading, rows)}\n\n{_MEANS} {_DIFFERENCES}'


def differences_table(results: Results, stage: str = 'seeds') -> str:
    """What calibration changes, in runs of the same seed."""
    entries = main_entries(results, stage)
    pairs = contrasts(entries)
    if not pairs:
        return NOT_MEASURED
    changes = [{
        figure: entry.change(other, figure)
        for figure in FIGURES
    } for entry, other in pairs]
    adjusted = holm([estimates['mAP'].p_value for estimates in changes])
    rows = []
    for (entry, other), estimates, p_holm in zip(pairs, changes, adjusted):
        rows.append([
            f'{_name(entry, entries)} vs. {_name(other, entries)}',
            str(estimates['mAP'].count),
            change(estimates['mAP']),
            p_value(estimates['mAP'].p_value),
            p_value(p_holm), *(_tested(estimates[figure])
                               for figure in FIGURES if figure != 'mAP')
        ])
    heading = ['difference', 'seeds', 'mAP', 'p', 'p (Holm)']
    heading += [f'{figure} (p)' for figure in FIGURES if figure != 'mAP']
    return (f'{table(heading, rows)}\n\nOn the test split, x 100. '
            f'{_DIFFERENCES} p: paired t-test, two-sided; p (Holm): adjusted '
            'for the number of rows, mAP only. The other columns are not '
            'adjusted.')


def gradient_table(results: Results) -> str:
    """Methods at weights at which they pull about equally hard."""
    entries = gradient_entries(results)
    if not entries:
        return NOT_MEASURED
    baseline, uncalibrated = (
        find(entries, row) for row in (BASELINE, UNCALIBRATED))
    rows = []
    for entry in entries:
        scale = gradient_scale(results, entry.row, entry.weight)
        rows.append([
            entry.row.label,
            _weight(entry), NOTHING if math.isnan(scale) else f'{scale:.3g}',
            str(entry.mean('mAP').count),
            spread(entry.mean('mAP')),
            spread(entry.mean('D-ECE'), 2),
            spread(entry.mean('LRP_0')),
            _change(entry, baseline),
            _change(entry, uncalibrated)
        ])
    heading = [
        'method', 'weight', 'RMS gradient', 'seeds', 'mAP', 'D-ECE', 'LRP_0',
        'mAP vs. baseline', f'mAP vs. {UNCALIBRATED.label}'
    ]
    return (f'{table(heading, rows)}\n\n{_MEANS} {_DIFFERENCES} RMS '
            'gradient: of the loss with its weight, on the student\'s logits; '
            'all within a factor of 2 of that of TCal, T = 1.5.')


def _name(entry: Entry, entries: List[Entry]) -> str:
    """Its method, and its weight where the method has several."""
    if sum(other.row == entry.row for other in entries) == 1:
        return entry.row.label
    return f'{entry.row.label} (weight {_weight(entry)})'


def _weight(entry: Entry) -> str:
    return '' if entry.weight is None else f'{entry.weight:g}'


def _change(entry: Entry, reference: Optional[Entry]) -> str:
    if reference is None:
        return NOTHING
    return '' if entry is reference else change(entry.change(reference, 'mAP'))


def _tested(estimate: Mean) -> str:
    return f'{change(estimate)} ({p_value(estimate.p_value)})'


def _config_name(run: Record) -> str:
    return run['config'].rpartition('/')[2].rpartition('.')[0]


def _method(run: Record) -> str:
    row = row_of(run)
    if run['loss_weight'] is None:
        return row.label
    return (f'{row.label}, weight {run["loss_weight"]:g}, '
            f'from {run["teacher"]}')


def _changes(run: Record) -> str:
    return ', '.join(f'`{key}={json.dumps(value)}`'
                     for key, value in _flat(run['overrides'])
                     if not f'{key}.'.startswith(_TEACHER_KEYS))


def _flat(overrides: Dict[str, Any],
          prefix: str = '') -> Iterator[Tuple[str, Any]]:
    """Nested settings as mmengine's ``--cfg-options`` names them."""
    for key, value in overrides.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


# By the names of their blocks.
TABLES = {
    'headlines': headlines_table,
    'short': partial(headlines_table, is_short=True),
    'power': power_table,
    'setting': setting_table,
    'grid': grid_table,
    'main': main_table,
    'differences': differences_table,
    'confirmation-main': partial(main_table, stage='confirmation'),
    'confirmation-differences':
    partial(differences_table, stage='confirmation'),
    'gradient': gradient_table,
    'teachers': teachers_table,
    'teacher-differences': teacher_differences_table,
    'r2': r2_table,
    'inheritance': inheritance_table,
    'bccd-main': partial(main_table, stage='bccd'),
    'bccd-differences': partial(differences_table, stage='bccd'),
    'unplanned': unplanned_table,
    'runs': runs_table,
}
