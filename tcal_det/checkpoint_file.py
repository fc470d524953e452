"""Read checkpoints without running code that they may contain."""
import io
import json
import os
import os.path as osp
import pickle
import socket
from functools import lru_cache
from types import ModuleType
from typing import Any, List, Tuple
from urllib.error import URLError
from urllib.parse import quote, urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.restricted_pickle import (DataDescription, PlainValues,
                                        RestrictedUnpickler, SkippedEntry,
                                        StandIn)
from tcal_det.torch_pickle import load_torch_file

SAFETENSORS_SUFFIX = '.safetensors'
_HTTP = ('http://', 'https://')
# Prefixes that mmengine reads with torch.load, which can run code: local paths
# and the addresses that a user can choose.
_UNSAFE_PREFIXES = ('', *_HTTP, r'(\S+\:)?s3://', r'(\S+\:)?petrel://',
                    'pavi://')


def read_checkpoint(checkpoint: str,
                    name: str,
                    remedy: str = 'give a path or a URL') -> dict:
    """Read a checkpoint without running any code in it.

    Tensors, arrays, numbers, strings and containers of them are read; tensors
    are placed on the CPU. Entries that hold anything else are left out, and a
    log line names them.

    Args:
        checkpoint (str): Path or URL of the checkpoint. A name that ends in
            ``.safetensors`` selects the safetensors format.
        name (str): Name of the checkpoint in messages.
        remedy (str): Advice in the message if the checkpoint is missing.
            Defaults to 'give a path or a URL'.

    Returns:
        dict: Content of the checkpoint, made of plain types.

    Raises:
        MissingFileError: If the file does not exist or cannot be downloaded.
        InvalidValueError: If the file cannot be read, or is damaged.
    """
    content, left_out = read_with_left_out(checkpoint, name, remedy)
    if left_out:
        print_log(
            f'{name}: left out {", ".join(map(str, left_out))}; only tensors, '
            'arrays, numbers and texts are read',
            logger='current')
    return content


def read_with_left_out(checkpoint: str,
                       name: str,
                       remedy: str = 'give a path or a URL'
                       ) -> Tuple[dict, List[SkippedEntry]]:
    """Read a checkpoint and report the entries that were left out.

    Like :func:`read_checkpoint`, for callers that must know whether the
    content is complete.

    Args:
        checkpoint (str): Path or URL of the checkpoint. A name that ends in
            ``.safetensors`` selects the safetensors format.
        name (str): Name of the checkpoint in messages.
        remedy (str): Advice in the message if the checkpoint is missing.
            Defaults to 'give a path or a URL'.

    Returns:
        tuple[dict, list[SkippedEntry]]: Content of the checkpoint, and the
        entries that were left out.

    Raises:
        MissingFileError: If the file does not exist or cannot be downloaded.
        InvalidValueError: If the file cannot be read, or is damaged.
    """
    plain = PlainValues()
    try:
        content = _read(checkpoint, plain)
        if not isinstance(content, dict):
            kind = (
                plain.left_out[0].origin
                if plain.left_out else type(content).__name__)
            raise InvalidValueError(
                f'{name} must hold a state dict, but holds a {kind}')
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
        # A damaged file can raise nearly anything.
        cached = (f'; delete {_cached_file(checkpoint)!r} to download it anew'
                  if checkpoint.startswith(_HTTP) else '')
        raise InvalidValueError(
            f'{name} cannot be read, it is damaged or not a checkpoint '
            f'({type(error).__name__}: {error}){cached}') from None
    return content, plain.left_out


def read_checkpoints_safely() -> None:
    """Make mmengine read checkpoints with :func:`read_checkpoint`.

    Commands call this, so that the checkpoints that ``load_from``, ``resume``
    and ``init_cfg`` name are read without running code in them. mmengine
    still loads from its fixed sources ('torchvision://' and similar) itself.
    """
    CheckpointLoader.register_scheme(
        _UNSAFE_PREFIXES, load_from_restricted, force=True)


# mmengine logs the end of this name: 'Loads checkpoint by restricted backend'.
def load_from_restricted(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint for mmengine's ``CheckpointLoader``.

    Args:
        filename (str): Path or URL of the checkpoint.
        map_location (Any): Device argument of mmengine's loaders, not used:
            tensors are placed on the CPU, and the caller copies them into the
            model. Defaults to None.

    Returns:
        dict: Content of the checkpoint.

    Raises:
        MissingFileError: If the file does not exist or cannot be downloaded.
        InvalidValueError: If the file cannot be read, or is damaged.
    """
    content = read_checkpoint(filename, f'checkpoint {filename!r}')
    # mmengine.Runner.resume runs this text as a Python config.
    if content.get('meta') and 'config' in content['meta']:
        del content['meta']['config']
        print_log(
            f'checkpoint {filename!r}: left out meta.config, which mmengine '
            'would run',
            logger='current')
    return content


def _read(checkpoint: str, plain: PlainValues) -> Any:
    if checkpoint.startswith(_HTTP):
        checkpoint = _downloaded(checkpoint)
    elif '://' in checkpoint:
        # The backends of mmengine: s3, petrel and others.
        return load_torch_file(
            io.BytesIO(get(checkpoint)), plain, CheckpointUnpickler)
    checkpoint = osp.expanduser(checkpoint)
    if not osp.isfile(checkpoint):
        raise FileNotFoundError(checkpoint)
    if checkpoint.endswith(SAFETENSORS_SUFFIX):
        return _read_safetensors(checkpoint)
    with open(checkpoint, 'rb') as file:
        return load_torch_file(file, plain, CheckpointUnpickler)


def _cached_file(url: str) -> str:
    """Return the path of a download, whether or not it exists.

    A file that mmengine has downloaded, or that a user has put there, lies in
    torch's cache under the last part of its URL. Our own downloads go to a
    subfolder named after the host: otherwise a file of another host with the
    same name could be mistaken by mmengine for torchvision's weights.
    """
    cache = osp.join(torch.hub.get_dir(), 'checkpoints')
    parts = urlparse(url)
    shared = osp.join(cache, osp.basename(parts.path))
    if osp.isfile(shared):
        return shared
    return osp.join(cache, 'tcal_det', quote(parts.netloc, safe=''),
                    quote(parts.path.lstrip('/'), safe=''))


def _downloaded(url: str) -> str:
    path = _cached_file(url)
    try:
        if is_main_process():
            _download(url, path)
    finally:
        barrier()
    # Other machines have their own cache folder.
    _download(url, path)
    return path


def _download(url: str, path: str) -> None:
    if not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        print_log(f'downloading {url} to {path}', logger='current')
        torch.hub.download_url_to_file(url, path, progress=os.isatty(0))


def _read_safetensors(path: str) -> dict:
    safetensors = import_safetensors()
    with safetensors.safe_open(path, framework='pt') as file:
        meta = json.loads((file.metadata() or {}).get('meta', '{}'))
    return dict(meta=meta, state_dict=safetensors.torch.load_file(path))


def import_safetensors() -> ModuleType:
    """Import the optional package safetensors.

    Returns:
        ModuleType: The imported package.

    Raises:
        InvalidValueError: If the package is not installed.
    """
    try:
        import safetensors.torch
    except ImportError:
        raise InvalidValueError(
            f'{SAFETENSORS_SUFFIX} files need the package safetensors: '
            'pip install safetensors') from None
    return safetensors


class CheckpointUnpickler(RestrictedUnpickler):
    """First pass that replaces everything except plain data by stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that represents a global of the pickle.

        Args:
            module (str): Name of the global's module.
            name (str): Name of the global in that module.

        Returns:
            Any: Sealed object, stand-in, or object of a type that a pickle
            cannot change.
        """
        if name == 'HistoryBuffer' and module.startswith('mmengine.'):
            return PlainHistoryBuffer
        try:
            return super().find_class(module, name)
        except pickle.UnpicklingError:
            return _stand_in(f'{module}.{name}')


@lru_cache(maxsize=None)
def _stand_in(origin: str) -> type:
    return type('StandIn', (StandIn, ), dict(origin=origin))


class PlainHistoryBuffer(DataDescription):
    """Log history of numbers, without the methods that the file names."""
    __slots__ = ('_state', )

    def __setstate__(self, state: dict) -> None:
        self._state = state

    def build(self, plain: PlainValues, where: str) -> HistoryBuffer:
        """Build the history of mmengine from its plain arrays."""
        histories = [
            plain.build(self._state[key], where)
            for key in ('_log_history', '_count_history')
        ]
        if any(
                getattr(history, 'ndim', 0) != 1
                or history.dtype.kind not in 'biuf' for history in histories):
            raise pickle.UnpicklingError(
                'it holds a log of other things than numbers')
        return HistoryBuffer(
            *histories, max_length=int(self._state['max_length']))


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
