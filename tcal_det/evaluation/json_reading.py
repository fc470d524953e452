"""Fast reading of JSON files, and reading of record lists in blocks.

Files are read by msgspec if it is installed (the extra ``fast``), else by
json. msgspec returns exactly the same content as json, unlike orjson, which
rounds whole numbers of more than 64 bits. Content that msgspec rejects (NaN,
Infinity, invalid JSON) is passed to json, which reads it or raises the error.
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
# Maximum number of space characters between two records.
_MAX_SPACE = 1000
# Number of bytes of JSON that are decoded at a time: small enough for the
# cache of the processor, or the 64th part of a large file.
_BLOCK_SIZE = 2**20
_MAX_BLOCKS = 64


@contextmanager
def collector_paused() -> Iterator[None]:
    """Disable Python's cyclic garbage collector temporarily.

    While records are created, it visits all of them again and again, which
    takes a third of the reading time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_json(path: str) -> Any:
    """Read a JSON file.

    Args:
        path (str): Path to the file.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file is not valid JSON or not UTF-8, with the
            message of json.
        RecursionError: If the content is nested too deeply.
    """
    with open(path, 'rb') as file:
        content = file.read()
    with collector_paused():
        return _decode(content)


def iter_record_blocks(path: str) -> Iterator[List[Any]]:
    """Iterate over the elements of a list in a JSON file, in blocks.

    The records of a large file need not be in memory together. The text is cut
    before an element that begins with a brace. If each part is a valid list,
    the file is the list of all their elements; a cut within a text or a nested
    element gives an invalid part and is therefore detected.

    Args:
        path (str): Path to the file.

    Yields:
        list[Any]: Some thousands of elements, in file order.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file is not valid JSON, not a list, or cannot be cut
            in this way. It must then be read as a whole.
        RecursionError: If the content is nested too deeply.
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
                raise ValueError('not a list of records')
            yield records
            is_first = False
            if not block:
                return


def _last_cut(text: bytes) -> int:
    """Position of the last brace after a comma; 0 if there is none."""
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
        # Its error is a subclass of ValueError only since 0.19.
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
    return json.loads(content.decode('utf-8'))
