"""A distill config that a person can read, written next to the student's."""
import os
import os.path as osp
import re
import textwrap
import time
from typing import Any, Dict, List, Optional

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.fileio import write_text_atomically
from tcal_det.models.distillers.detector_files import ZOO_PREFIX

LINE_LENGTH = 79
# Rank of a process, by the launcher that sets it.
_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
# Of other processes for the main one, which may fit a calibrator first.
LONGEST_WAIT_SECONDS = 3600.0


def distill_name(student: str, teacher: str) -> str:
    """Name of the run of a pair, and of its config without '.py'.

    Args:
        student (str): Path or 'mmdet::' name of the student's config.
        teacher (str): The same of the teacher's.
    """
    stems = [
        osp.splitext(osp.basename(config.replace(ZOO_PREFIX, '')))[0]
        for config in (student, teacher)
    ]
    return '{}_distill-{}'.format(*stems)


def config_path(student: str, teacher: str, work_dir: str,
                out: Optional[str]) -> str:
    """Where the distill config goes.

    Args:
        student (str): Path or 'mmdet::' name of the student's config.
        teacher (str): The same of the teacher's.
        work_dir (str): Of the run. For an 'mmdet::' student the config goes
            to a folder in it: mmengine writes another one, with all
            inherited keys, of the same name into the work dir itself.
        out (str, optional): What the user wants.

    Returns:
        str: Path of a '.py' file.

    Raises:
        InvalidValueError: If ``out`` is none.
    """
    if out is not None:
        if not out.endswith('.py'):
            raise InvalidValueError(
                f'`--out` must be a file that ends in .py, but got {out!r}')
        return out
    folder = osp.dirname(student)
    if student.startswith(ZOO_PREFIX):
        folder = osp.join(work_dir, 'config')
    return osp.join(folder, f'{distill_name(student, teacher)}.py')


def config_text(student: str, path: str, student_type: str,
                comments: Dict[str, str], teacher: Dict[str, Any],
                distill_losses: Dict[str, dict]) -> str:
    """The config as text.

    Args:
        student (str): Path or 'mmdet::' name of the student's config.
        path (str): Of the file that is to hold the text.
        student_type (str): Its ``model.type``.
        comments (dict[str, str]): What stands above a key: 'teacher', a key
            of ``teacher``, or 'distill_losses'.
        teacher (dict): The key ``teacher``.
        distill_losses (dict): The key ``distill_losses``.

    Returns:
        str: A Python program.
    """
    base = student
    if not student.startswith(ZOO_PREFIX):
        base = osp.relpath(student, osp.dirname(path) or '.')
        if osp.dirname(base) == '':
            base = f'./{base}'
    lines = [
        '# By tools/distill.py, and yours to change. Train it with '
        'tools/train.py.', f'_base_ = {base!r}', '', 'model = dict(',
        "    type='tcal_det.CalibratedTeacherDistiller',",
        f'    student_type={student_type!r},',
        *_comment(comments.get('teacher'), 4), '    teacher=dict('
    ]
    for key, value in teacher.items():
        lines += _comment(comments.get(key), 8)
        lines += _entry(key, value, 8)
    lines[-1] = f'{lines[-1][:-1]}),'
    lines += ['    distill_losses=dict(']
    for name, loss in distill_losses.items():
        lines += _comment(comments.get('distill_losses'), 8)
        lines += _entry(name, loss, 8)
    lines[-1] = f'{lines[-1][:-1]}))'
    return '\n'.join(lines) + '\n'


def _comment(text: Optional[str], indent: int) -> List[str]:
    if not text:
        return []
    start = ' ' * indent + '# '
    return textwrap.wrap(
        f'{text[0].upper()}{text[1:]}.',
        LINE_LENGTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False)


def _entry(key: str, value: Any, indent: int) -> List[str]:
    """Lines of a keyword argument, with the comma."""
    start = ' ' * indent
    if not isinstance(value, dict):
        return _assignment(f'{key}=', value, indent)
    is_call = all(
        isinstance(name, str) and name.isidentifier() for name in value)
    opening, closing = ('dict(', ')') if is_call else ('{', '}')
    items = [(f'{name}=' if is_call else f'{name!r}: ', item)
             for name, item in value.items()]
    listed = ', '.join(f'{name}{item!r}' for name, item in items)
    line = f'{start}{key}={opening}{listed}{closing},'
    # Two more brackets may close behind it.
    if len(line) + 1 <= LINE_LENGTH:
        return [line]
    if is_call and len(f'{start}    {listed})') + 2 <= LINE_LENGTH:
        return [f'{start}{key}=dict(', f'{start}    {listed}),']
    lines = [
        line for name, item in items
        for line in _assignment(name, item, indent + 4)
    ]
    last = lines.pop()[:-1]
    if is_call:
        return [f'{start}{key}=dict(', *lines, f'{last}),']
    return [f'{start}{key}={{', *lines, last, f'{start}}},']


def _assignment(name: str, value: Any, indent: int) -> List[str]:
    """Lines of a value that is no dict; a long path is cut after folders."""
    start = ' ' * indent
    line = f'{start}{name}{value!r},'
    if len(line) + 2 <= LINE_LENGTH or not isinstance(value, str):
        return [line]
    parts = ['']
    for part in re.findall('[^/]*/|[^/]+$', value):
        first = start if len(parts) > 1 else start + name
        # With its marks and three that may close behind it.
        if parts[-1] and len(first + parts[-1] + part) + 5 > LINE_LENGTH:
            parts.append('')
        parts[-1] += part
    lines = [f'{start}{part!r}' for part in parts]
    lines[0] = f'{start}{name}{parts[0]!r}'
    lines[-1] += ','
    return lines


def write_config(path: str, text: str) -> None:
    """Write the config, unless it is there.

    Args:
        path (str): Of the file.
        text (str): All of its content.

    Raises:
        InvalidValueError: If there is another one, or it cannot be written.
    """
    if osp.exists(path):
        try:
            with open(path, encoding='utf-8') as file:
                is_the_same = file.read() == text
        except (OSError, UnicodeDecodeError):
            is_the_same = False
        if is_the_same:
            return
        raise InvalidValueError(
            f'{path!r} must not exist with another content than this command '
            'writes, but does: train it with tools/train.py, remove it, or '
            'give another name with --out FILE')
    write_text_atomically(path, text)


def is_main_process(launcher: str) -> bool:
    """Whether this process writes; known before they are connected.

    Args:
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'.
    """
    return int(os.environ.get(_RANKS.get(launcher, ''), 0)) == 0


def wait_for_config(path: str) -> None:
    """Wait until the main process has written the config.

    Args:
        path (str): Of the file.

    Raises:
        MissingFileError: If it does not come.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not osp.isfile(path):
        if time.monotonic() > deadline:
            raise MissingFileError(
                f'{path!r} was not written by the main process within '
                f'{LONGEST_WAIT_SECONDS:.0f} s: where the machines share no '
                'files, write it first with --dry-run and copy it')
        time.sleep(0.2)
