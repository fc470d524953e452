"""Runs one training after the other, or several at once, and forgets none.

A finished run is skipped, an interrupted one resumed from its last
checkpoint, and one that fails is reported and does not stop the rest.
"""
import fcntl
import os
import os.path as osp
import pprint
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Callable, Dict, List, Optional, Sequence

from mmengine.runner import find_latest_checkpoint

from tcal_det.errors import InvalidValueError, UserError
from tcal_det.evaluation.run_table import COLUMNS, read_run
from tcal_det.fileio import write_text_atomically
from .run_folder import (REPOSITORY, PlannedRun, check_same_settings,
                         close_killed_session, current_commit, current_stack,
                         is_complete, read_record, wall_time, write_record)

# Tables call these figures by the same names as compare_runs.
FIGURES = {
    **{
        title: key
        for title, (key, _, _) in COLUMNS.items()
    },
    'D-ECE over': 'calib/d_ece_over',
    'D-ECE under': 'calib/d_ece_under',
    'LaACE_0': 'calib/laace_0',
}

# tools/test.py looks at the test split: this makes val the test split.
VAL_CONFIG = """_base_ = './config.py'
test_dataloader = {{_base_.val_dataloader}}
test_evaluator = {{_base_.val_evaluator}}
"""


class StudyRunner:
    """Executes runs below one folder.

    Args:
        folder (str): Of all runs of the study.
        num_jobs (int): Runs at once; each gets its share of the cores.
            Defaults to 1.
        train_tool (str): The trainer's path. Defaults to tools/train.py.
        test_tool (str): The tester's path. Defaults to tools/test.py.
        report (Callable): Called with a line of text. Defaults to print.
    """

    def __init__(self,
                 folder: str,
                 num_jobs: int = 1,
                 train_tool: str = osp.join(REPOSITORY, 'tools/train.py'),
                 test_tool: str = osp.join(REPOSITORY, 'tools/test.py'),
                 report: Callable[[str], None] = print) -> None:
        if num_jobs < 1:
            raise InvalidValueError(
                f'`--jobs` must be >= 1, but got {num_jobs}')
        self.folder = folder
        self.num_jobs = num_jobs
        self.train_tool, self.test_tool = train_tool, test_tool
        self.report = report
        self._processes: List[subprocess.Popen] = []
        self._is_stopping = threading.Event()

    def execute(self, runs: Sequence[PlannedRun],
                after_each: Callable[[], None]) -> List[dict]:
        """Make all runs that are not finished yet.

        Args:
            runs (Sequence[PlannedRun]): In the order in which they begin.
            after_each (Callable): Called, by one thread at a time, whenever
                a run has ended.

        Returns:
            list[dict]: Of the runs that did not finish: 'name', 'status'
            and 'error'.

        Raises:
            InvalidValueError: If a run of the same name was made with other
                settings; nothing is run then.
        """
        todo = [run for run in runs if not self._is_finished(run)]
        done = len(runs) - len(todo)
        self.report(f'{len(runs)} runs, of which {done} are finished')
        unfinished = []
        lock = threading.Lock()

        def make(run: PlannedRun) -> None:
            nonlocal done
            record = self._make(run)
            with lock:
                if record is None or self._is_stopping.is_set():
                    return
                done += 1
                if record['status'] != 'finished':
                    unfinished.append(record)
                self.report(
                    f'[{done}/{len(runs)}] {run.name}: {describe(record)}')
                after_each()

        with ThreadPoolExecutor(self.num_jobs) as pool:
            try:
                # Its iterator raises what a run of ours, not a child, raised.
                list(pool.map(make, todo))
            except BaseException:
                self._stop()
                raise
        return unfinished

    def _is_finished(self, run: PlannedRun) -> bool:
        record = read_record(osp.join(self.folder, run.name))
        if record is None:
            return False
        check_same_settings(run, record)
        return is_complete(run, record)

    def _stop(self) -> None:
        """End the children: a resumed study must not meet them again."""
        self._is_stopping.set()
        for process in self._processes:
            if process.poll() is None:
                process.terminate()

    def _make(self, run: PlannedRun) -> Optional[dict]:
        """Train and test one run; None if all are to stop."""
        if self._is_stopping.is_set():
            return None
        folder = osp.join(self.folder, run.name)
        os.makedirs(folder, exist_ok=True)
        with open(osp.join(folder, 'lock'), 'w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return dict(
                    name=run.name,
                    status='skipped',
                    error='another process is at it')
            record = read_record(folder) or dict(asdict(run), sessions=[])
            close_killed_session(record, osp.join(folder, 'log.txt'))
            record['is_tested'] = run.is_tested
            record.update(
                status='running',
                error=None,
                val=None,
                test=None,
                commit=current_commit(),
                stack=current_stack())
            write_record(folder, record)
            try:
                self._train_and_test(run, folder, record, lock.fileno())
                record['status'] = 'finished'
            # A run that ended well and left no metrics has failed, too.
            except (RunFailedError, UserError) as error:
                record.update(
                    status='interrupted'
                    if self._is_stopping.is_set() else 'failed',
                    error=str(error))
            write_record(folder, record)
            return record

    def _train_and_test(self, run: PlannedRun, folder: str, record: dict,
                        lock: int) -> None:
        config = osp.join(folder, 'config.py')
        write_text_atomically(config, config_text(run, folder))
        val_config = osp.join(folder, 'val_config.py')
        write_text_atomically(val_config, VAL_CONFIG)
        trained, tested = osp.join(folder, 'train'), osp.join(folder, 'test')
        self._call(
            [self.train_tool, config, '--work-dir', trained, '--resume'],
            folder, record, lock)
        record['val'] = figures_of(trained)
        if run.is_tested:
            checkpoint = find_latest_checkpoint(trained)
            # Score thresholds are chosen on val and applied on test: both need
            # the detections themselves.
            for split_config, work_dir in ((val_config,
                                            osp.join(folder, 'val')),
                                           (config, tested)):
                self._call([
                    self.test_tool, split_config, checkpoint, '--work-dir',
                    work_dir, '--out',
                    osp.join(work_dir, 'detections.pkl')
                ], folder, record, lock)
            record['test'] = figures_of(tested)

    def _call(self, command: List[str], folder: str, record: dict,
              lock: int) -> None:
        """Run one tool, its output into the run's log.

        The child inherits the lock: should this process be killed, nobody
        trains into the same folder while the child lives.
        """
        session = dict(tool=osp.basename(command[0]), started=time.time())
        record['sessions'].append(session)
        write_record(folder, record)
        path = osp.join(folder, 'log.txt')
        with open(path, 'a') as log:
            process = subprocess.Popen([sys.executable, *command],
                                       cwd=REPOSITORY,
                                       env=self._environment(),
                                       stdout=log,
                                       stderr=subprocess.STDOUT,
                                       pass_fds=[lock])
            self._processes.append(process)
            if self._is_stopping.is_set():
                process.terminate()
            status = process.wait()
        session.update(seconds=time.time() - session['started'], status=status)
        if status:
            raise RunFailedError(
                f'{session["tool"]} ended with {status}: {last_line(path)}')

    def _environment(self) -> Dict[str, str]:
        threads = max(1, (os.cpu_count() or 1) // self.num_jobs)
        return dict(os.environ, OMP_NUM_THREADS=str(threads))


class RunFailedError(Exception):
    """A tool of a run ended with an error."""


def config_text(run: PlannedRun, folder: str) -> str:
    """The run's config: ``run.config`` with the run's overrides."""
    base = osp.relpath(osp.join(REPOSITORY, run.config), osp.abspath(folder))
    lines = [f'_base_ = {base!r}', f'randomness = dict(seed={run.seed})']
    lines += [
        f'{key} = {pprint.pformat(value, sort_dicts=False)}'
        for key, value in run.overrides.items()
    ]
    return '\n'.join(lines) + '\n'


def figures_of(work_dir: str) -> Dict[str, float]:
    """What a run measured, by the names of ``FIGURES``, as fractions."""
    metrics = read_run(work_dir).metrics
    return {title: metrics.get(key) for title, key in FIGURES.items()}


def describe(record: dict) -> str:
    """One line about a run that has ended."""
    if record['status'] != 'finished':
        return f'{record["status"]}: {record["error"]}'
    split = 'test' if record['test'] else 'val'
    return (f'{split} mAP {100 * record[split]["mAP"]:.1f} in '
            f'{wall_time(record):.0f} s')


def last_line(path: str) -> str:
    """The last line of a log that says something, paths from the root."""
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = [line.strip() for line in file if line.strip()]
    last = lines[-1] if lines else 'no output'
    return last.replace(REPOSITORY + os.sep, '')
