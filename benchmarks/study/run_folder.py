"""What is known of the study's runs, and where it is kept.

Each run has a folder with its config, its log and ``run.json``, its record.
"""
import fcntl
import json
import os.path as osp
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from glob import glob
from importlib import import_module
from typing import Dict, List, Optional, Sequence

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import write_json_atomically

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
PACKAGES = ('torch', 'mmcv', 'mmengine', 'mmdet')
# What tells a run from another one of the same settings.
OF_A_REPEAT = ('started', 'status', 'error', 'val', 'test', 'commit', 'stack',
               'wall_time_s', 'attempts')


@dataclass(frozen=True)
class PlannedRun:
    """One training, and what tables need to know of it.

    Attributes:
        name (str): Of its folder, 'stage/method/seed'.
        stage (str): The part of the study that it belongs to.
        method (str): 'teacher', 'baseline', or the distillation's name.
        config (str): From the repository's root.
        seed (int): Of everything random.
        overrides (dict): What it changes in ``config``.
        temperature (float, optional): Of the teacher's calibrator.
        fitted (bool): Whether that was fitted to held-out scenes.
        loss_weight (float, optional): Of the distillation loss.
        teacher (str, optional): Its name.
        is_tested (bool): Whether the test split is measured too; else only
            val, at the end of training.
    """
    name: str
    stage: str
    method: str
    config: str
    seed: int
    overrides: dict = field(default_factory=dict)
    temperature: Optional[float] = None
    fitted: bool = False
    loss_weight: Optional[float] = None
    teacher: Optional[str] = None
    is_tested: bool = True


def read_record(folder: str) -> Optional[dict]:
    """A run's ``run.json``, or None."""
    path = osp.join(folder, 'run.json')
    if not osp.isfile(path):
        return None
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def write_record(folder: str, record: dict) -> None:
    """Replace a run's ``run.json``."""
    write_json_atomically(osp.join(folder, 'run.json'), record)


def close_killed_session(record: dict, log: str) -> None:
    """Give a last session that was killed the time it took.

    Args:
        record (dict): Of the run, changed in place.
        log (str): Of the run; its last change ended that session.
    """
    for session in record['sessions'][-1:]:
        if 'seconds' not in session:
            end = osp.getmtime(log) if osp.isfile(log) else session['started']
            session.update(
                seconds=max(0.0, end - session['started']), status=None)


def wall_time(record: dict) -> float:
    """Seconds of all sessions of a run."""
    return sum(session.get('seconds', 0.0) for session in record['sessions'])


def is_locked(folder: str) -> bool:
    """Whether a process is at work on a run."""
    path = osp.join(folder, 'lock')
    if not osp.isfile(path):
        return False
    with open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def collect_records(folder: str, known: Sequence[dict]) -> List[dict]:
    """All runs that were ever made, planned or not, finished or not.

    Args:
        folder (str): Of all runs of the study.
        known (Sequence[dict]): Collected before; kept where the folder of
            a run is gone.

    Returns:
        list[dict]: The rows of the results file, by name. Where a run was
        made again in a new folder, the row is that of the first that
        finished, and ``repeats`` has what became of the others.
    """
    rows = {row['name']: row for row in known}
    for path in glob(osp.join(folder, '**', 'run.json'), recursive=True):
        run_folder = osp.dirname(path)
        record = read_record(run_folder)
        if record['status'] == 'running' and not is_locked(run_folder):
            record['status'] = 'interrupted'
            close_killed_session(record, osp.join(run_folder, 'log.txt'))
        seconds = wall_time(record)
        sessions = record.pop('sessions')
        record.update(
            wall_time_s=round(seconds, 1),
            attempts=sum('train' in session['tool'] for session in sessions),
            started=sessions[0]['started'] if sessions else None)
        rows[record['name']] = _with_repeats(record, rows.get(record['name']))
    return [rows[name] for name in sorted(rows)]


def _with_repeats(record: dict, known: Optional[dict]) -> dict:
    """One row of a run in this folder and the one that was known of it."""
    if known is None:
        return record
    started = record['started']
    repeats = [
        repeat for repeat in known.get('repeats', [])
        if repeat['started'] != started
    ]
    row, other = known, record
    if known.get('started') == started:
        row, other = record, None
    elif known['status'] != 'finished' and record['status'] == 'finished':
        row, other = record, known
    if other is not None:
        repeats.append({key: other.get(key) for key in OF_A_REPEAT})
    return dict(row, repeats=repeats) if repeats else row


def check_same_settings(run: PlannedRun, record: dict) -> None:
    """Refuse to take one run for another of the same name.

    Raises:
        InvalidValueError: If ``record`` is of other settings.
    """
    planned = json.loads(json.dumps(asdict(run)))
    changed = sorted(key for key, value in planned.items()
                     if key != 'is_tested' and record.get(key) != value)
    if changed:
        raise InvalidValueError(
            f'run {run.name!r} was made with other settings '
            f'({", ".join(changed)}): give the plan a new name for it, or '
            'move its folder, or its row of the results, away')


def is_complete(run: PlannedRun, record: dict) -> bool:
    """Whether a record has all that a run is to measure."""
    return record['status'] == 'finished' and (not run.is_tested
                                               or record['test'] is not None)


def without_finished(runs: Sequence[PlannedRun],
                     known: Sequence[dict]) -> List[PlannedRun]:
    """The runs that no results have yet.

    Args:
        runs (Sequence[PlannedRun]): What is planned.
        known (Sequence[dict]): Rows of the results file.

    Raises:
        InvalidValueError: If a row of the same name has other settings.
    """
    rows = {row['name']: row for row in known}
    missing = []
    for run in runs:
        row = rows.get(run.name)
        if row is not None:
            check_same_settings(run, row)
        if row is None or not is_complete(run, row):
            missing.append(run)
    return missing


def current_commit() -> str:
    """The commit of the code, marked if what runs has been changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(['git', *arguments],
                              cwd=REPOSITORY,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL,
                              universal_newlines=True).stdout.strip()

    commit = git('rev-parse', '--short', 'HEAD') or 'unknown'
    changed = git('status', '--porcelain', '--untracked-files=no', '--',
                  'tcal_det', 'tools', 'configs', 'benchmarks/study/configs')
    return commit + ('+changes' if changed else '')


def current_stack() -> Dict[str, str]:
    """Versions of what trains."""
    return dict(
        python=platform.python_version(),
        **{name: import_module(name).__version__
           for name in PACKAGES})
