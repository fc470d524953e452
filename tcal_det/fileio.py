"""Write files atomically: a reader sees the old file or the new one."""
import json
import math
import os
import os.path as osp
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np

from tcal_det.errors import InvalidValueError, UserError

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None

# Suffix that a temporary name adds to the file name; older versions of this
# package used the process id as its number.
TEMPORARY_SUFFIX = re.compile(r'\.tmp-([0-9a-f]{8}|\d+)$')


@contextmanager
def atomic_output_path(path: str, is_folder: bool = False) -> Iterator[str]:
    """Yield a temporary path and rename it to ``path`` at the end.

    If the ``with`` block fails, ``path`` stays unchanged and the temporary
    file or folder is removed. A process that is killed leaves its temporary
    file or folder behind; the next process that writes to ``path`` removes
    it.

    Args:
        path (str): File or folder to write.
        is_folder (bool): Whether ``path`` is a folder. Defaults to False.

    Yields:
        str: Path of an empty temporary file or folder, to be filled.

    Raises:
        OSError: If the file or folder cannot be written.
    """
    path = osp.abspath(path)
    os.makedirs(osp.dirname(path), exist_ok=True)
    remove_leftovers(osp.dirname(path), osp.basename(path))
    names: List[str] = []
    lock = None
    try:
        temporary, lock = _create_temporary(path, is_folder, names)
        yield temporary
        if not is_folder:
            _sync_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        if lock is not None:
            os.close(lock)
        for name in names:
            _remove(name)


def remove_leftovers(folder: str, name: Optional[str] = None) -> List[str]:
    """Remove temporary files and folders whose writers have ended.

    A writer holds a lock on the file that it writes. The operating system
    releases the lock when the writer ends, even when it is killed. Unlike a
    process id, a lock also works across containers and, if the file system
    supports locks, across machines. Without support for locks, nothing is
    removed.

    Args:
        folder (str): Folder to search, without its subfolders.
        name (str, optional): Name of the final file or folder whose
            leftovers are removed. Defaults to None, leftovers of all names.

    Returns:
        list[str]: Names of the removed files and folders.
    """
    removed = []
    for entry in sorted(os.listdir(folder)):
        match = TEMPORARY_SUFFIX.search(entry)
        if match is None or name not in (None, entry[:match.start()]):
            continue
        path = osp.join(folder, entry)
        lock = _open_locked(path, exclusive=True)
        if lock is not None:
            _remove(path)
            os.close(lock)
            if not osp.lexists(path):
                removed.append(entry)
    return removed


def _create_temporary(path: str, is_folder: bool,
                      names: List[str]) -> Tuple[str, Optional[int]]:
    """Create an empty file or folder under a new name, and lock it.

    The name is appended to ``names`` before it exists: a signal may raise an
    exception at any moment.
    """
    while True:
        # Not tempfile: its files can be read by their owner only.
        temporary = f'{path}.tmp-{secrets.token_hex(4)}'
        names.append(temporary)
        if is_folder:
            os.mkdir(temporary)
        else:
            open(temporary, 'x').close()
        lock = _open_locked(temporary, exclusive=False)
        if osp.exists(temporary):
            return temporary, lock
        # Another process took it for a leftover before it was locked.
        if lock is not None:
            os.close(lock)


def _open_locked(path: str, exclusive: bool) -> Optional[int]:
    """Open and lock a path; None if that fails.

    The lock is held until the returned descriptor is closed.
    """
    if fcntl is None:
        return None
    # NFS grants an exclusive lock only on a file opened for writing.
    mode = os.O_RDONLY if osp.isdir(path) else os.O_RDWR
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        descriptor = os.open(path, mode)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync_to_disk(path: str) -> None:
    """Flush a file to disk, so that the rename cannot happen before."""
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


def _remove(path: str) -> None:
    if osp.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.remove(path)


@contextmanager
def atomic_output_file(path: str) -> Iterator[str]:
    """Apply :func:`atomic_output_path` to a file that the user named.

    Args:
        path (str): File to write. Its folder is created if it is missing.

    Yields:
        str: Path of a temporary file in the same folder, to be written.

    Raises:
        InvalidValueError: If the file cannot be written.
    """
    try:
        with atomic_output_path(path) as temporary:
            yield temporary
    except UserError:
        raise
    except OSError as error:
        raise InvalidValueError(
            f'{path!r} cannot be written: {error}') from None


@contextmanager
def new_folder(out: str) -> Iterator[str]:
    """Apply :func:`atomic_output_path` to a new folder that the user named.

    Args:
        out (str): Folder to write, which must not exist.

    Yields:
        str: Path of an empty folder next to ``out``.

    Raises:
        InvalidValueError: If ``out`` exists or cannot be created.
    """
    if osp.exists(out):
        raise InvalidValueError(
            f'`out` must not exist, but {out!r} does: remove it, or choose '
            'another folder')
    try:
        with atomic_output_path(out.rstrip(os.sep), True) as temporary:
            yield temporary
    except UserError:
        raise
    except OSError as error:
        # If the disk is full, the message of shutil.copytree lists every file.
        raise InvalidValueError(
            f'`out` {out!r} cannot be made: {str(error)[:300]}') from None


def make_output_folder(folder: str, rule: str = '`--out` must be in') -> None:
    """Create an output folder before the work that fills it starts.

    Args:
        folder (str): Path of the folder, which may exist.
        rule (str): Beginning of the error message. Defaults to '`--out` must
            be in'.

    Raises:
        InvalidValueError: If the folder cannot be created or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InvalidValueError(
            f'{rule} a folder, but {folder!r} cannot be one: {error}'
        ) from None
    if not os.access(folder, os.W_OK):
        raise InvalidValueError(
            f'{rule} a folder that you may write to, but {folder!r} is not')


def make_output_prefix_folder(prefix: str) -> None:
    """Create the folder of output files that share a prefix.

    Args:
        prefix (str): Common beginning of the file paths, the value of
            ``--out``.

    Raises:
        InvalidValueError: If the prefix is a folder, or if its folder cannot
            be created or written to.
    """
    if os.path.isdir(prefix) or prefix.endswith('/'):
        raise InvalidValueError(
            '`--out` must be the beginning of file names, but got the '
            f'folder {prefix!r}')
    make_output_folder(os.path.dirname(os.path.abspath(prefix)))


def write_text_atomically(path: str, text: str) -> None:
    """Write a UTF-8 text file; on failure the old file stays unchanged.

    Args:
        path (str): Path of the file to write.
        text (str): Complete content of the file.

    Raises:
        InvalidValueError: If the file cannot be written.
    """
    with atomic_output_file(path) as temporary, open(
            temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def write_json_atomically(path: str,
                          obj: Any,
                          indent: Optional[int] = 2) -> None:
    """Write a JSON file; on failure the old file stays unchanged.

    Args:
        path (str): Path of the file to write.
        obj (Any): Nested dicts and lists of strings, numbers, booleans,
            None and numpy scalars or arrays. NaN and infinities, which JSON
            does not have, become null.
        indent (int, optional): Number of spaces per level. None writes a
            single line, which is faster. Defaults to 2.

    Raises:
        InvalidValueError: If the file cannot be written, or if the content is
            nested too deeply.
    """
    try:
        text = _json_text(obj, indent)
    except RecursionError:
        raise InvalidValueError(
            f'{path!r} cannot be written: its content must be nested less '
            'deeply') from None
    write_text_atomically(path, text + '\n')


def _json_text(obj: Any, indent: Optional[int]) -> str:
    try:
        return json.dumps(obj, indent=indent, allow_nan=False)
    except (TypeError, ValueError):
        # Only on failure: converting millions of records takes long, and few
        # files need it.
        return json.dumps(plain_json(obj), indent=indent, allow_nan=False)


def plain_json(value: Any) -> Any:
    """Convert a value to the types that JSON can hold.

    Args:
        value (Any): Value that :func:`write_json_atomically` accepts.

    Returns:
        Any: Nested dicts with string keys, lists, strings, numbers, booleans
        and None.
    """
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
