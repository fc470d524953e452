"""Write a readable distill config next to the student's config."""
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
# Environment variable with the rank of a process, by launcher.
_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
# Longest time that other processes wait for the main one, which may fit a
# calibrator first.
LONGEST_WAIT_SECONDS = 3600.0


def distill_name(student: str, teacher: str) -> str:
    """Return the name of a run, which is also the stem of its config file.

    Args:
        student (str): Path or 'mmdet::' name of the student's config.
        teacher (str): Path or 'mmdet::' name of the teacher's config.

    Returns:
        str: Name of the form 'STUDENT_distill-TEACHER'.
    """
    stems = [
        osp.splitext(osp.basename(config.replace(ZOO_PREFIX, '')))[0]
        for config in (student, teacher)
    ]
    return '{}_distill-{}'.format(*stems)


def config_path(student: str, teacher: str, work_dir: str,
                out: Optional[str]) -> str:
    """Return the path of the distill config.

    Args:
        student (str): Path or 'mmdet::' name of the student's config.
        teacher (str): Path or 'mmdet::' name of the teacher's config.
        work_dir (str): Work directory of the run. For an 'mmdet::' student
            the config goes to a subfolder of it, because mmengine writes a
            file of the same name with all inherited keys into the work
            directory itself.
        out (str, optional): Path that the user chose.

    Returns:
        str: Path of a '.py' file.

    Raises:
        InvalidValueError: If ``out`` does not end in '.py'.
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
    """Format the distill config as text.

    Args:
        student (str): Path or 'mmdet::' name of the student's config.
        path (str): Path of the file that will hold the text.
        student_type (str): ``model.type`` of the student.
        comments (dict[str, str]): Comments above a key, by that key:
            'teacher', a key of ``teacher``, or 'distill_losses'.
        teacher (dict): Value of the key ``teacher``.
        distill_losses (dict): Value of the key ``distill_losses``.

    Returns:
        str: Python source text.
    """
    base = student
    if not student.startswith(ZOO_PREFIX):
        base = osp.relpath(student, osp.dirname(path) or '.')
        if osp.dirname(base) == '':
            base = f'./{base}'
    lines = [
        '# Written by tools/distill.py; you may edit it. Train it with '
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
    """Format a keyword argument, with its comma, as lines."""
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
    # Two more closing brackets may follow.
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
    """Format a value other than a dict as lines; split long paths at '/'."""
    start = ' ' * indent
    line = f'{start}{name}{value!r},'
    if len(line) + 2 <= LINE_LENGTH or not isinstance(value, str):
        return [line]
    parts = ['']
    for part in re.findall('[^/]*/|[^/]+$', value):
        first = start if len(parts) > 1 else start + name
        # Two quotation marks, and three closing characters that may follow.
        if parts[-1] and len(first + parts[-1] + part) + 5 > LINE_LENGTH:
            parts.append('')
        parts[-1] += part
    lines = [f'{start}{part!r}' for part in parts]
    lines[0] = f'{start}{name}{parts[0]!r}'
    lines[-1] += ','
    return lines


def write_config(path: str, text: str) -> None:
    """Write the config, unless the same text is already in the file.

    Args:
        path (str): Path of the config file.
        text (str): Complete content of the file.

    Raises:
        InvalidValueError: If the file exists with another content, or cannot
            be written.
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
            f'{path!r} must not exist with other content than this command '
            'writes, but does: train it with tools/train.py, remove it, or '
            'give another name with --out FILE')
    write_text_atomically(path, text)


def is_main_process(launcher: str) -> bool:
    """Check whether this process has rank 0.

    Works before the processes are connected.

    Args:
        launcher (str): Name of the launcher, 'none', 'pytorch', 'slurm' or
            'mpi'.

    Returns:
        bool: Whether this process writes the config.
    """
    return int(os.environ.get(_RANKS.get(launcher, ''), 0)) == 0


def wait_for_config(path: str) -> None:
    """Wait until the main process has written the config.

    Args:
        path (str): Path of the config file.

    Raises:
        MissingFileError: If the file is not written in time.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not osp.isfile(path):
        if time.monotonic() > deadline:
            raise MissingFileError(
                f'{path!r} was not written by the main process within '
                f'{LONGEST_WAIT_SECONDS:.0f} s: if the machines do not share '
                'a file system, write it first with --dry-run and copy it')
        time.sleep(0.2)
