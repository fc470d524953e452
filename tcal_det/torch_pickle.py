"""Files that ``torch.save`` wrote, read without the code they could run."""
import io
import pickle
import tarfile
import zipfile
from types import SimpleNamespace
from typing import Any, BinaryIO, Optional, Type, Union

import torch

from tcal_det.restricted_pickle import RestrictedUnpickler

# Of a zip file, torch's format since 1.6.
_ARCHIVE_START = b'PK\x03\x04'


def load_torch_file(
        file: Union[str, BinaryIO],
        map_location: Any = 'cpu',
        unpickler: Type[RestrictedUnpickler] = RestrictedUnpickler) -> Any:
    """Read what ``torch.save`` wrote, in its present or its old format.

    ``weights_only=True`` is not used: it refuses a training checkpoint as a
    whole, and what it trusts depends on the version of torch.

    Args:
        file (str | BinaryIO): A path, or a file that can be rewound.
        map_location (Any): As ``torch.load`` takes it. Defaults to 'cpu'.
        unpickler (type): Decides what is built. Defaults to
            :class:`~tcal_det.restricted_pickle.RestrictedUnpickler`.

    Returns:
        Any: What was saved.

    Raises:
        Exception: Nearly any, if the file is damaged.
    """
    if zipfile.is_zipfile(file):
        _check_archive(file)
    elif _begins_as_archive(file):
        # The directory of an archive stands at its end.
        raise pickle.UnpicklingError('its end is missing')
    elif isinstance(file, str) and tarfile.is_tarfile(file):
        raise pickle.UnpicklingError(
            'it is a tar file, the format before torch 0.1.10')
    if not isinstance(file, str):
        file.seek(0)
    # torch.load asks for a module that unpickles.
    module = SimpleNamespace(
        __name__=unpickler.__module__,
        Unpickler=unpickler,
        load=lambda file, **options: unpickler(file, **options).load())
    return torch.load(
        file,
        map_location=map_location,
        pickle_module=module,
        weights_only=False)


def _begins_as_archive(file: Union[str, BinaryIO]) -> bool:
    if isinstance(file, str):
        with open(file, 'rb') as opened:
            return _begins_as_archive(opened)
    file.seek(0)
    return file.read(len(_ARCHIVE_START)) == _ARCHIVE_START


def _check_archive(file: Union[str, BinaryIO]) -> None:
    with zipfile.ZipFile(file) as archive:
        # torch's reader skips the checksums: damaged weights would be zeros.
        damaged = archive.testzip()
        if damaged is not None:
            raise pickle.UnpicklingError(f'the checksum of {damaged} is wrong')
        if any(name.endswith('/constants.pkl') for name in archive.namelist()):
            # torch.load would hand it to torch.jit.load.
            raise pickle.UnpicklingError(
                'it is a TorchScript program, not a checkpoint')


def tensor_global(module: str, name: str) -> Optional[Any]:
    """What stands for one of torch's globals; None for most of them.

    Args:
        module (str): Name of its module.
        name (str): Name in the module.
    """
    if module == 'torch' and isinstance(
            getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    return _TENSOR_GLOBALS.get(f'{module}.{name}')


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_:
                    Any) -> torch.Tensor:
    """A tensor without the hooks that the file may give it."""
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _rebuild_parameter(data: torch.Tensor, requires_grad: bool, *_:
                       Any) -> torch.nn.Parameter:
    """A parameter without the hooks and the state the file may give it."""
    return torch.nn.Parameter(data, requires_grad)


def _storage_of_bytes(content: bytes) -> Any:
    """A storage that was pickled outside of a checkpoint: a file in a file."""
    storage = load_torch_file(io.BytesIO(content))
    if not torch.is_storage(storage):
        raise pickle.UnpicklingError(
            f'it holds a {type(storage).__name__} in the place of a storage')
    return storage


_TENSOR_GLOBALS = {
    'torch._utils._rebuild_tensor': _rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils._rebuild_parameter': _rebuild_parameter,
    'torch._utils._rebuild_parameter_with_state': _rebuild_parameter,
    'torch.storage._load_from_bytes': _storage_of_bytes,
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
}
