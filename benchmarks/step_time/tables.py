"""Markdown tables of the figures."""
from typing import Any, Dict, List, Optional


def _row(cells: List[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _table(header: List[str], rows: List[List[str]]) -> str:
    return '\n'.join(map(_row, [header, ['---'] * len(header), *rows]))


def _seconds(value: Optional[float]) -> str:
    return '-' if value is None else f'{value:.3f}'


def _gigabytes(memory: Dict[str, int], variant: str) -> str:
    return f'{memory[variant] / 1e9:.2f}' if variant in memory else '-'


def comparison_table(pairs: Dict[str, Dict[str, Dict[str, Any]]]) -> str:
    """Format a table with a line for each pair, image size and precision."""
    header = [
        'pair', 'images', 'plain, s', 'teacher, s', 'teacher as ours, s',
        'limit, s', 'ours, s', 'ours / limit', 'ours / plain', 'naive, s',
        'mmrazor, s', 'peak memory of plain, ours, naive, mmrazor, GB',
        'added by a step, GB (logit tensors)'
    ]
    rows, reasons = [], set()
    for pair, sizes in pairs.items():
        for size, entry in sizes.items():
            rows.append(_comparison_row(pair, size, entry))
            if 'amp' in entry:
                rows.append(
                    _comparison_row(pair, f'{size}, AMP', entry['amp']))
            reasons.update(entry['unavailable'].items())
    return '\n\n'.join(
        [_table(header, rows)] +
        [f'{name} did not run: {reason}' for name, reason in sorted(reasons)])


def _comparison_row(pair: str, images: str, figures: Dict[str,
                                                          Any]) -> List[str]:
    times = [
        _seconds(figures[key])
        for key in ('plain', 'teacher', 'teacher_as_ours', 'limit', 'ours',
                    'ratio', 'over_plain', 'naive', 'mmrazor')
    ]
    lower, upper = figures['ratio_quartiles']
    times[5] += f' ({lower:.3f} to {upper:.3f})'
    memory = ', '.join(
        _gigabytes(figures['memory'], variant)
        for variant in ('plain', 'ours', 'naive', 'mmrazor'))
    added = (f'{figures["added_memory"] / 1e9:.2f} '
             f'({figures["added_logits"]:.1f})')
    return [
        pair, f'{figures["batch_size"]} of {images}', *times, memory, added
    ]


def methods_table(methods: Dict[str, Dict[str, Any]]) -> str:
    """Format a table with a line for each method."""
    rows = [[
        name,
        _seconds(figures['plain']),
        _seconds(figures['limit']),
        _seconds(figures['ours']), f'{figures["ratio"]:.2f}',
        f'{figures["over_plain"]:.2f}',
        f'{figures["added_memory"] / 2**20:.0f}'
    ] for name, figures in methods.items()]
    return _table([
        'config', 'plain, s', 'limit, s', 'ours, s', 'ours / limit',
        'ours / plain', 'memory added to a step, MiB'
    ], rows)


def growth_table(growth: Dict[str, List[Dict[str, Any]]]) -> str:
    """Format a table with a line for each value of each factor."""
    rows = []
    for factor, points in growth.items():
        for point in points:
            rows.append([
                factor,
                str(point['value']),
                _seconds(point['plain']),
                _seconds(point['ours']), f'{point["over_plain"]:.2f}',
                _gigabytes(point['memory'], 'plain'),
                _gigabytes(point['memory'], 'ours')
            ])
    return _table([
        'varied', 'value', 'plain, s', 'ours, s', 'ours / plain',
        'plain, peak GB', 'ours, peak GB'
    ], rows)
