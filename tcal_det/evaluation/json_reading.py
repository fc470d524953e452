"""JSON read fast, and lists of records read in blocks.

With msgspec (``pip install 'tcal_det[fast]'``) instead of json. It gives the
same content to the last bit, unlike orjson, which rounds whole numbers beyond
64 bits; what it refuses (NaN, Infinity, mistakes) json decides and words.
"""
import gc
import json
import os
from contextlib import contextmanager
from typing import Any, Iterator, List

try:
    import msgspec
except ImportError:
    msgspec = None  # type: ignore[assignment]  # a module elsewhere

_SPACE = b' \t\n\r'
# Between two records; more is not looked at.
_MAX_SPACE = 1000
# Bytes of JSON that are records at the same time: few enough to stay in the
# processor's cache, or the 64th part of a large file.
_BLOCK_SIZE = 2**20
_MAX_BLOCKS = 64


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector from running.

    It walks over all the records again and again while they become more,
    which takes a third of the time of reading them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_json(path: str) -> Any:
    """The content of a JSON file.

    Args:
        path (str): The file.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is no JSON, or no UTF-8; as json words it.
        RecursionError: If it is nested too deeply.
    """
    with open(path, 'rb') as file:
        content = file.read()
    with collector_paused():
        return _decode(content)


def iter_record_blocks(path: str) -> Iterator[List[Any]]:
    """The elements of a list in a JSON file, some thousands at a time.

    So that the records of a large file need not be in memory together. The
    text is cut before an element that begins with a brace; if each part is
    a list by itself, the file is the list of all their elements, so a cut
    within a text or a nested element cannot go unnoticed.

    Args:
        path (str): The file.

    Yields:
        List[Any]: Elements, in file order.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is no JSON, no list, or cannot be cut so: read it
            as a whole then.
        RecursionError: If it is nested too deeply.
    """
    with open(path, 'rb') as file:
        size = max(_BLOCK_SIZE, os.fstat(file.fileno()).st_size // _MAX_BLOCKS)
        text = b''
        is_first = True
        while True:
            block = file.read(size)
            text += block
            if block:
                cut = _last_cut(text)
                if cut == 0:
                    continue
                part = text[:cut].rstrip(_SPACE)[:-1] + b']'
                text = b'[' + text[cut:]
            else:
                part = text
            records = _decode(part)
            is_whole = is_first and not block
            if not isinstance(records, list) or not (records or is_whole):
                raise ValueError('no list of records')
            yield records
            is_first = False
            if not block:
                return


def _last_cut(text: bytes) -> int:
    """Place of the last brace that a comma stands before; 0 if none is."""
    cut = len(text)
    while cut > 0:
        cut = max(text.rfind(b'{', 0, cut), 0)
        if text[max(cut - _MAX_SPACE, 0):cut].rstrip(_SPACE).endswith(b','):
            return cut
    return 0


def _decode(content: bytes) -> Any:
    if msgspec is not None:
        try:
            return msgspec.json.decode(content)
        # Its error is a ValueError since 0.19 only.
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
    return json.loads(content.decode('utf-8'))
