"""A detector's config and checkpoint: found, read, and of one another."""
import copy
import logging
from collections import OrderedDict
from functools import partial
from typing import Dict, List, Tuple, TypeVar, Union

import torch.nn as nn
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import print_log
from torch import Tensor

from tcal_det.checkpoint_file import read_checkpoint
from tcal_det.config_file import load_config
from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS

ZOO_PREFIX = 'mmdet::'
# Of the distiller's attribute in its state dict.
LOSS_PREFIX = 'distill_losses.'
# Remedies by the role of the detector.
_FIND = dict(
    teacher='set `teacher.checkpoint` to a path, a URL, or '
    "'auto' with an 'mmdet::' config",
    detector='give a path or a URL')
_FIT = dict(
    teacher='give the checkpoint that `teacher.config` was trained to',
    detector='give the checkpoint that the config was trained to, or '
    '--allow-partial')

KeysOrState = TypeVar('KeysOrState', List[str], Dict[str, Tensor])


def find_detector(config: Union[str, Config, dict],
                  checkpoint: str) -> Tuple[Union[Config, dict], str]:
    """Read a teacher's config, and find where its weights are.

    Args:
        config (str | Config | dict): 'mmdet::...' name, path, or a config
            with the key ``model``.
        checkpoint (str): 'auto' for the zoo weights of an 'mmdet::' config,
            a path, or a URL.

    Returns:
        tuple: The config, and a path or URL.

    Raises:
        MissingFileError: If the config does not exist.
        InvalidValueError: If it cannot be read, has no ``model``, or there
            are no weights in the zoo.
    """
    name = describe_config(config)
    if isinstance(config, str):
        if config.startswith(ZOO_PREFIX):
            read = partial(get_config, pretrained=checkpoint == 'auto')
        else:
            read = Config.fromfile
        config = load_config(config, '`teacher.config`', read)
    if 'model' not in config:
        raise InvalidValueError(
            f'`teacher.config` must have the key `model`, but {name} has '
            f'only {sorted(config.keys())}')
    if checkpoint == 'auto':
        checkpoint = config.get('model_path')
        if checkpoint is None:
            raise InvalidValueError(
                "`teacher.checkpoint='auto'` needs an 'mmdet::' config that "
                f'has weights in the zoo, but got {name}: give a path or a '
                'URL')
    return config, checkpoint


def describe_config(config: Union[str, Config, dict]) -> str:
    """Name a teacher config in a message."""
    if isinstance(config, str):
        return repr(config)
    return getattr(config, 'filename', None) or 'the given dict'


def build_detector(cfg: Union[Config, dict]) -> nn.Module:
    """Build the detector of a config as mmengine's Runner does.

    Args:
        cfg (Config | dict): With the key ``model``, and ``data_preprocessor``
            there or beside it.

    Returns:
        nn.Module: With random weights.
    """
    # mmdet's detectors with queries write into the config that they are
    # built of; a copy of the student builds another teacher from it.
    model = copy.deepcopy(dict(cfg['model']))
    model['_scope_'] = cfg.get('default_scope', 'mmdet')
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg['data_preprocessor'])
    return MODELS.build(model)


def without_loss_parameters(keys: KeysOrState) -> KeysOrState:
    """Leave out the learnable parts of losses, e.g. AEKT's head.

    Args:
        keys (list[str] | dict[str, Tensor]): Of a state dict, or itself.

    Returns:
        list[str] | dict[str, Tensor]: What belongs to the detector.
    """
    kept = [key for key in keys if not key.startswith(LOSS_PREFIX)]
    return {key: keys[key] for key in kept} if isinstance(keys, dict) else kept


def load_whole_checkpoint(detector: nn.Module,
                          checkpoint: str,
                          role: str = 'teacher',
                          allow_partial: bool = False) -> dict:
    """Load weights of which none may be missing, left over or misshapen.

    Learnable parts of distillation losses are no part of a detector: a
    distilled student is a teacher like any other.

    Args:
        detector (nn.Module): Detector to load into.
        checkpoint (str): A path or a URL.
        role (str): 'teacher' or 'detector', for the message. Defaults to
            'teacher'.
        allow_partial (bool): Whether to load what fits and log the rest.
            Defaults to False.

    Returns:
        dict: All that the checkpoint holds.

    Raises:
        MissingFileError: If the file does not exist.
        InvalidValueError: If it cannot be read, or is not this detector's.
    """
    where = f'{role} checkpoint {checkpoint!r}'
    content = read_checkpoint(checkpoint, where, _FIND[role])
    load_whole_state(detector, content, where, role, allow_partial)
    return content


def load_whole_state(detector: nn.Module, content: dict, where: str, role: str,
                     allow_partial: bool) -> None:
    """:func:`load_whole_checkpoint`, of what has been read.

    Args:
        detector (nn.Module): Detector to load into.
        content (dict): All that the checkpoint holds.
        where (str): What a message calls the checkpoint.
        role (str): 'teacher' or 'detector', for the remedy.
        allow_partial (bool): As there.

    Raises:
        InvalidValueError: If it is not this detector's.
    """
    state = detector_state(content)
    misshapen = [
        f'{key} {tuple(state.pop(key).shape)} instead of {tuple(value.shape)}'
        for key, value in detector.state_dict().items()
        if key in state and state[key].shape != value.shape
    ]
    if misshapen and not allow_partial:
        # Before the detector is changed.
        raise _misfit(where, role, f'{_first_three(misshapen)} misshapen')
    incompatible = detector.load_state_dict(state, strict=False)
    misfits = [
        f'{_first_three(keys)} {problem}'
        for problem, keys in ((
            'missing', without_loss_parameters(incompatible.missing_keys)),
                              ('unexpected', incompatible.unexpected_keys))
        if keys
    ]
    if misfits:
        error = _misfit(where, role, ' and '.join(misfits))
        if not allow_partial:
            raise error
        print_log(str(error), logger='current', level=logging.WARNING)


def detector_state(content: dict) -> Dict[str, Tensor]:
    """The weights, by the names that they have outside of any wrapper.

    Args:
        content (dict): All that a checkpoint holds.

    Returns:
        dict[str, Tensor]: Without learnable parts of losses.
    """
    state = content.get('state_dict') or content
    # Files saved from inside a DDP wrapper.
    stripped = OrderedDict(
        (key[len('module.'):] if key.startswith('module.') else key, value)
        for key, value in state.items() if isinstance(value, Tensor))
    return without_loss_parameters(stripped)


def _misfit(where: str, role: str, problem: str) -> InvalidValueError:
    return InvalidValueError(
        f'{where} does not fit its config: {problem}; {_FIT[role]}')


def _first_three(names: List[str]) -> str:
    return (f'{len(names)} keys (' + ', '.join(names[:3]) +
            (', ...)' if len(names) > 3 else ')'))
