"""The tables of docs/study.md: about methods and runs, and a list of all."""
import json
import math
from collections import Counter
from functools import partial
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from .comparisons import (BASELINE, FIGURES, UNCALIBRATED, Entry, contrasts,
                          find, gradient_entries, gradient_scale,
                          grid_baseline, main_entries)
from .estimates import Mean, holm, mean_of
from .markdown import (NOT_MEASURED, NOTHING, change, number, p_value, percent,
                       spread, table)
from .plan import STAGES
from .rows import Record, by_seed, finished_runs, row_of
from .selection import best_weight, grids_of, is_at_edge
from .teacher_tables import inheritance_table, r2_table, teachers_table

Results = Dict[str, Any]

_STATUSES = ('finished', 'failed', 'interrupted', 'running')
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
    return f'{table(heading, rows)}\n\n{text}'


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
            _change(entry, baseline),
            _change(entry, uncalibrated)
        ])
    heading = [
        'method', 'weight', 'RMS gradient', 'seeds', 'mAP', 'D-ECE',
        'mAP vs. baseline', f'mAP vs. {UNCALIBRATED.label}'
    ]
    return (f'{table(heading, rows)}\n\n{_MEANS} {_DIFFERENCES} RMS '
            'gradient: of the loss with its weight, on the student\'s logits; '
            'all within a factor of 2 of that of TCal, T = 1.5.')


def runs_table(results: Results) -> str:
    """What was run, on what, and what came to grief."""
    runs = results['runs']
    if not runs:
        return NOT_MEASURED
    present = {run['stage'] for run in runs}
    # Stages that the plan has no more come last.
    stages = [stage for stage in STAGES if stage in present]
    stages += sorted(present.difference(STAGES))
    groups = [(stage, [run for run in runs if run['stage'] == stage])
              for stage in stages]
    rows = []
    for name, group in [*groups, ('all', runs)]:
        counts = Counter(run['status'] for run in group)
        rows.append([
            name, *(str(counts[status]) for status in _STATUSES),
            number(sum(_wall_time(run) for run in group) / 3600, 1)
        ])
    commits = _counted(f'`{run["commit"]}`' for run in runs)
    stacks = _counted(', '.join(f'{name} {version}'
                                for name, version in run['stack'].items())
                      for run in runs)
    parts = [
        table(['stage', *_STATUSES, 'hours'], rows), f'Commits: {commits}',
        f'Stacks: {stacks}'
    ]
    unfinished = [
        f'- {run["status"]}: `{run["name"]}`' +
        (f': {" ".join(run["error"].split())}' if run['error'] else '')
        for run in runs if run['status'] != 'finished'
    ]
    if unfinished:
        parts.append('Without a result:\n\n' + '\n'.join(unfinished))
    repeated = [
        f'- `{run["name"]}` (test mAP {_test_map(run)}): '
        f'{repeat["status"]}, test mAP {_test_map(repeat)}, '
        f'commit `{repeat["commit"]}`' for run in runs
        for repeat in run.get('repeats', ())
    ]
    if repeated:
        parts.append('Made again in a new folder; the tables show the '
                     'first:\n\n' + '\n'.join(repeated))
    return '\n\n'.join(parts)


def _wall_time(run: Record) -> float:
    """Seconds of a run and of its repeats."""
    return run['wall_time_s'] + sum(repeat['wall_time_s']
                                    for repeat in run.get('repeats', ()))


def _test_map(record: Record) -> str:
    return number(100 * record['test']['mAP'], 1) if record['test'] else 'n/a'


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


def _counted(texts: Iterable[str]) -> str:
    counts: Dict[str, int] = Counter(texts)
    return '; '.join(f'{text} ({count} run{"s" if count > 1 else ""})'
                     for text, count in sorted(counts.items()))


# By the names of their blocks.
TABLES = {
    'setting': setting_table,
    'grid': grid_table,
    'main': main_table,
    'differences': differences_table,
    'confirmation-main': partial(main_table, stage='confirmation'),
    'confirmation-differences':
    partial(differences_table, stage='confirmation'),
    'gradient': gradient_table,
    'teachers': teachers_table,
    'r2': r2_table,
    'inheritance': inheritance_table,
    'bccd-main': partial(main_table, stage='bccd'),
    'bccd-differences': partial(differences_table, stage='bccd'),
    'runs': runs_table,
}
