"""Read pickles from untrusted sources: rebuild their data, run no code.

A pickle is a program. It names functions and classes, calls them, and sets
attributes of the objects that it makes. Reading is safe because it has two
passes:

1. :class:`RestrictedUnpickler` looks up each name in a table. The entries of
   the table make containers and sealed descriptions of arrays and tensors.
   They refuse attributes, because a pickle could set attributes of a class
   for the whole process.
2. :class:`PlainValues` builds the result again from values of exactly the
   known types. An attribute that the pickle has set on a container, and that
   could hide one of its methods, is not copied to the result.
"""
import pickle
import re
from collections import Counter, OrderedDict, deque
from typing import (Any, BinaryIO, Callable, Dict, List, NamedTuple, Optional,
                    Tuple)

import numpy as np

# Numbers, booleans, strings and Python objects; no structured types.
_PLAIN_DTYPE = re.compile(r'[biufcSU]\d+|O8?|\?')
# Fields that `dtype.__reduce__` gives for such a type after the byte order.
_NO_SUBTYPE = (None, None, None)
LAST_CHARACTER = 0x10ffff
# Python refuses to print integers of more than 4300 digits.
_LONGEST_INT = 14_000  # bits
_SCALARS = (type(None), bool, float, complex, str, bytes)
_CONTAINERS = (list, tuple, set, frozenset, deque)


class ImmutableObject:
    """Object that a pickle may pass as an argument, but not change."""
    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(
            'it sets attributes of objects, which could run code')


class CallableReplacement(ImmutableObject):
    """Replacement of a function or a class that a pickle names.

    Args:
        make (Callable): Function that is called instead of it.
    """
    __slots__ = ('_make', )

    def __init__(self, make: Callable) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)


class DataDescription(ImmutableObject):
    """Description of data that the second pass builds."""
    __slots__ = ()

    def build(self, plain: 'PlainValues', where: str) -> Any:
        """Build the described data.

        Args:
            plain (PlainValues): Second pass, which builds the parts.
            where (str): Place of the data in the file.

        Returns:
            Any: The data.
        """
        raise NotImplementedError


class RestrictedUnpickler(pickle.Unpickler):
    """First pass, which accepts plain Python, numpy and torch data.

    Any other name in the file is an error. Tensors need torch, which is
    imported only if the file holds a tensor.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that represents a global of the pickle.

        Args:
            module (str): Name of the global's module.
            name (str): Name of the global in that module.

        Returns:
            Any: Sealed object, or object of a type that a pickle cannot
            change.

        Raises:
            UnpicklingError: If the global is not in the table.
        """
        known = _PLAIN_GLOBALS.get((module, name))
        if known is None and module.split('.')[0] == 'torch':
            from tcal_det.torch_pickle import tensor_global
            known = tensor_global(module, name)
        if known is None:
            raise pickle.UnpicklingError(_refusal(f'{module}.{name}'))
        return known


def load_plain_pickle(file: BinaryIO) -> Any:
    """Read one pickle of plain Python, numpy and torch data.

    Args:
        file (BinaryIO): File that is open for reading.

    Returns:
        Any: Pickled object.

    Raises:
        UnpicklingError: If the pickle holds anything else than such data.
        Exception: If the pickle is damaged; the type depends on the damage.
    """
    plain = PlainValues()
    content = plain.build_content(RestrictedUnpickler(file).load())
    if plain.left_out:
        raise pickle.UnpicklingError(_refusal(plain.left_out[0].origin))
    return content


def _refusal(origin: str) -> str:
    return (f'it holds a {origin}; only tensors, arrays, numbers, texts and '
            'containers of them are read, as anything else could run code')


class SkippedEntry(NamedTuple):
    """Entry of a file that was not read.

    Attributes:
        key (str): Place in the file, e.g. 'meta.hook'.
        origin (str): Module and name of the entry's class or function.
        is_function (bool): Whether the entry only names a function or a
            class. Such an entry loses no data: building the object again
            restores it.
    """
    key: str
    origin: str
    is_function: bool

    def __str__(self) -> str:
        return f'{self.key} ({self.origin})'


class StandIn:
    """Placeholder for an object that is not built.

    It accepts every call that an unpickler makes and ignores the arguments.

    Attributes:
        origin (str): Module and name of the class or function in the file.
    """
    origin = ''

    def __new__(cls, *args: Any, **kwargs: Any) -> 'StandIn':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _take(self, *args: Any, **kwargs: Any) -> 'StandIn':
        return self

    # All the methods that an unpickler calls on the objects that it builds.
    __call__ = __setstate__ = __setitem__ = append = extend = add = _take


class _Unreadable(Exception):
    """Raised for a value that is left out together with its container."""

    def __init__(self, origin: str, is_function: bool) -> None:
        super().__init__(origin)
        self.origin = origin
        self.is_function = is_function


class PlainValues:
    """Second pass: build values of the known types again.

    Attributes:
        left_out (list[SkippedEntry]): Entries of dicts that could not be
            built.
    """

    def __init__(self) -> None:
        self.left_out: List[SkippedEntry] = []
        # By identity, so that shared objects stay shared. The original value
        # is kept as well: otherwise Python could reuse its identity.
        self._built: Dict[int, Tuple[Any, Any]] = {}

    def build_content(self, value: Any) -> Any:
        """Build the complete content of a file.

        Args:
            value (Any): Result of the first pass.

        Returns:
            Any: Content of plain types; None if all of it is left out.

        Raises:
            UnpicklingError: If a value contains itself, or if the description
                of an array or tensor is invalid.
        """
        try:
            return self.build(value, '')
        except _Unreadable as error:
            self.left_out.append(
                SkippedEntry('', error.origin, error.is_function))
            return None

    def build(self, value: Any, where: str) -> Any:
        """Build one value.

        Args:
            value (Any): Value from the first pass.
            where (str): Place of the value in the file.

        Returns:
            Any: Value of a plain type.
        """
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is int:
            if value.bit_length() > _LONGEST_INT:
                raise pickle.UnpicklingError(
                    f'it holds a whole number of {value.bit_length()} bits')
            return value
        if isinstance(value, np.generic):
            return value
        if id(value) in self._built:
            _, built = self._built[id(value)]
            if built is _IN_PROGRESS:
                raise pickle.UnpicklingError('it contains itself')
            return built
        self._built[id(value)] = value, _IN_PROGRESS
        try:
            built = self._build_object(kind, value, where)
        except _Unreadable:
            # The value may occur in several places; it is left out of each.
            del self._built[id(value)]
            raise
        self._built[id(value)] = value, built
        return built

    def _build_object(self, kind: type, value: Any, where: str) -> Any:
        if kind in (dict, OrderedDict):
            return self._build_dict(kind, value, where)
        if kind is Counter:
            return Counter(self._build_dict(dict, value, where))
        if kind is deque:
            return deque(self._build_items(value, where), value.maxlen)
        if kind in _CONTAINERS:
            return kind(self._build_items(value, where))
        if isinstance(value, DataDescription):
            return value.build(self, where)
        if isinstance(value, StandIn):
            raise _Unreadable(value.origin,
                              value.origin.split('.')[-1] == 'getattr')
        if isinstance(value, type) and issubclass(value, StandIn):
            raise _Unreadable(value.origin, True)
        is_function = isinstance(value, (CallableReplacement, type))
        raise _Unreadable(
            'function or class' if is_function else
            f'{kind.__module__}.{kind.__name__}', is_function)

    def _build_dict(self, kind: type, value: dict, where: str) -> dict:
        built = kind()
        # Not value.items(): an attribute of the dict could hide the method.
        for key, item in dict.items(value):
            place = f'{where}.{key}' if where else str(key)[:80]
            try:
                built[self.build(key, place)] = self.build(item, place)
            except _Unreadable as error:
                self.left_out.append(
                    SkippedEntry(place, error.origin, error.is_function))
        if kind is OrderedDict:
            # torch's state dicts keep the versions of their modules here.
            metadata = object.__getattribute__(value,
                                               '__dict__').get('_metadata')
            if type(metadata) in (dict, OrderedDict):
                built._metadata = self.build(metadata, f'{where}._metadata')
        return built

    def _build_items(self, value: Any, where: str) -> list:
        return [
            self.build(item, f'{where}.{index}')
            for index, item in enumerate(value)
        ]


_IN_PROGRESS = object()


class PlainDtype(ImmutableObject):
    """Numpy dtype of an array's items, without subtypes and fields.

    Args:
        code (str): Kind and size in bytes, e.g. 'f4'.
        align (bool): Argument of numpy's dtype, not used. Defaults to False.
        copy (bool): Argument of numpy's dtype, not used. Defaults to False.
    """
    __slots__ = ('dtype', )

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


class PlainArray(DataDescription):
    """Array, described by the state that numpy pickles."""
    __slots__ = ('_shape', '_dtype', '_is_fortran', '_items')

    def __init__(self) -> None:
        self.__setstate__((1, (0, ), PlainDtype('i1'), False, b''))

    def __setstate__(self, state: Tuple) -> None:
        _, shape, plain_dtype, is_fortran, items = state
        if not isinstance(plain_dtype, PlainDtype):
            raise pickle.UnpicklingError('it holds an array without a dtype')
        shape = tuple(int(size) for size in shape)
        dtype = plain_dtype.dtype
        # Python's integers do not overflow, unlike numpy's.
        count = 1
        for size in shape:
            count *= size
        expected = count if dtype.hasobject else count * dtype.itemsize
        container = list if dtype.hasobject else bytes
        if (any(size < 0 for size in shape) or type(items) is not container
                or len(items) != expected):
            raise pickle.UnpicklingError(
                f'it holds an array of shape {shape} without its items')
        if dtype.kind == 'U' and items and np.frombuffer(
                items,
                np.dtype('u4').newbyteorder(
                    dtype.byteorder)).max() > LAST_CHARACTER:
            raise pickle.UnpicklingError(
                'it holds an array of strings with invalid characters')
        self._shape, self._dtype = shape, dtype
        self._is_fortran, self._items = bool(is_fortran), items

    def build(self, plain: PlainValues, where: str) -> np.ndarray:
        """Build the array in the native byte order."""
        if self._dtype.hasobject:
            flat = np.empty(len(self._items), object)
            for index, item in enumerate(self._items):
                flat[index] = plain.build(item, f'{where}.{index}')
        elif self._items:
            flat = np.frombuffer(self._items, self._dtype)
            flat = flat.astype(self._dtype.newbyteorder('='))
        else:
            flat = np.empty(0, self._dtype)
            return flat.reshape(self._shape)
        return flat.reshape(
            self._shape, order='F' if self._is_fortran else 'C')


def _array_of_buffer(buffer: Any, plain_dtype: PlainDtype, shape: Tuple,
                     order: str) -> PlainArray:
    """Stand-in for numpy's ``_frombuffer``: an array in pickle protocol 5."""
    array = PlainArray()
    array.__setstate__((1, shape, plain_dtype, order == 'F', bytes(buffer)))
    return array


def _scalar(plain_dtype: PlainDtype, item: bytes) -> Any:
    """Stand-in for numpy's ``scalar``: a numpy number or string."""
    array = PlainArray()
    array.__setstate__((1, (1, ), plain_dtype, False, item))
    return array.build(PlainValues(), '')[0]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stand-in for ``_codecs.encode``: bytes in pickle protocol 2."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(
            f"it holds bytes in the encoding {encoding!r}, not in 'latin1'")
    return text.encode('latin1')


def _plain_globals() -> Dict[Tuple[str, str], Any]:
    makers = {
        # mmengine's schedules keep their milestones in a Counter.
        ('collections', 'Counter'):
        lambda items=(): Counter(items),
        ('collections', 'OrderedDict'):
        lambda items=(): OrderedDict(items),
        # Becomes a plain dict, without the function that makes defaults.
        ('collections', 'defaultdict'):
        lambda *_: {},
        ('collections', 'deque'):
        lambda items=(), maxlen=None: deque(items, maxlen),
        ('_codecs', 'encode'):
        _latin1_bytes,
        # Passed as an argument, but never called.
        ('numpy', 'ndarray'):
        _not_called,
        ('numpy', 'dtype'):
        PlainDtype,
    }
    for builtins in ('builtins', '__builtin__'):
        makers[builtins, 'set'] = lambda items=(): set(items)
        makers[builtins, 'frozenset'] = lambda items=(): frozenset(items)
        # Empty bytes in pickle protocol 2.
        makers[builtins, 'bytes'] = lambda: b''
    for core in ('numpy.core', 'numpy._core'):
        # An empty array, whose content is set later as its state.
        makers[f'{core}.multiarray',
               '_reconstruct'] = (lambda *_: PlainArray())
        makers[f'{core}.multiarray', 'scalar'] = _scalar
        makers[f'{core}.numeric', '_frombuffer'] = _array_of_buffer
    return {names: CallableReplacement(make) for names, make in makers.items()}


def _not_called(*_: Any) -> Optional[Any]:
    raise pickle.UnpicklingError('it holds an array without a dtype')


_PLAIN_GLOBALS = _plain_globals()
