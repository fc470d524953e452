"""Files that ``torch.save`` wrote, read without torch's own reader.

``torch.load`` unpickles, hands a file to TorchScript or to tarfile if it looks
like theirs, skips the checksums, and writes patches of source code; which of
this a version does depends on how it sees the file, and so cannot be ruled out
by looking at the file beforehand. Both formats are simple:

- the present one is a zip file with the pickle ``NAME/data.pkl`` and the bytes
  of each storage in ``NAME/data/KEY``;
- the old one is a sequence of pickles (magic number, version, system, content,
  keys of the storages), and then each storage with its length before it.
"""
import io
import os
import pickle
import sys
import zipfile
from typing import Any, BinaryIO, Dict, Optional, Tuple, Type

import torch

from tcal_det.restricted_pickle import (Described, Maker, PlainValues,
                                        RestrictedUnpickler)

# Of a zip file.
_ARCHIVE_START = b'PK\x03\x04'
_MAGIC_NUMBER = 0x1950a86a20f9469cfc6c
_VERSION = 1001
_SIZE_BYTES = 8
_STORAGE_TYPES = dict(
    DoubleStorage=torch.float64,
    FloatStorage=torch.float32,
    HalfStorage=torch.float16,
    BFloat16Storage=torch.bfloat16,
    LongStorage=torch.int64,
    IntStorage=torch.int32,
    ShortStorage=torch.int16,
    CharStorage=torch.int8,
    ByteStorage=torch.uint8,
    BoolStorage=torch.bool,
    ComplexFloatStorage=torch.complex64,
    ComplexDoubleStorage=torch.complex128,
    UntypedStorage=torch.uint8)


def load_torch_file(file: BinaryIO, plain: PlainValues,
                    unpickler: Type[RestrictedUnpickler]) -> Any:
    """Read what ``torch.save`` wrote, in its present or its old format.

    Tensors come to the CPU, with their strides, and share memory where they
    did.

    Args:
        file (BinaryIO): Open for reading.
        plain (PlainValues): Second pass.
        unpickler (type): First pass.

    Returns:
        Any: What was saved.

    Raises:
        Exception: Nearly any, if the file is damaged.
    """
    return plain.of(_load(file, unpickler))


def _load(file: BinaryIO, unpickler: Type[RestrictedUnpickler]) -> Any:
    """The first pass."""
    start = file.read(len(_ARCHIVE_START))
    file.seek(0)
    if start == _ARCHIVE_START:
        if not zipfile.is_zipfile(file):
            # Its directory stands at the end.
            raise pickle.UnpicklingError('its end is missing')
        try:
            with zipfile.ZipFile(file) as archive:
                return _load_archive(archive, unpickler)
        except zipfile.BadZipFile as error:
            # zipfile compares the checksum of what it reads.
            raise pickle.UnpicklingError(
                f'its content is damaged: {error}') from None
    return _load_old_format(file, unpickler)


def _load_archive(archive: zipfile.ZipFile,
                  unpickler: Type[RestrictedUnpickler]) -> Any:
    names = archive.namelist()
    if any(name.endswith('/constants.pkl') for name in names):
        raise pickle.UnpicklingError(
            'it is a TorchScript program, not a checkpoint')
    roots = {
        name.split('/')[0]
        for name in names if name.count('/') == 1 and name.endswith('.pkl')
    }
    if len(roots) != 1:
        raise pickle.UnpicklingError('it is a zip file of something else')
    root, = roots
    byte_order = f'{root}/byteorder'
    if byte_order in names and (archive.read(byte_order).decode()
                                != sys.byteorder):
        raise pickle.UnpicklingError(
            'it was written on a machine of another byte order')
    storages: Dict[str, Storage] = {}

    def storage_of(dtype: torch.dtype, key: str, numel: int) -> Storage:
        if key not in storages:
            storages[key] = Storage(dtype, numel)
            storages[key].content = _read_member(archive, f'{root}/data/{key}',
                                                 storages[key].num_bytes)
        return storages[key]

    content = io.BytesIO(archive.read(f'{root}/data.pkl'))
    return _with_storages(unpickler, content, storage_of).load()


def _read_member(archive: zipfile.ZipFile, name: str,
                 num_bytes: int) -> bytearray:
    """The bytes of a storage."""
    info = archive.getinfo(name)
    if (info.file_size != num_bytes
            or info.compress_type != zipfile.ZIP_STORED):
        raise pickle.UnpicklingError(
            f'{name} has {info.file_size} bytes instead of {num_bytes}')
    content = bytearray(num_bytes)
    view, filled = memoryview(content), 0
    with archive.open(info) as member:
        while True:
            count = member.readinto(view[filled:])
            if not count:
                break
            filled += count
        # Only a read beyond the last byte compares the checksum.
        if member.read(1) or filled != num_bytes:
            raise pickle.UnpicklingError(f'{name} is cut')
    return content


def _load_old_format(file: BinaryIO,
                     unpickler: Type[RestrictedUnpickler]) -> Any:
    storages: Dict[str, Storage] = {}

    def storage_of(dtype: torch.dtype, key: str, numel: int) -> Storage:
        return storages.setdefault(key, Storage(dtype, numel))

    if unpickler(file).load() != _MAGIC_NUMBER:
        raise pickle.UnpicklingError('it does not begin as a checkpoint')
    if unpickler(file).load() != _VERSION:
        raise pickle.UnpicklingError('it is of an unknown version')
    system = unpickler(file).load()
    if type(system) is not dict or (system.get('little_endian')
                                    is not (sys.byteorder == 'little')):
        raise pickle.UnpicklingError(
            'it was written on a machine of another byte order')
    content = _with_storages(unpickler, file, storage_of).load()
    keys = unpickler(file).load()
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise pickle.UnpicklingError('it does not list its storages')
    position = file.tell()
    left = file.seek(0, os.SEEK_END) - position
    file.seek(position)
    for key in keys:
        storage = storages[key]
        left -= _SIZE_BYTES + storage.num_bytes
        numel = int.from_bytes(file.read(_SIZE_BYTES), 'little')
        if left < 0 or numel != storage.numel:
            raise pickle.UnpicklingError(f'its storage {key} is cut')
        storage.content = bytearray(file.read(storage.num_bytes))
    return content


def _with_storages(unpickler: Type[RestrictedUnpickler], file: BinaryIO,
                   storage_of: Any) -> RestrictedUnpickler:
    """The unpickler of a content that refers to storages."""

    class Loader(unpickler):

        def persistent_load(self, reference: Any) -> 'Storage':
            # The old format has a place for views, long unused.
            if (type(reference) is not tuple or len(reference) < 5
                    or reference[0] != 'storage'
                    or reference[5:] not in ((), (None, ))):
                raise pickle.UnpicklingError(
                    'it refers to something else than a storage; a whole '
                    'model is not read, only its state_dict')
            _, dtype, key, _, numel = reference[:5]
            if (type(dtype) is not torch.dtype or type(key) is not str
                    or type(numel) is not int or numel < 0):
                raise pickle.UnpicklingError(
                    'it refers to a storage that is not one')
            return storage_of(dtype, key, numel)

    return Loader(file)


class Storage(Described):
    """Numbers in a row, of which tensors are views.

    Args:
        dtype (dtype): Their type.
        numel (int): Their number.
    """
    __slots__ = ('dtype', 'numel', 'content', '_flat')

    def __init__(self, dtype: torch.dtype, numel: int) -> None:
        self.dtype = dtype
        self.numel = numel
        self.content: Optional[bytearray] = None
        self._flat: Dict[torch.dtype, torch.Tensor] = {}

    @property
    def num_bytes(self) -> int:
        return self.numel * _item_size(self.dtype)

    def flat(self, dtype: torch.dtype) -> torch.Tensor:
        """All of them as a tensor of one dimension; always the same memory.

        Args:
            dtype (dtype): How the bytes are read.
        """
        if self.content is None or len(self.content) != self.num_bytes:
            raise pickle.UnpicklingError('it lacks the content of a tensor')
        if dtype not in self._flat:
            numel = self.num_bytes // _item_size(dtype)
            self._flat[dtype] = (
                torch.frombuffer(self.content, dtype=dtype, count=numel)
                if numel else torch.empty(0, dtype=dtype))
        return self._flat[dtype]

    def build(self, plain: PlainValues, where: str) -> torch.Tensor:
        """A storage outside of a tensor."""
        return self.flat(self.dtype)


class PlainTensor(Described):
    """A tensor, described by its place in a storage.

    Args:
        storage (Storage): Its numbers.
        offset (int): Place of the first.
        size (tuple[int]): Shape.
        stride (tuple[int]): Distance of neighbours in each dimension.
        dtype (dtype, optional): Type, if it is not the storage's. Defaults
            to None.
    """
    __slots__ = ('_storage', '_offset', '_size', '_stride', '_dtype')

    def __init__(self,
                 storage: Storage,
                 offset: int,
                 size: Tuple[int, ...],
                 stride: Tuple[int, ...],
                 dtype: Optional[torch.dtype] = None) -> None:
        numbers = (offset, *size, *stride)
        if (not isinstance(storage, Storage) or len(size) != len(stride)
                or any(
                    type(number) is not int or number < 0
                    for number in numbers)):
            raise pickle.UnpicklingError('it holds a tensor that is not one')
        self._storage, self._offset = storage, offset
        self._size, self._stride = tuple(size), tuple(stride)
        self._dtype = storage.dtype if dtype is None else dtype

    def build(self, plain: PlainValues, where: str) -> torch.Tensor:
        """Build the tensor, if it lies inside of its storage."""
        flat = self._storage.flat(self._dtype)
        if 0 not in self._size:
            last = self._offset + sum(
                (size - 1) * stride
                for size, stride in zip(self._size, self._stride))
            if last >= flat.numel():
                raise pickle.UnpicklingError(
                    'it holds a tensor that is larger than its storage')
        elif self._offset > flat.numel():
            raise pickle.UnpicklingError(
                'it holds a tensor that is larger than its storage')
        return flat.as_strided(self._size, self._stride, self._offset)


class PlainParameter(Described):
    """A parameter, without the hooks and the state the file may give it.

    Args:
        data (PlainTensor): Its values.
        requires_grad (bool): Whether it is trained.
    """
    __slots__ = ('_data', '_requires_grad')

    def __init__(self, data: PlainTensor, requires_grad: bool, *_:
                 Any) -> None:
        self._data, self._requires_grad = data, bool(requires_grad)

    def build(self, plain: PlainValues, where: str) -> torch.nn.Parameter:
        """Build the parameter."""
        data = plain.build(self._data, where)
        if not isinstance(data, torch.Tensor):
            raise pickle.UnpicklingError('it holds a parameter of no tensor')
        return torch.nn.Parameter(
            data, self._requires_grad and data.is_floating_point())


def tensor_global(module: str, name: str) -> Optional[Any]:
    """What stands for one of torch's globals; None for most of them.

    Args:
        module (str): Name of its module.
        name (str): Name in the module.
    """
    if module == 'torch' and isinstance(
            getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if (module in ('torch', 'torch.cuda', 'torch.storage')
            and name in _STORAGE_TYPES):
        return _STORAGE_TYPES[name]
    return _TENSOR_GLOBALS.get(f'{module}.{name}')


def _item_size(dtype: torch.dtype) -> int:
    return torch.empty((), dtype=dtype).element_size()


def _storage_of_bytes(content: bytes) -> Storage:
    """A storage that was pickled outside of a checkpoint: a file in a file."""
    storage = _load(io.BytesIO(content), RestrictedUnpickler)
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError(
            f'it holds a {type(storage).__name__} in the place of a storage')
    return storage


def _rebuild_tensor_v3(storage: Storage, offset: int, size: tuple,
                       stride: tuple, requires_grad: bool, hooks: Any,
                       dtype: torch.dtype, *_: Any) -> PlainTensor:
    """A tensor of a type for which there is no type of storage."""
    if type(dtype) is not torch.dtype:
        raise pickle.UnpicklingError('it holds a tensor of no type')
    return PlainTensor(storage, offset, size, stride, dtype)


# Hooks, which a file may give to a tensor, are dropped.
_TENSOR_GLOBALS = {
    'torch._utils._rebuild_tensor':
    Maker(PlainTensor),
    'torch._utils._rebuild_tensor_v2':
    Maker(lambda storage, offset, size, stride, *_: PlainTensor(
        storage, offset, size, stride)),
    'torch._utils._rebuild_tensor_v3':
    Maker(_rebuild_tensor_v3),
    'torch._utils._rebuild_parameter':
    Maker(PlainParameter),
    'torch._utils._rebuild_parameter_with_state':
    Maker(PlainParameter),
    'torch.storage._load_from_bytes':
    Maker(_storage_of_bytes),
    'torch.Size':
    Maker(lambda sizes=(): tuple(sizes)),
}
