"""Files that are either the old ones or the new ones, never half of both."""
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

# What a temporary name adds to that of the file; once it was a process id.
TEMPORARY_SUFFIX = re.compile(r'\.tmp-([0-9a-f]{8}|\d+)$')


@contextmanager
def renamed_when_whole(path: str, is_folder: bool = False) -> Iterator[str]:
    """Give a temporary name beside a path, and rename it when it is whole.

    Whatever goes wrong inside the ``with`` block, ``path`` stays as it was
    and nothing temporary is left. A process that is killed leaves its
    temporary file or folder; the next one that writes to ``path`` removes it.

    Args:
        path (str): What is to be written.
        is_folder (bool): A folder instead of a file. Defaults to False.

    Yields:
        str: An empty file or folder, to be filled.

    Raises:
        OSError: If the system does not let it be written.
    """
    path = osp.abspath(path)
    os.makedirs(osp.dirname(path), exist_ok=True)
    remove_leftovers(osp.dirname(path), osp.basename(path))
    temporary, lock = _claim_temporary(path, is_folder)
    try:
        yield temporary
        if not is_folder:
            _reach_the_disk(temporary)
        os.replace(temporary, path)
    finally:
        if lock is not None:
            os.close(lock)
        _remove(temporary)


def remove_leftovers(folder: str, name: Optional[str] = None) -> List[str]:
    """Remove the temporary files and folders whose writers are dead.

    A writer holds a lock on what it writes, and the system releases the lock
    when the writer ends, however it ends. Unlike a process id that also tells
    the living from the dead in other containers and, where the file system
    has locks, on other machines. Where it has none, nothing is removed.

    Args:
        folder (str): Looked at, without its subfolders.
        name (str, optional): Only what was to become this file or folder.
            Defaults to all.

    Returns:
        list[str]: The names of what was removed.
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


def _claim_temporary(path: str, is_folder: bool) -> Tuple[str, Optional[int]]:
    """Make an empty file or folder of a new name, and lock it."""
    while True:
        # Not tempfile: it gives a mode with which only the owner reads.
        temporary = f'{path}.tmp-{secrets.token_hex(4)}'
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
    """A descriptor that holds a lock until it is closed; None without one."""
    if fcntl is None:
        return None
    # NFS grants an exclusive lock only to who may write.
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


def _reach_the_disk(path: str) -> None:
    """Wait until a rename cannot overtake what was written."""
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


def _remove(path: str) -> None:
    if osp.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.remove(path)


@contextmanager
def replaced_atomically(path: str) -> Iterator[str]:
    """:func:`renamed_when_whole` for a file that a user named.

    Args:
        path (str): The file to write; its folder is made if it is missing.

    Yields:
        str: A name in the same folder, to be written to.

    Raises:
        InvalidValueError: If the system does not let it be written.
    """
    try:
        with renamed_when_whole(path) as temporary:
            yield temporary
    except UserError:
        raise
    except OSError as error:
        raise InvalidValueError(
            f'{path!r} cannot be written: {error}') from None


def make_output_folder(folder: str, rule: str = '`--out` must be in') -> None:
    """Make a folder before, not after, the work that fills it.

    Args:
        folder (str): May exist.
        rule (str): How a message begins. Defaults to '`--out` must be in'.

    Raises:
        InvalidValueError: If it cannot be made or written to.
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
    """Make the folder of files whose names begin alike.

    Args:
        prefix (str): Beginning of their paths, what ``--out`` was given.

    Raises:
        InvalidValueError: If it is a folder, or its folder cannot be made.
    """
    if os.path.isdir(prefix) or prefix.endswith('/'):
        raise InvalidValueError(
            '`--out` must be the beginning of file names, but got the '
            f'folder {prefix!r}')
    make_output_folder(os.path.dirname(os.path.abspath(prefix)))


def write_text_atomically(path: str, text: str) -> None:
    """Write a UTF-8 text file, or leave the old one whole.

    Args:
        path (str): The file to write.
        text (str): All of its content.
    """
    with replaced_atomically(path) as temporary, open(
            temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def write_json_atomically(path: str,
                          obj: Any,
                          indent: Optional[int] = 2) -> None:
    """Write a JSON file, or leave the old one whole.

    Args:
        path (str): The file to write.
        obj (Any): Nested dicts and lists of strings, numbers, booleans,
            None and numpy scalars or arrays; NaN and infinities, which JSON
            does not have, become null.
        indent (int, optional): Spaces per level; None writes one line, which
            is quicker. Defaults to 2.

    Raises:
        InvalidValueError: If the system does not let it be written, or it is
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
        # Millions of records, which seldom need it, would take long.
        return json.dumps(plain_json(obj), indent=indent, allow_nan=False)


def plain_json(value: Any) -> Any:
    """What JSON can hold of a value.

    Args:
        value (Any): As for :func:`write_json_atomically`.

    Returns:
        Any: Dicts with texts as keys, lists, texts, numbers, booleans, None.
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
