"""Files that are either the old ones or the new ones, never half of both."""
import json
import math
import os
import os.path as osp
from contextlib import contextmanager
from typing import Any, Iterator

import numpy as np

from tcal_det.errors import InvalidValueError, UserError


@contextmanager
def replaced_atomically(path: str) -> Iterator[str]:
    """Give a temporary name, and put what was written there in place.

    The folder is made if it is missing. Whatever goes wrong inside the
    ``with`` block, the file at ``path`` stays as it was and no temporary
    file is left.

    Args:
        path (str): The file to write.

    Yields:
        str: A name in the same folder, to be written to.

    Raises:
        InvalidValueError: If the system does not let it be written.
    """
    folder = osp.dirname(osp.abspath(path))
    # Not tempfile: it would give the file a mode that only its owner reads.
    temporary = osp.join(folder, f'.{osp.basename(path)}.{os.getpid()}.tmp')
    try:
        os.makedirs(folder, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except UserError:
        raise
    except OSError as error:
        raise InvalidValueError(
            f'{path!r} cannot be written: {error}') from None
    finally:
        if osp.exists(temporary):
            os.remove(temporary)


def make_output_folder(folder: str) -> None:
    """Make a folder before, not after, the work that fills it.

    Args:
        folder (str): From ``--out``; may exist.

    Raises:
        InvalidValueError: If it cannot be made or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InvalidValueError(
            f'`--out` must be in a folder, but {folder!r} cannot be one: '
            f'{error}') from None
    if not os.access(folder, os.W_OK):
        raise InvalidValueError(
            '`--out` must be in a folder that you may write to, but '
            f'{folder!r} is not')


def write_text_atomically(path: str, text: str) -> None:
    """Write a UTF-8 text file, or leave the old one whole.

    Args:
        path (str): The file to write.
        text (str): All of its content.
    """
    with replaced_atomically(path) as temporary, open(
            temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def write_json_atomically(path: str, obj: Any) -> None:
    """Write a JSON file, or leave the old one whole.

    Args:
        path (str): The file to write.
        obj (Any): Nested dicts and lists of strings, numbers, booleans,
            None and numpy scalars or arrays; NaN and infinities, which JSON
            does not have, become null.
    """
    write_text_atomically(
        path,
        json.dumps(_jsonable(obj), indent=2, allow_nan=False) + '\n')


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
