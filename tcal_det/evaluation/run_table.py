"""What runs measured, read from their work_dirs, side by side."""
import json
import math
import os.path as osp
from dataclasses import dataclass
from glob import glob
from typing import Dict, List, Optional

from tcal_det.errors import InvalidValueError, MissingFileError
from .results_file import read_json

# Column title: (metric key, factor for printing, decimals).
COLUMNS = {
    'mAP': ('coco/bbox_mAP', 100, 1),
    'AP50': ('coco/bbox_mAP_50', 100, 1),
    'AP75': ('coco/bbox_mAP_75', 100, 1),
    'D-ECE': ('calib/d_ece', 100, 2),
    'LaECE_0': ('calib/laece_0', 100, 2),
    'LRP_0': ('calib/lrp_0', 100, 1),
}


@dataclass(frozen=True)
class RunResult:
    """What one run measured.

    Attributes:
        name (str): Of the run, the last part of its work_dir.
        work_dir (str): Where it was read.
        source (str): 'test', or 'val, step N' where the run was never
            tested; N is the epoch, or the iteration where a run logs those.
        metrics (dict[str, float]): All logged metrics, as fractions.
    """
    name: str
    work_dir: str
    source: str
    metrics: Dict[str, float]


def read_run(work_dir: str) -> RunResult:
    """Read the newest test metrics of a run, else its last validation's.

    Args:
        work_dir (str): Written by ``tools/train.py`` or ``tools/test.py``.

    Returns:
        RunResult: Its metrics.

    Raises:
        MissingFileError: If there is no such folder.
        InvalidValueError: If it holds no metrics, or a truncated file.
    """
    if not osp.isdir(work_dir):
        raise MissingFileError(f'work_dir {work_dir!r} does not exist')
    name = osp.basename(osp.abspath(work_dir))
    for session in sorted(glob(osp.join(work_dir, '*_*')), reverse=True):
        path = osp.join(session, osp.basename(session) + '.json')
        if osp.isfile(path):
            return RunResult(name, work_dir, 'test',
                             _metrics_of(read_json(path, 'test metrics')))
    for session in sorted(glob(osp.join(work_dir, '*_*')), reverse=True):
        record = _last_validation(
            osp.join(session, 'vis_data', 'scalars.json'))
        if record is not None:
            return RunResult(name, work_dir, f'val, step {record["step"]}',
                             _metrics_of(record))
    raise InvalidValueError(
        f'work_dir {work_dir!r} holds no test or validation metrics: train '
        'with a val_evaluator, or run tools/test.py with --work-dir')


def _last_validation(path: str) -> Optional[dict]:
    if not osp.isfile(path):
        return None
    last = None
    with open(path, encoding='utf-8') as file:
        for line in file:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                # The last line of a run that was killed.
                continue
            if COLUMNS['mAP'][0] in record:
                last = record
    return last


def _metrics_of(record: dict) -> Dict[str, float]:
    return {
        key: float(value)
        for key, value in record.items()
        if '/' in key and isinstance(value, (int, float))
    }


def as_markdown(runs: List[RunResult], baseline: int = 0) -> str:
    """A table with the differences to the baseline in brackets.

    Args:
        runs (list[RunResult]): The rows.
        baseline (int): Index of the row that the others are compared with.
            Defaults to 0.

    Returns:
        str: Markdown. Columns that no run measured are left out.
    """
    columns = {
        title: column
        for title, column in COLUMNS.items()
        if any(column[0] in run.metrics for run in runs)
    }
    rows = [['run', *columns, 'measured on']]
    for index, run in enumerate(runs):
        row = [run.name]
        for key, factor, decimals in columns.values():
            value = run.metrics.get(key, math.nan)
            cell = _number(value * factor, decimals)
            if index != baseline and not math.isnan(value):
                change = value - runs[baseline].metrics.get(key, math.nan)
                cell += f' ({_number(change * factor, decimals, "+")})'
            row.append(cell)
        rows.append([*row, run.source])
    widths = [
        max(len(row[column]) for row in rows)
        for column in range(len(rows[0]))
    ]
    lines = [
        '| ' +
        ' | '.join(cell.ljust(width)
                   for cell, width in zip(row, widths)) + ' |' for row in rows
    ]
    rule = '|' + '|'.join('-' * (width + 2) for width in widths) + '|'
    return '\n'.join([lines[0], rule, *lines[1:]])


def _number(value: float, decimals: int, sign: str = '') -> str:
    if math.isnan(value):
        return 'n/a'
    return format(value, f'{sign}.{decimals}f')


def as_records(runs: List[RunResult], baseline: int = 0) -> List[dict]:
    """The table for a machine: metrics and differences as fractions.

    Args:
        runs (list[RunResult]): The rows.
        baseline (int): Index of the row that the others are compared with.
            Defaults to 0.

    Returns:
        list[dict]: ``name``, ``work_dir``, ``source``, ``metrics`` and
        ``difference`` of each run.
    """
    reference = runs[baseline].metrics
    return [
        dict(
            name=run.name,
            work_dir=run.work_dir,
            source=run.source,
            metrics=run.metrics,
            difference={
                key: value - reference[key]
                for key, value in run.metrics.items() if key in reference
            }) for run in runs
    ]
