"""Markdown tables of the figures."""
from typing import Dict

from .implementations import IMPLEMENTATIONS


def comparison_table(rows: Dict[str, Dict[str, float]]) -> str:
    """Format a table with one line for each implementation."""
    lines = [
        '| | records to arrays or index, CPU s | evaluate, CPU s | '
        'total, CPU s | '
        'peak memory, GB | before it, making the records, GB |',
        '|---|---|---|---|---|---|'
    ]
    lines += [
        f'| {IMPLEMENTATIONS[name][1]} | {row["load"]:.2f} | '
        f'{row["evaluate"]:.2f} | {row["total"]:.2f} | '
        f'{row["memory"]:.2f} | {row["memory_before"]:.2f} |'
        for name, row in rows.items()
    ]
    return '\n'.join(lines)


def command_table(rows: Dict[str, Dict[str, float]]) -> str:
    """Format a table with one line for each command."""
    lines = [
        '| | wall, s | CPU, s | CPU / hotcoco | peak memory, GB |',
        '|---|---|---|---|---|'
    ]
    unit = rows.get('hotcoco', dict(cpu=float('nan')))['cpu']
    lines += [
        f'| {title} | {row["wall"]:.2f} | {row["cpu"]:.2f} | '
        f'{row["cpu"] / unit:.1f} | {row["memory"]:.2f} |'
        for title, row in rows.items()
    ]
    return '\n'.join(lines)


def growth_table(rows: Dict[int, Dict[str, float]]) -> str:
    """Format a table with one line for each number of images."""
    lines = [
        '| images | objects | results | total, CPU s | us per result | '
        'peak memory, GB |', '|---|---|---|---|---|---|'
    ]
    lines += [
        f'| {num_images} | {row["objects"]} | {row["results"]} | '
        f'{row["total"]:.2f} | {1e6 * row["total"] / row["results"]:.2f} | '
        f'{row["memory"]:.2f} |' for num_images, row in rows.items()
    ]
    return '\n'.join(lines)
