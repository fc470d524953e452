"""Checkpoints of other people: weights and plain data, no code."""
import io
import json
import os
import os.path as osp
import pickle
import socket
from functools import lru_cache
from types import ModuleType
from typing import Any, List, NamedTuple, Tuple, Union
from urllib.error import URLError
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.restricted_pickle import RestrictedUnpickler
from tcal_det.torch_pickle import load_torch_file

SAFETENSORS_SUFFIX = '.safetensors'
_HTTP = ('http://', 'https://')
# What mmengine reads with torch.load, and therefore runs: a path, and the
# addresses that a user can choose.
_UNSAFE_PREFIXES = ('', *_HTTP, r'(\S+\:)?s3://', r'(\S+\:)?petrel://',
                    'pavi://')


def read_checkpoint(checkpoint: str,
                    name: str,
                    remedy: str = 'give a path or a URL',
                    map_location: Any = 'cpu') -> dict:
    """Read a checkpoint, of which nothing is run.

    Tensors, arrays, numbers, texts and containers of them are read. Entries
    that hold anything else are left out, and a log line names them.

    Args:
        checkpoint (str): A path, or a URL; ``.safetensors`` is known by its
            name.
        name (str): What a message calls it.
        remedy (str): What a message advises if it is missing. Defaults to
            'give a path or a URL'.
        map_location (Any): As ``torch.load`` takes it. Defaults to 'cpu'.

    Returns:
        dict: What it holds.

    Raises:
        MissingFileError: If the file does not exist or cannot be downloaded.
        InvalidValueError: If it cannot be read, or is damaged.
    """
    content, left_out = read_with_left_out(checkpoint, name, remedy,
                                           map_location)
    if left_out:
        print_log(
            f'{name}: left out {", ".join(map(str, left_out))}; only tensors, '
            'arrays, numbers and texts are read',
            logger='current')
    return content


def read_with_left_out(
        checkpoint: str,
        name: str,
        remedy: str = 'give a path or a URL',
        map_location: Any = 'cpu') -> Tuple[dict, List['LeftOut']]:
    """:func:`read_checkpoint`, for those who need all that is in it.

    Args:
        checkpoint (str): As there.
        name (str): As there.
        remedy (str): As there.
        map_location (Any): As there.

    Returns:
        tuple: What it holds, and what was left out.

    Raises:
        MissingFileError, InvalidValueError: As there.
    """
    try:
        content = _read(checkpoint, map_location)
        if not isinstance(content, dict):
            raise InvalidValueError(
                f'{name} must hold a state dict, but holds a '
                f'{type(content).__name__}')
        left_out = _leave_out_stand_ins(content)
        _check_form(content, name)
    except InvalidValueError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f'{name} does not exist: {remedy}') from None
    except (URLError, ConnectionError, socket.timeout) as error:
        raise MissingFileError(
            f'{name} could not be downloaded ({error}): fetch it elsewhere, '
            f'and {remedy}') from None
    except Exception as error:
        # Unpickling a damaged file can raise nearly anything.
        cached = (f'; delete {_cache_path(checkpoint)!r} to download it anew'
                  if checkpoint.startswith(_HTTP) else '')
        raise InvalidValueError(
            f'{name} cannot be read, it is damaged or not a checkpoint '
            f'({type(error).__name__}: {error}){cached}') from None
    return content, left_out


def read_checkpoints_safely() -> None:
    """Let mmengine read checkpoints as :func:`read_checkpoint` does.

    For commands: what ``load_from``, ``resume`` and ``init_cfg`` name is then
    read without running it. The names of fixed sources ('torchvision://'
    and the like) stay mmengine's.
    """
    CheckpointLoader.register_scheme(
        _UNSAFE_PREFIXES, load_from_restricted, force=True)


# mmengine logs the end of this name: 'Loads checkpoint by restricted backend'.
def load_from_restricted(filename: str, map_location: Any = None) -> dict:
    """A loader of mmengine's ``CheckpointLoader``.

    Args:
        filename (str): A path or a URL.
        map_location (Any): As ``torch.load`` takes it. Defaults to None,
            the CPU.

    Returns:
        dict: What the checkpoint holds.

    Raises:
        MissingFileError, InvalidValueError: If it cannot be read.
    """
    content = read_checkpoint(
        filename,
        f'checkpoint {filename!r}',
        map_location=map_location or 'cpu')
    meta = content.get('meta')
    # mmengine.Runner.resume runs this text as a Python config.
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(
            f'checkpoint {filename!r}: left out meta.config, which mmengine '
            'would run',
            logger='current')
    return content


def _read(checkpoint: str, map_location: Any) -> Any:
    if checkpoint.startswith(_HTTP):
        checkpoint = _downloaded(checkpoint)
    elif '://' in checkpoint:
        # The backends of mmengine: s3, petrel and others.
        return load_torch_file(
            io.BytesIO(get(checkpoint)), map_location, CheckpointUnpickler)
    checkpoint = osp.expanduser(checkpoint)
    if not osp.isfile(checkpoint):
        raise FileNotFoundError(checkpoint)
    if checkpoint.endswith(SAFETENSORS_SUFFIX):
        return _read_safetensors(checkpoint, map_location)
    return load_torch_file(checkpoint, map_location, CheckpointUnpickler)


def _cache_path(url: str) -> str:
    """Where torch, and so mmengine, puts what it downloads."""
    return osp.join(torch.hub.get_dir(), 'checkpoints',
                    osp.basename(urlparse(url).path))


def _downloaded(url: str) -> str:
    path = _cache_path(url)
    try:
        if is_main_process():
            _download(url, path)
    finally:
        barrier()
    # On another machine the cache is another folder.
    _download(url, path)
    return path


def _download(url: str, path: str) -> None:
    if not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        print_log(f'downloading {url} to {path}', logger='current')
        torch.hub.download_url_to_file(url, path, progress=os.isatty(0))


def _read_safetensors(path: str, map_location: Any) -> dict:
    safetensors = import_safetensors()
    with safetensors.safe_open(path, framework='pt') as file:
        meta = json.loads((file.metadata() or {}).get('meta', '{}'))
    device = 'cpu' if callable(map_location) else str(map_location)
    return dict(
        meta=meta, state_dict=safetensors.torch.load_file(path, device))


def import_safetensors() -> ModuleType:
    """The package safetensors, which is not needed for anything else.

    Raises:
        InvalidValueError: If it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError:
        raise InvalidValueError(
            f'{SAFETENSORS_SUFFIX} files need the package safetensors: '
            'pip install safetensors') from None
    return safetensors


class StandIn:
    """An object of a class that is not built: it takes all and does nothing.

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

    # All that an unpickler calls on what it builds.
    __call__ = __setstate__ = __setitem__ = append = extend = add = _take


@lru_cache(maxsize=None)
def _stand_in(origin: str) -> type:
    return type('StandIn', (StandIn, ), dict(origin=origin))


class CheckpointUnpickler(RestrictedUnpickler):
    """Unpickler with stand-ins for whatever is not plain data."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global of the pickle.

        Args:
            module (str): Name of its module.
            name (str): Name in the module.

        Returns:
            Any: A class or function that builds data and nothing else.
        """
        if name == 'HistoryBuffer' and module.startswith('mmengine.'):
            return _PlainHistoryBuffer
        try:
            return super().find_class(module, name)
        except pickle.UnpicklingError:
            return _stand_in(f'{module}.{name}')


class _PlainHistoryBuffer(HistoryBuffer):
    """A log history made of numbers, without the methods in the file."""

    def __setstate__(self, state: dict) -> None:
        histories = [
            np.array(state[key]) for key in ('_log_history', '_count_history')
        ]
        if any(history.dtype.kind not in 'biuf' for history in histories):
            raise pickle.UnpicklingError(
                'it holds a log of other things than numbers')
        self.__init__(*histories, max_length=int(state['max_length']))
        # The next checkpoint must open without this package.
        self.__class__ = HistoryBuffer


def _check_form(content: dict, name: str) -> None:
    for key in ('state_dict', 'meta'):
        if not isinstance(content.get(key, {}), (dict, type(None))):
            raise InvalidValueError(
                f'{name}: `{key}` must be a dict, but its type is '
                f'{type(content[key]).__name__}')
    for key in content.get('state_dict') or content:
        if not isinstance(key, str):
            raise InvalidValueError(
                f'{name} must hold weights by name, but one has the name '
                f'{key!r}')


class LeftOut(NamedTuple):
    """An entry of a checkpoint that was not read.

    Attributes:
        key (str): Where it was, e.g. 'meta.hook'.
        origin (str): Module and name of its class or function.
        is_function (bool): Whether it only named a function or a class,
            which whoever built it has again.
    """
    key: str
    origin: str
    is_function: bool

    def __str__(self) -> str:
        return f'{self.key} ({self.origin})'


def _leave_out_stand_ins(content: Union[dict, list],
                         where: str = '') -> List[LeftOut]:
    """Remove entries with stand-ins in place."""
    left_out = []
    is_dict = isinstance(content, dict)
    for key, value in list(content.items() if is_dict else enumerate(content)):
        path = f'{where}{key}'
        if isinstance(value, (dict, list)) and not _has_stand_in(value):
            left_out += _leave_out_stand_ins(value, f'{path}.')
            continue
        origin = _origin(key) or _origin(value)
        if origin and is_dict:
            del content[key]
            is_function = isinstance(
                value, type) or origin.split('.')[-1] == 'getattr'
            left_out.append(LeftOut(path, origin, is_function))
    return left_out


def _has_stand_in(value: Union[dict, list]) -> bool:
    """Whether a list cannot be kept, as one of its items is left out."""
    return isinstance(value, list) and any(
        _origin(item) for item in value if not isinstance(item, (dict, list)))


def _origin(value: Any) -> str:
    """Where a stand-in inside of a value is from; '' if there is none."""
    if isinstance(value, StandIn):
        return value.origin
    if isinstance(value, type) and issubclass(value, StandIn):
        return value.origin
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return next(filter(None, map(_origin, value)), '')
    return ''
