"""Write a student without its teacher, for release."""
import hashlib
import io
import json
import logging
from typing import Dict

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.checkpoint_file import import_safetensors, read_checkpoint
from tcal_det.config_file import parse_config_text
from tcal_det.engine.plain_config import plain_detector_config
from tcal_det.errors import InvalidValueError
from tcal_det.fileio import atomic_output_file, plain_json
from tcal_det.models.distillers.detector_files import detector_state

FORMATS = ('pth', 'safetensors')
# Messages of hooks, which include the path of the last checkpoint; and a
# config that mmengine would run.
_PRIVATE_META = ('hook_msgs', 'config')


def publish_student(checkpoint: str, out: str, format: str = 'pth') -> str:
    """Write only the detector weights and ``meta`` of a training checkpoint.

    Optimizer, schedules, the second copy of EMA and learnable parts of losses
    are left out. The keys are those of the plain detector, and ``meta.cfg``
    is its config, so mmdet opens the file without this package. The file name
    ends with the first characters of the content's SHA-256, like the files of
    mmdet's ``publish_model.py``.

    Args:
        checkpoint (str): Path or URL of a checkpoint that training wrote.
        out (str): Path of the file to write, without the hash.
        format (str): Format of the file, 'pth' or 'safetensors'. Defaults to
            'pth'.

    Returns:
        str: Path of the written file.

    Raises:
        MissingFileError: If ``checkpoint`` does not exist.
        InvalidValueError: If ``checkpoint`` cannot be read or has no weights,
            or if ``out`` cannot be written or ends with the suffix of the
            other format.
    """
    stem = _without_suffix(out, format)
    content = read_checkpoint(checkpoint, f'checkpoint {checkpoint!r}')
    state = detector_state(content) if 'state_dict' in content else {}
    if not state:
        raise InvalidValueError(
            f'checkpoint {checkpoint!r} must have the key `state_dict` with '
            f'weights, but has {sorted(map(str, content))}')
    meta = {
        key: value
        for key, value in (content.get('meta') or {}).items()
        if key not in _PRIVATE_META
    }
    _make_config_plain(meta, checkpoint)
    published = (
        _as_safetensors(state, meta)
        if format == 'safetensors' else _as_torch_file(state, meta))
    path = f'{stem}-{hashlib.sha256(published).hexdigest()[:8]}.{format}'
    with atomic_output_file(path) as temporary, open(temporary, 'wb') as file:
        file.write(published)
    return path


def _as_torch_file(state: Dict[str, Tensor], meta: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state), buffer)
    return buffer.getvalue()


def _as_safetensors(state: Dict[str, Tensor], meta: dict) -> bytes:
    safetensors = import_safetensors()
    # Values that JSON cannot hold are written as text.
    text = json.dumps(plain_json(meta), default=str)
    try:
        return safetensors.torch.save(
            # The format supports neither views nor shared memory.
            {
                key: value.clone().contiguous()
                for key, value in state.items()
            },
            metadata=dict(format='pt', meta=text))
    except Exception as error:
        # Types, sizes or names of tensors that the format does not support.
        raise InvalidValueError(
            'the weights cannot be written as .safetensors, try `--format '
            f'pth` ({type(error).__name__}: {error})') from None


def _without_suffix(out: str, format: str) -> str:
    for suffix in FORMATS:
        if out.endswith(f'.{suffix}'):
            if suffix != format:
                raise InvalidValueError(
                    f'the file to write must end with .{format}, or '
                    f'`--format` be {suffix}, but got {out!r}')
            return out[:-len(suffix) - 1]
    return out


def _make_config_plain(meta: dict, checkpoint: str) -> None:
    """Make ``meta['cfg']`` plain, in place; remove it if that fails."""
    text = meta.pop('cfg', None)
    if not isinstance(text, str):
        return
    try:
        plain = Config(plain_detector_config(parse_config_text(text)))
        published = plain.pretty_text
        # mmdet runs the text as a program, and mmengine writes the keys of
        # dicts without escaping them: the text must hold only values.
        parse_config_text(published)
    except Exception as error:
        # mmengine raises many exceptions for unusual names and deep nesting.
        print_log(
            f'{checkpoint!r}: its config is left out, so mmdet needs a '
            f'config file in addition to the weights ({error})',
            logger='current',
            level=logging.WARNING)
        return
    meta['cfg'] = published
