"""Pickles of other people: their data is rebuilt, their code never runs.

A pickle is a program. It names functions and classes by module, and the
unpickler imports and calls them. Here each name is looked up in a table
instead, and what the table gives builds arrays, tensors and containers only:
numpy's own ``dtype.__setstate__`` and ``ndarray.__setstate__`` are not
reached with values that nobody has checked.
"""
import pickle
import re
from collections import Counter, OrderedDict, deque
from typing import Any, BinaryIO, Dict, Tuple

import numpy as np

# Numbers, booleans, texts and Python objects; no structured types.
_PLAIN_DTYPE = re.compile(r'[biufcSU]\d+|O8?|\?')
# What `dtype.__reduce__` says of such a type, after the byte order.
_NO_SUBTYPE = (None, None, None)


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler of plain Python, numpy and torch data.

    Everything else that the file names is an error. Tensors need torch,
    which is imported when the file holds one.
    """

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global of the pickle.

        Args:
            module (str): Name of its module.
            name (str): Name in the module.

        Returns:
            Any: A class or function that builds data and nothing else.

        Raises:
            UnpicklingError: If the table does not have it.
        """
        known = _PLAIN_GLOBALS.get((module, name))
        if known is None and module.split('.')[0] == 'torch':
            from tcal_det.torch_pickle import tensor_global
            known = tensor_global(module, name)
        if known is None:
            raise pickle.UnpicklingError(
                f'it holds a {module}.{name}; only tensors, arrays, numbers, '
                'texts and containers of them are read, as anything else '
                'could run code')
        return known


def load_plain_pickle(file: BinaryIO) -> Any:
    """Read one pickle of plain Python, numpy and torch data.

    Args:
        file (BinaryIO): Open for reading.

    Returns:
        Any: What was pickled. Arrays are of a subclass of ``ndarray``, which
        pickles as ``ndarray``.

    Raises:
        Exception: Nearly any, if the pickle is damaged;
            ``pickle.UnpicklingError`` if it holds anything else.
    """
    return RestrictedUnpickler(file).load()


class PlainDtype:
    """The numpy type of an array's items, without subtypes and fields.

    Args:
        code (str): Kind and size in bytes, e.g. 'f4'.
        align (bool): Not used.
        copy (bool): Not used.
    """

    def __init__(self,
                 code: str,
                 align: bool = False,
                 copy: bool = False) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(
                f'it holds an array of the type {code!r}; only numbers, '
                'booleans and texts are read')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Tuple) -> None:
        _, byte_order, *subtype = state[:5]
        if byte_order not in (
                '<', '>', '|',
                '=') or tuple(subtype) != _NO_SUBTYPE or len(state) != 8:
            raise pickle.UnpicklingError(
                'it holds an array of a structured type; only numbers, '
                'booleans and texts are read')
        self.dtype = self.dtype.newbyteorder(byte_order)


class PlainArray(np.ndarray):
    """An array whose pickled state is checked before numpy takes it."""

    def __setstate__(self, state: Tuple) -> None:
        _, shape, plain_dtype, is_fortran, items = state
        shape = tuple(int(size) for size in shape)
        dtype = plain_dtype.dtype
        # Sizes in Python's integers, which do not overflow.
        count = 1
        for size in shape:
            count *= size
        expected = count if dtype.hasobject else count * dtype.itemsize
        container = list if dtype.hasobject else bytes
        if (any(size < 0 for size in shape)
                or not isinstance(items, container) or len(items) != expected):
            raise pickle.UnpicklingError(
                f'it holds an array of shape {shape} without its items')
        super().__setstate__((1, shape, dtype, bool(is_fortran), items))

    def __reduce_ex__(self, protocol: int) -> Tuple:
        # What is written again must open without this package.
        return np.asarray(self).__reduce_ex__(protocol)


class _ArrayName:
    """Stands where a pickle passes ``numpy.ndarray`` as an argument."""


def _empty_array(*_: Any) -> PlainArray:
    """``_reconstruct``: an array, to be filled by ``__setstate__``."""
    return PlainArray((0, ), np.int8)


def _array_of_buffer(buffer: bytes, plain_dtype: PlainDtype, shape: Tuple,
                     order: str) -> PlainArray:
    """``_frombuffer``: how protocol 5 pickles an array."""
    array = _empty_array()
    array.__setstate__((1, shape, plain_dtype, order == 'F', bytes(buffer)))
    return array


def _scalar(plain_dtype: PlainDtype, item: bytes) -> Any:
    """``scalar``: a numpy number or text."""
    array = _empty_array()
    array.__setstate__((1, (1, ), plain_dtype, False, item))
    return array[0]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """``_codecs.encode``: how protocol 2 pickles bytes."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(
            f"it holds bytes in the encoding {encoding!r}, not in 'latin1'")
    return text.encode('latin1')


def _empty_bytes() -> bytes:
    """``bytes``: how protocol 2 pickles none of them."""
    return b''


def _empty_dict(*_: Any) -> dict:
    """``defaultdict``: a dict without the function that makes defaults."""
    return {}


def _plain_globals() -> Dict[Tuple[str, str], Any]:
    table = {
        # mmengine's schedules keep their milestones in a Counter.
        ('collections', 'Counter'):
        Counter,
        ('collections', 'OrderedDict'):
        OrderedDict,
        ('collections', 'defaultdict'):
        _empty_dict,
        ('collections', 'deque'):
        deque,
        ('_codecs', 'encode'):
        _latin1_bytes,
        ('numpy', 'ndarray'):
        _ArrayName,
        ('numpy', 'dtype'):
        PlainDtype,
    }
    for builtins in ('builtins', '__builtin__'):
        table[builtins, 'set'] = set
        table[builtins, 'frozenset'] = frozenset
        table[builtins, 'bytes'] = _empty_bytes
    for core in ('numpy.core', 'numpy._core'):
        table[f'{core}.multiarray', '_reconstruct'] = _empty_array
        table[f'{core}.multiarray', 'scalar'] = _scalar
        table[f'{core}.numeric', '_frombuffer'] = _array_of_buffer
    return table


_PLAIN_GLOBALS = _plain_globals()
