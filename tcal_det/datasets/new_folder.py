"""Atomic creation of the folder of a data set."""
import os
import os.path as osp
from contextlib import contextmanager
from typing import Iterator

from tcal_det.errors import InvalidValueError, UserError
from tcal_det.fileio import atomic_output_path


@contextmanager
def new_folder(out: str) -> Iterator[str]:
    """Create a temporary folder, and rename it when it is complete.

    After an error inside the ``with`` block there is nothing at ``out``.

    Args:
        out (str): Output folder, which must not exist.

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
