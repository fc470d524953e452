"""Comparison table of the metrics of several runs, read from work_dirs."""
import json
import math
import os.path as osp
import sys
from dataclasses import dataclass
from glob import escape, glob
from typing import Any, Dict, List, Optional

from tcal_det.checks import shortened
from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.tables import markdown_table
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
# These have separate columns: AP of VOC is not AP of COCO, so they are not
# subtracted.
FURTHER_COLUMNS = {
    'segm mAP': ('coco/segm_mAP', 100, 1),
    'VOC mAP': ('pascal_voc/mAP', 100, 1),
    'VOC AP50': ('pascal_voc/AP50', 100, 1),
}
ALL_COLUMNS = {**COLUMNS, **FURTHER_COLUMNS}
LARGEST = sys.float_info.max
_PRINTED = {key for key, _, _ in ALL_COLUMNS.values()}


@dataclass(frozen=True)
class RunResult:
    """Metrics of one run.

    Attributes:
        name (str): Last part of the run's work_dir.
        work_dir (str): Path to the run's work_dir.
        source (str): Source of the metrics: 'test', or 'val, step N' if the
            run was never tested. N is the epoch, or the iteration if the run
            logs iterations.
        metrics (dict[str, float]): All logged metrics, as fractions; NaN where
            undefined.
    """
    name: str
    work_dir: str
    source: str
    metrics: Dict[str, float]

    @property
    def split(self) -> str:
        """'test' or 'val', without the step."""
        return self.source.partition(',')[0]


def read_run(work_dir: str) -> RunResult:
    """Read the newest test metrics of a run, else its last validation metrics.

    Args:
        work_dir (str): Path to a folder that ``tools/train.py`` or
            ``tools/test.py`` wrote.

    Returns:
        RunResult: Metrics of the run.

    Raises:
        MissingFileError: If there is no such folder.
        InvalidValueError: If the folder contains no metrics, a truncated file,
            or an invalid figure.
    """
    if not osp.isdir(work_dir):
        raise MissingFileError(f'work_dir {work_dir!r} does not exist')
    name = osp.basename(osp.abspath(work_dir))
    # mmengine names them by date and time; the folder teacher_calibration of
    # tools/distill.py must not be taken for a test.
    sessions = sorted(
        glob(osp.join(escape(work_dir), '[0-9]*_[0-9]*')), reverse=True)
    for session in sessions:
        path = osp.join(session, osp.basename(session) + '.json')
        if osp.isfile(path):
            record = read_json(path, 'test metrics')
            return RunResult(name, work_dir, 'test',
                             _metrics_of(record, f'test metrics {path!r}'))
    for session in sessions:
        path = osp.join(session, 'vis_data', 'scalars.json')
        record = _last_validation(path)
        if record is not None:
            where = f'validation metrics {path!r}'
            step = record.get('step')
            if isinstance(step, bool) or not isinstance(step, int):
                raise InvalidValueError(
                    f'{where}: `step` must be a whole number, but got '
                    f'{shortened(step)}')
            return RunResult(name, work_dir, f'val, step {step}',
                             _metrics_of(record, where))
    raise InvalidValueError(
        f'work_dir {work_dir!r} holds no test or validation metrics: train '
        'with a val_evaluator, or run tools/test.py with --work-dir (the '
        'COCO metric has no values if there are no detections)')


def _last_validation(path: str) -> Optional[Dict[str, Any]]:
    """Get the last line of a log that is not from a training step."""
    if not osp.isfile(path):
        return None
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValueError(f'validation metrics {path!r} cannot be read '
                                f'({error})') from None
    last = None
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            # Usually the incomplete last line of a run that was killed.
            continue
        if not isinstance(record, dict):
            raise InvalidValueError(
                f'validation metrics {path!r} must hold an object in each '
                f'line, but line {number} is {shortened(record)}')
        # Metrics have a prefix; values of a training step may have one, too.
        if any('/' in key for key in record) and 'loss' not in record:
            last = record
    return last


def _metrics_of(record: Any, where: str) -> Dict[str, float]:
    """Get the numbers of a record; those that are printed are checked."""
    if not isinstance(record, dict):
        raise InvalidValueError(f'{where} must hold one object, but '
                                f'holds {shortened(record)}: run '
                                'tools/test.py again')
    metrics = {}
    for key, value in record.items():
        is_number = (
            isinstance(value, (int, float)) and not isinstance(value, bool))
        if key in _PRINTED:
            if value is None or (is_number and value == -1):
                value = math.nan  # COCO's -1: no objects to be found
            # Rounding can make sums of fractions slightly larger than 1.
            elif not is_number or not (0 <= value <= 1 + 1e-9
                                       or value != value):
                raise InvalidValueError(
                    f'{where}: `{key}` must be a number in [0, 1], or NaN, '
                    'null or -1 where it is undefined, but got '
                    f'{shortened(value)}: run tools/test.py again')
            metrics[key] = float(value)
        elif '/' in key and is_number and not abs(value) > LARGEST:
            metrics[key] = float(value)
    return metrics


def as_markdown(runs: List[RunResult], baseline: int = 0) -> str:
    """Format a table with the differences from the baseline in brackets.

    Differences are printed only between runs that were measured on the same
    split. A line below the table lists the other runs.

    Args:
        runs (list[RunResult]): Results of the runs, one for each row.
        baseline (int): Index of the row with which the others are compared.
            Defaults to 0.

    Returns:
        str: Markdown table. Columns that no run measured are left out.
    """
    columns = {
        title: column
        for title, column in ALL_COLUMNS.items()
        if any(column[0] in run.metrics for run in runs)
    }
    reference = runs[baseline]
    rows = [['run', *columns, 'measured on']]
    for run in runs:
        row = [run.name]
        for key, factor, decimals in columns.values():
            value = run.metrics.get(key, math.nan)
            cell = _number(value * factor, decimals)
            is_comparable = run is not reference and run.split == (
                reference.split)
            if is_comparable and not math.isnan(value):
                change = value - reference.metrics.get(key, math.nan)
                cell += f' ({_number(change * factor, decimals, "+")})'
            row.append(cell)
        rows.append([*row, run.source])
    lines = [markdown_table(rows)]
    other_runs = [run.name for run in runs if run.split != reference.split]
    if other_runs:
        lines += [
            '',
            f'No differences for {", ".join(other_runs)}: measured on another '
            f'split than the baseline {reference.name} '
            f'({reference.split}).'
        ]
    if not columns:
        found = sorted({key for run in runs for key in run.metrics})
        lines += [
            '', 'The table has no columns, as none of the metrics has one: '
            f'{shortened(found)}.'
        ]
    return '\n'.join(lines)


def _number(value: float, decimals: int, sign: str = '') -> str:
    if math.isnan(value):
        return 'n/a'
    return format(value, f'{sign}.{decimals}f')


def as_records(runs: List[RunResult], baseline: int = 0) -> List[dict]:
    """Convert to dicts for JSON, with metrics and differences as fractions.

    Args:
        runs (list[RunResult]): Results of the runs, one for each row.
        baseline (int): Index of the row with which the others are compared.
            Defaults to 0.

    Returns:
        list[dict]: ``name``, ``work_dir``, ``source``, ``metrics`` and
        ``difference`` of each run; the last is None where the baseline was
        measured on another split.
    """
    reference = runs[baseline]
    return [
        dict(
            name=run.name,
            work_dir=run.work_dir,
            source=run.source,
            metrics=run.metrics,
            difference=None if run.split != reference.split else {
                key: value - reference.metrics[key]
                for key, value in run.metrics.items()
                if key in reference.metrics
            }) for run in runs
    ]
