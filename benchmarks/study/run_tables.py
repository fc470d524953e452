"""The tables of docs/study.md about its runs as such."""
from collections import Counter
from typing import Any, Dict, Iterable, List, Sequence

from .comparisons import FIGURES
from .markdown import NOT_MEASURED, number, percent, table
from .plan import CHECKPOINTS, FRESH_TEACHER, STAGES
from .rows import Record, row_of

Results = Dict[str, Any]

_STATUSES = ('finished', 'failed', 'interrupted', 'running')


def unplanned_table(results: Results) -> str:
    """Runs of earlier plans, with teachers that no other table is about."""
    rows = [[
        f'`{run["name"]}`',
        row_of(run).label, run['teacher'],
        percent(run['val']['mAP']), *(percent(run['test'][figure], decimals)
                                      for figure, decimals in FIGURES.items())
    ] for run in results['runs'] if _is_of_an_earlier_plan(run)]
    if not rows:
        return NOT_MEASURED
    heading = ['run', 'method', 'teacher', 'mAP on val', *FIGURES]
    return (f'{table(heading, rows, num_text_columns=3)}\n\nOn test but '
            'where val is named, x 100; one run a row.')


def _is_of_an_earlier_plan(run: Record) -> bool:
    return (run['stage'] in ('confirmation', 'copies')
            and run['status'] == 'finished'
            and run['teacher'] not in (None, FRESH_TEACHER, *CHECKPOINTS))


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
    parts += _gaps(runs)
    return '\n\n'.join(parts)


def _gaps(runs: Sequence[Record]) -> List[str]:
    """What the results file does not know of its runs."""
    undated = Counter(run['stage'] for run in runs
                      if run.get('started') is None)
    resumed = Counter(run['stage'] for run in runs if run['attempts'] > 1)
    return [
        f'{text}: {sum(counts.values())} of {len(runs)} runs (' +
        ', '.join(f'{count} of `{stage}`'
                  for stage, count in sorted(counts.items())) + ').'
        for text, counts in (('Start not recorded', undated),
                             ('Took more than one attempt, the end of the '
                              'first not recorded', resumed)) if counts
    ]


def _wall_time(run: Record) -> float:
    """Seconds of a run and of its repeats."""
    return run['wall_time_s'] + sum(repeat['wall_time_s']
                                    for repeat in run.get('repeats', ()))


def _test_map(record: Record) -> str:
    return number(100 * record['test']['mAP'], 1) if record['test'] else 'n/a'


def _counted(texts: Iterable[str]) -> str:
    counts: Dict[str, int] = Counter(texts)
    return '; '.join(f'{text} ({count} run{"s" if count > 1 else ""})'
                     for text, count in sorted(counts.items()))
