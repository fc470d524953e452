"""Make the runs of the study that the results do not have; call it to go on.

    python -m benchmarks.study.run --jobs 2 --minutes 150
    python -m benchmarks.study.run --blocks F --list

Results are appended to benchmarks/study/results.jsonl, a line a run. A run
that is interrupted is made again from its start: the same seed gives the same
run. Teachers are not kept by git: those that missing runs need are trained
again, and compared with their rows.
"""
import fcntl
import json
import os
import os.path as osp
import signal
import subprocess
import sys
import time
from typing import Dict, List, Optional, Sequence

from tcal_det.commands import CommandParser, run_command
from tcal_det.errors import InvalidValueError
from . import plan
from .data import make_digits, make_folds
from .rows import append_rows, read_rows

RESULTS = 'benchmarks/study/results.jsonl'
TOOL = (sys.executable, '-m', 'benchmarks.study.one_run')
POLL_SECONDS = 1.0
# One core a run. Freed memory stays with the process (glibc; old versions
# ignore so high a threshold): to get it back from the kernel in each step took
# 5 to 13 % of the CPU time of four epochs of block S. Weights were equal.
ENVIRONMENT = dict(
    OMP_NUM_THREADS='1',
    MALLOC_MMAP_THRESHOLD_='2000000000',
    MALLOC_TRIM_THRESHOLD_='8000000000')
# Equal figures of a teacher that was trained again.
COMPARED = ('val', 'test')


def parse_args():
    parser = CommandParser(
        description='Make the runs of the study that are not finished')
    parser.add_argument(
        '--blocks',
        default=plan.DEFAULT_BLOCKS,
        help='letters of the blocks, in the order of their importance '
        f'(default: {plan.DEFAULT_BLOCKS})')
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='number of runs at once, one core each (default: 1)')
    parser.add_argument(
        '--minutes',
        type=float,
        default=float('inf'),
        help='time after which no run is begun (default: none)')
    parser.add_argument(
        '--list', action='store_true', help='print what is left to do')
    return parser.parse_args()


class Scheduler:
    """Keeps a number of runs going.

    Args:
        runs (list[Run]): What is to be made, in order.
        jobs (int): Number of runs at once.
        results (str): Path of the results file.
        tool (sequence[str]): Command that makes the run of the name after
            it. Defaults to ``benchmarks.study.one_run``.
    """

    def __init__(self,
                 runs: List[plan.Run],
                 jobs: int,
                 results: str,
                 tool: Sequence[str] = TOOL) -> None:
        self.waiting = list(runs)
        self.jobs = jobs
        self.results = results
        self.tool = tool
        self.total = len(runs)
        self.done = 0
        self.failed: List[str] = []
        self.children: Dict[subprocess.Popen, plan.Run] = {}

    def work(self, deadline: float) -> None:
        """Make runs until all are made, or no more may begin.

        Args:
            deadline (float): Time in seconds since the epoch.
        """
        try:
            while self.waiting or self.children:
                while len(
                        self.children) < self.jobs and time.time() < deadline:
                    run = self._next()
                    if run is None:
                        break
                    self._begin(run)
                if not self.children:
                    break
                time.sleep(POLL_SECONDS)
                self._collect()
        finally:
            for child in self.children:
                child.terminate()
            for child in self.children:
                child.wait()

    def _next(self) -> Optional[plan.Run]:
        """The first run whose teacher is finished."""
        for run in self.waiting:
            if all(map(osp.isfile, run.needs)):
                self.waiting.remove(run)
                return run
        return None

    def _begin(self, run: plan.Run) -> None:
        folder = plan.folder_of(run.name)
        os.makedirs(folder, exist_ok=True)
        with open(f'{folder}/log.txt', 'w', encoding='utf-8') as log:
            child = subprocess.Popen([*self.tool, run.name],
                                     env=dict(os.environ, **ENVIRONMENT),
                                     stdout=log,
                                     stderr=subprocess.STDOUT)
        self.children[child] = run

    def _collect(self) -> None:
        for child in [
                process for process in self.children
                if process.poll() is not None
        ]:
            run = self.children.pop(child)
            self.done += 1
            print(
                f'[{self.done}/{self.total}] {run.name}: '
                f'{self._outcome(run, child.returncode)}',
                flush=True)

    def _outcome(self, run: plan.Run, status: int) -> str:
        folder = plan.folder_of(run.name)
        if status:
            self.failed.append(run.name)
            return f'failed, see {folder}/log.txt'
        with open(f'{folder}/row.json', encoding='utf-8') as file:
            row = json.load(file)
        text = f'mAP {100 * row["test"]["mAP"]:.1f} in {row["seconds"]:.0f} s'
        for known in read_rows(self.results):
            if known['name'] == run.name:
                if all(known[key] == row[key] for key in COMPARED):
                    return f'{text}, as in its row'
                # Its students would be those of another teacher: without this
                # file none of them begins.
                os.remove(f'{folder}/row.json')
                self.failed.append(run.name)
                return (f'{text}, NOT as in its row: train it on a machine '
                        'like the one of the row, or plan a new teacher')
        append_rows(self.results, [row])
        return text


def missing_runs(blocks: str, results: str) -> List[plan.Run]:
    """Runs without a row, and the teachers that they need and lack.

    Args:
        blocks (str): Letters of the plan's blocks.
        results (str): Path of the results file.
    """
    if not blocks or set(blocks) - set(plan.DEFAULT_BLOCKS):
        raise InvalidValueError(
            f'`--blocks` must be letters among {plan.DEFAULT_BLOCKS}, but got '
            f'{blocks!r}')
    known = {row['name'] for row in read_rows(results)}
    runs = [
        run for run in plan.in_order(blocks)
        if run.block != 'T' and run.name not in known
    ]
    lacking = {
        need
        for run in runs
        for need in run.needs if not osp.isfile(need)
    }
    return [
        run for run in plan.in_order(blocks)
        if run in runs or run.block == 'T' and any(
            need.startswith(plan.folder_of(run.name) + '/')
            for need in lacking)
    ]


def main():
    args = parse_args()
    if args.jobs < 1:
        raise InvalidValueError(f'`--jobs` must be >= 1, but got {args.jobs}')
    if not args.minutes > 0:
        raise InvalidValueError(
            f'`--minutes` must be > 0, but got {args.minutes}')
    runs = missing_runs(args.blocks, RESULTS)
    if args.list:
        print('\n'.join(run.name for run in runs) or 'nothing is left')
        return
    # As Ctrl-C: what runs is ended, and begun anew by the next call.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.makedirs(plan.FOLDER, exist_ok=True)
    with open(f'{plan.FOLDER}/lock', 'w', encoding='utf-8') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidValueError(
                f'another call is making runs in {plan.FOLDER}: wait for it, '
                'or stop it') from None
        if any(run.data == 'digits' for run in runs):
            make_digits()
        if any(run.data == 'bccd' for run in runs):
            make_folds()
        scheduler = Scheduler(runs, args.jobs, RESULTS)
        scheduler.work(time.time() + 60 * args.minutes)
    if scheduler.failed:
        sys.exit(f'{len(scheduler.failed)} run(s) failed, for the reasons '
                 f'above, such as {scheduler.failed[0]}')


if __name__ == '__main__':
    try:
        run_command(main)
    except KeyboardInterrupt:
        sys.exit('stopped; call again to go on')
