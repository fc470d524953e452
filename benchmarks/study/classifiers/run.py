"""Train the classifier twin; call it again to go on.

    python -m benchmarks.study.classifiers.run --minutes 10

A unit is a teacher with all its students. Its rows are written together when
it is finished, so a unit that is interrupted is made again from its start.
"""
import sys
import time
from datetime import datetime
from typing import Dict, List

import numpy as np
import torch

from tcal_det.checks import check_positive
from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError
from ..origin import describe_origin
from ..rows import Row, append_rows, read_rows
from .plan import PLAN, Plan, Unit, row_names
from .units import make_all_crops, make_unit

RESULTS = 'benchmarks/study/classifier_results.jsonl'
PACKAGES = ('torch', 'numpy', 'scipy', 'sklearn')
CODE = ('tcal_det', 'tools/dataset_converters', 'benchmarks/study')


def parse_args():
    parser = CommandParser(
        description='Train the classifiers of the study that are not finished')
    parser.add_argument(
        '--minutes',
        type=float,
        default=float('inf'),
        help='time after which no teacher is begun (default: none)')
    parser.add_argument(
        '--out', default=RESULTS, help=f'results file (default: {RESULTS})')
    return parser.parse_args()


def missing_units(plan: Plan, rows: List[Row]) -> List[Unit]:
    """Units without rows, in the order of the plan.

    Args:
        plan (Plan): All units.
        rows (list[dict]): Rows of the results file.

    Returns:
        list[Unit]: What is left to do.

    Raises:
        InvalidValueError: If a unit has some of its rows only.
    """
    known = {row['name'] for row in rows}
    missing = []
    for unit in plan.units:
        names = set(row_names(unit, plan))
        found = names & known
        if not found:
            missing.append(unit)
        elif found != names:
            raise InvalidValueError(
                f'the results must have all {len(names)} rows of '
                f'{unit.name!r} or none, but have {len(found)}: restore the '
                'file from git, or remove them to make them again')
    return missing


def make_missing(plan: Plan, path: str, minutes: float = float('inf')) -> None:
    """Make the units that a results file does not have.

    Args:
        plan (Plan): All units.
        path (str): The results file, appended to after each unit.
        minutes (float): Time after which no unit is begun. Defaults to no
            limit.
    """
    begin = time.monotonic()
    units = missing_units(plan, read_rows(path))
    if not units:
        print('nothing is left')
        return
    # More threads gain nothing on networks of this size, and another number
    # of them may round otherwise.
    torch.set_num_threads(1)
    print(
        f'{len(units)} of {len(plan.units)} units are left; drawing crops',
        flush=True)
    crops = make_all_crops(plan)
    origin = describe_origin(CODE, PACKAGES)
    for number, unit in enumerate(units, start=1):
        if time.monotonic() - begin > 60 * minutes:
            print(f'time is up: {len(units) - number + 1} units are left')
            return
        started, cpu = datetime.now(), time.process_time()
        rows = make_unit(unit, plan, crops)
        seconds = time.process_time() - cpu
        for row in rows:
            row.update(
                unit_cpu_seconds=round(seconds, 1),
                started=started.isoformat(timespec='seconds'),
                **origin)
        append_rows(path, rows)
        print(
            f'[{number}/{len(units)}] {unit.name}: {seconds:.0f} s of CPU '
            f'time, accuracy on val {_accuracies(rows)}',
            flush=True)


def _accuracies(rows: List[Row]) -> str:
    by_arm: Dict[str, List[float]] = {}
    for row in rows:
        if row['kind'] == 'student':
            by_arm.setdefault(row['arm'], []).append(row['val']['accuracy'])
    return ', '.join(f'{arm} {100 * np.mean(values):.1f}'
                     for arm, values in by_arm.items())


def main():
    args = parse_args()
    check_positive('--minutes', min(args.minutes, sys.float_info.max))
    make_missing(PLAN, args.out, args.minutes)


if __name__ == '__main__':
    try:
        run_command(main)
    except KeyboardInterrupt:
        sys.exit('stopped; call again to go on')
