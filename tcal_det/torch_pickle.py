"""Read files of ``torch.save`` without ``torch.load``.

``torch.load`` unpickles, passes files that look like TorchScript or tar files
to other readers, skips the checksums, and writes patches of source code.
Which of these it does depends on the version of torch and on the file, and
cannot be excluded by a check of the file beforehand. Both formats are simple:

- the current format is a zip file with the pickle ``NAME/data.pkl`` and the
  bytes of each storage in ``NAME/data/KEY``;
- the old format is a sequence of pickles (magic number, version, system,
  content, keys of the storages), followed by each storage with its length
  before it.
"""
import io
import os
import pickle
import sys
import zipfile
from typing import Any, BinaryIO, Dict, Optional, Tuple, Type

import torch

from tcal_det.restricted_pickle import (CallableReplacement, DataDescription,
                                        PlainValues, RestrictedUnpickler)

# First bytes of a zip file.
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
    """Read a file of ``torch.save``, in its current or its old format.

    Tensors are placed on the CPU with their strides. Tensors that shared
    memory share it again.

    Args:
        file (BinaryIO): File that is open for reading.
        plain (PlainValues): Second pass, which builds the result.
        unpickler (type): Unpickler class of the first pass.

    Returns:
        Any: Saved object.

    Raises:
        Exception: If the file is damaged; the type depends on the damage.
    """
    return plain.build_content(_load(file, unpickler))


def _load(file: BinaryIO, unpickler: Type[RestrictedUnpickler]) -> Any:
    """Run the first pass."""
    start = file.read(len(_ARCHIVE_START))
    file.seek(0)
    if start == _ARCHIVE_START:
        if not zipfile.is_zipfile(file):
            # The directory of a zip file is at its end.
            raise pickle.UnpicklingError('its end is missing')
        try:
            with zipfile.ZipFile(file) as archive:
                return _load_archive(archive, unpickler)
        except zipfile.BadZipFile as error:
            # zipfile verifies the checksums of the members that it reads.
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
        raise pickle.UnpicklingError('it is a zip file, but not of torch.save')
    root, = roots
    byte_order = f'{root}/byteorder'
    if byte_order in names and (archive.read(byte_order).decode()
                                != sys.byteorder):
        raise pickle.UnpicklingError(
            'it was written on a machine with another byte order')
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
    """Read the bytes of a storage."""
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
        # zipfile verifies the checksum only on a read after the last byte.
        if member.read(1) or filled != num_bytes:
            raise pickle.UnpicklingError(f'{name} is truncated')
    return content


def _load_old_format(file: BinaryIO,
                     unpickler: Type[RestrictedUnpickler]) -> Any:
    storages: Dict[str, Storage] = {}

    def storage_of(dtype: torch.dtype, key: str, numel: int) -> Storage:
        return storages.setdefault(key, Storage(dtype, numel))

    if unpickler(file).load() != _MAGIC_NUMBER:
        raise pickle.UnpicklingError('it does not begin like a checkpoint')
    if unpickler(file).load() != _VERSION:
        raise pickle.UnpicklingError('it has an unknown format version')
    system = unpickler(file).load()
    if type(system) is not dict or (system.get('little_endian')
                                    is not (sys.byteorder == 'little')):
        raise pickle.UnpicklingError(
            'it was written on a machine with another byte order')
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
            raise pickle.UnpicklingError(f'its storage {key} is truncated')
        storage.content = bytearray(file.read(storage.num_bytes))
    return content


def _with_storages(unpickler: Type[RestrictedUnpickler], file: BinaryIO,
                   storage_of: Any) -> RestrictedUnpickler:
    """Make the unpickler of a content that refers to storages."""

    class Loader(unpickler):

        def persistent_load(self, reference: Any) -> 'Storage':
            # The sixth field, for views in the old format, is not used.
            if (type(reference) is not tuple or len(reference) < 5
                    or reference[0] != 'storage'
                    or reference[5:] not in ((), (None, ))):
                raise pickle.UnpicklingError(
                    'it refers to an object other than a storage; a whole '
                    'model is not read, only its state_dict')
            _, dtype, key, _, numel = reference[:5]
            if (type(dtype) is not torch.dtype or type(key) is not str
                    or type(numel) is not int or numel < 0):
                raise pickle.UnpicklingError('it refers to an invalid storage')
            return storage_of(dtype, key, numel)

    return Loader(file)


class Storage(DataDescription):
    """Flat memory with numbers, of which tensors are views.

    Args:
        dtype (torch.dtype): Type of the numbers.
        numel (int): Count of the numbers.
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
        """Return the storage as a tensor of one dimension.

        All returned tensors share the same memory.

        Args:
            dtype (torch.dtype): Type as which the bytes are read.

        Returns:
            Tensor: View of the whole storage, shape (numel,) for the
            storage's own type.
        """
        if self.content is None or len(self.content) != self.num_bytes:
            raise pickle.UnpicklingError('the content of a tensor is missing')
        if dtype not in self._flat:
            numel = self.num_bytes // _item_size(dtype)
            self._flat[dtype] = (
                torch.frombuffer(self.content, dtype=dtype, count=numel)
                if numel else torch.empty(0, dtype=dtype))
        return self._flat[dtype]

    def build(self, plain: PlainValues, where: str) -> torch.Tensor:
        """Build a storage that is not part of a tensor."""
        return self.flat(self.dtype)


class PlainTensor(DataDescription):
    """Tensor, described by its place in a storage.

    Args:
        storage (Storage): Storage with the tensor's numbers.
        offset (int): Index of the first number in the storage.
        size (tuple[int, ...]): Shape of the tensor.
        stride (tuple[int, ...]): Distance of neighbours in each dimension.
        dtype (torch.dtype, optional): Type of the tensor. Defaults to None,
            the storage's type.
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
            raise pickle.UnpicklingError('it holds an invalid tensor')
        self._storage, self._offset = storage, offset
        self._size, self._stride = tuple(size), tuple(stride)
        self._dtype = storage.dtype if dtype is None else dtype

    def build(self, plain: PlainValues, where: str) -> torch.Tensor:
        """Build the tensor; raise if it does not lie inside its storage."""
        flat = self._storage.flat(self._dtype)
        if 0 in self._size:
            # The offset may be outside, as for the last column of an empty
            # matrix: mmdet's scores of an image without detections.
            return flat.as_strided(self._size, self._stride, 0)
        last = self._offset + sum(
            (size - 1) * stride
            for size, stride in zip(self._size, self._stride))
        if last >= flat.numel():
            raise pickle.UnpicklingError(
                'it holds a tensor that is larger than its storage')
        return flat.as_strided(self._size, self._stride, self._offset)


class PlainParameter(DataDescription):
    """Parameter without the hooks and the state that the file may hold.

    Args:
        data (PlainTensor): Values of the parameter.
        requires_grad (bool): Whether the parameter is trained.
    """
    __slots__ = ('_data', '_requires_grad')

    def __init__(self, data: PlainTensor, requires_grad: bool, *_:
                 Any) -> None:
        self._data, self._requires_grad = data, bool(requires_grad)

    def build(self, plain: PlainValues, where: str) -> torch.nn.Parameter:
        """Build the parameter."""
        data = plain.build(self._data, where)
        if not isinstance(data, torch.Tensor):
            raise pickle.UnpicklingError(
                'it holds a parameter without a tensor')
        return torch.nn.Parameter(
            data, self._requires_grad and data.is_floating_point())


def tensor_global(module: str, name: str) -> Optional[Any]:
    """Return the object that represents one of torch's globals.

    Args:
        module (str): Name of the global's module.
        name (str): Name of the global in that module.

    Returns:
        Any, optional: Replacement of the global; None for globals that are
        not read, which are most of them.
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
    """Read a storage that was pickled as bytes: a file inside the file."""
    storage = _load(io.BytesIO(content), RestrictedUnpickler)
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError(
            f'it holds a {type(storage).__name__} instead of a storage')
    return storage


def _rebuild_tensor_v3(storage: Storage, offset: int, size: tuple,
                       stride: tuple, requires_grad: bool, hooks: Any,
                       dtype: torch.dtype, *_: Any) -> PlainTensor:
    """Describe a tensor of a type without a storage type of its own."""
    if type(dtype) is not torch.dtype:
        raise pickle.UnpicklingError('it holds a tensor without a dtype')
    return PlainTensor(storage, offset, size, stride, dtype)


# Hooks that the file sets on a tensor are dropped.
_TENSOR_GLOBALS = {
    'torch._utils._rebuild_tensor':
    CallableReplacement(PlainTensor),
    'torch._utils._rebuild_tensor_v2':
    CallableReplacement(lambda storage, offset, size, stride, *_: PlainTensor(
        storage, offset, size, stride)),
    'torch._utils._rebuild_tensor_v3':
    CallableReplacement(_rebuild_tensor_v3),
    'torch._utils._rebuild_parameter':
    CallableReplacement(PlainParameter),
    'torch._utils._rebuild_parameter_with_state':
    CallableReplacement(PlainParameter),
    'torch.storage._load_from_bytes':
    CallableReplacement(_storage_of_bytes),
    'torch.Size':
    CallableReplacement(lambda sizes=(): tuple(sizes)),
}
