"""A data set's folder that is whole, or not there."""
import os
import os.path as osp
from contextlib import contextmanager
from typing import Iterator

from tcal_det.errors import InvalidValueError, UserError
from tcal_det.fileio import renamed_when_whole


@contextmanager
def new_folder(out: str) -> Iterator[str]:
    """Give a temporary folder to fill, and rename it when it is whole.

    Whatever goes wrong inside the ``with`` block, nothing is left at ``out``.

    Args:
        out (str): Folder, which must not exist.

    Yields:
        str: An empty folder beside it, to be filled.

    Raises:
        InvalidValueError: If ``out`` exists, or the system does not let it
            be made.
    """
    if osp.exists(out):
        raise InvalidValueError(
            f'`out` must not exist, but {out!r} does: remove it, or choose '
            'another folder')
    try:
        with renamed_when_whole(out.rstrip(os.sep), True) as temporary:
            yield temporary
    except UserError:
        raise
    except OSError as error:
        # shutil.copytree lists every file of a full disk.
        raise InvalidValueError(
            f'`out` {out!r} cannot be made: {str(error)[:300]}') from None
