"""Find, read and cross-check a detector's config and checkpoint."""
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
# Prefix of the losses in the state dict of a distiller.
LOSS_PREFIX = 'distill_losses.'
# Remedies by the role of the detector.
_FIND = dict(
    teacher='set `teacher.checkpoint`, which is CHECKPOINT of distill.py, '
    "to a path, a URL, or 'auto' with an 'mmdet::' config",
    detector='give a path or a URL')
_FIT = dict(
    teacher='give a checkpoint that was trained with `teacher.config`',
    detector='give a checkpoint that was trained with the config, or '
    '--allow-partial')

KeysOrState = TypeVar('KeysOrState', List[str], Dict[str, Tensor])


def find_detector(config: Union[str, Config, dict],
                  checkpoint: str) -> Tuple[Union[Config, dict], str]:
    """Read a teacher's config, and find its weights.

    Args:
        config (str | Config | dict): Name 'mmdet::...' of a config, path to a
            config file, or a config with the key ``model``.
        checkpoint (str): Path or URL of the weights, or 'auto' for the zoo
            weights of an 'mmdet::' config.

    Returns:
        tuple[Config | dict, str]: The config, and the path or URL of the
        weights.

    Raises:
        MissingFileError: If the config does not exist.
        InvalidValueError: If the config cannot be read or has no ``model``,
            or there are no weights in the zoo.
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
    """Format the name of a teacher's config for a message."""
    if isinstance(config, str):
        return repr(config)
    return getattr(config, 'filename', None) or 'the given dict'


def build_detector(cfg: Union[Config, dict]) -> nn.Module:
    """Build the detector of a config as mmengine's Runner does.

    Args:
        cfg (Config | dict): Config with the key ``model``, and with
            ``data_preprocessor`` inside or beside it.

    Returns:
        nn.Module: Detector with random weights.
    """
    # mmdet's detectors with queries change the config that they are built
    # from, but a copy of the student builds another teacher from the same
    # config.
    model = copy.deepcopy(dict(cfg['model']))
    model['_scope_'] = cfg.get('default_scope', 'mmdet')
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg['data_preprocessor'])
    return MODELS.build(model)


def without_loss_parameters(keys: KeysOrState) -> KeysOrState:
    """Remove the parameters of distillation losses, e.g. AEKT's head.

    Args:
        keys (list[str] | dict[str, Tensor]): Keys of a state dict, or a state
            dict.

    Returns:
        list[str] | dict[str, Tensor]: Entries of the detector itself.
    """
    kept = [key for key in keys if not key.startswith(LOSS_PREFIX)]
    return {key: keys[key] for key in kept} if isinstance(keys, dict) else kept


def load_weights(detector: nn.Module,
                 checkpoint: str,
                 role: str = 'teacher',
                 allow_partial: bool = False) -> dict:
    """Load a checkpoint that must fit a detector exactly.

    No weight may be missing, unexpected or of another shape. Parameters of
    distillation losses are ignored, so that a distilled student can be a
    teacher.

    Args:
        detector (nn.Module): Detector that gets the weights.
        checkpoint (str): Path or URL of the checkpoint.
        role (str): 'teacher' or 'detector', for the message. Defaults to
            'teacher'.
        allow_partial (bool): Whether to load the weights that fit and to log
            the others. Defaults to False.

    Returns:
        dict: Content of the checkpoint.

    Raises:
        MissingFileError: If the file does not exist.
        InvalidValueError: If it cannot be read, or does not fit the detector.
    """
    where = f'{role} checkpoint {checkpoint!r}'
    content = read_checkpoint(checkpoint, where, _FIND[role])
    load_detector_state(detector, content, where, role, allow_partial)
    return content


def load_detector_state(detector: nn.Module, content: dict, where: str,
                        role: str, allow_partial: bool) -> None:
    """Load the content of a checkpoint that must fit a detector exactly.

    See :func:`load_weights`.

    Args:
        detector (nn.Module): Detector that gets the weights.
        content (dict): Content of the checkpoint.
        where (str): Name of the checkpoint, for the message.
        role (str): 'teacher' or 'detector', for the remedy in the message.
        allow_partial (bool): Whether to load the weights that fit and to log
            the others.

    Raises:
        InvalidValueError: If the checkpoint does not fit the detector.
    """
    state = detector_state(content)
    shape_mismatches = [
        f'{key} {tuple(state.pop(key).shape)} instead of {tuple(value.shape)}'
        for key, value in detector.state_dict().items()
        if key in state and state[key].shape != value.shape
    ]
    if shape_mismatches and not allow_partial:
        # Raised before the detector is changed.
        raise _mismatch_error(
            where, role, f'{_first_three(shape_mismatches)} of another shape')
    incompatible = detector.load_state_dict(state, strict=False)
    problems = [
        f'{_first_three(keys)} {problem}'
        for problem, keys in ((
            'missing', without_loss_parameters(incompatible.missing_keys)),
                              ('unexpected', incompatible.unexpected_keys))
        if keys
    ]
    if problems:
        error = _mismatch_error(where, role, ' and '.join(problems))
        if not allow_partial:
            raise error
        print_log(str(error), logger='current', level=logging.WARNING)


def detector_state(content: dict) -> Dict[str, Tensor]:
    """Read the weights of a detector, without prefixes of a wrapper.

    Args:
        content (dict): Content of a checkpoint.

    Returns:
        dict[str, Tensor]: State dict, without parameters of losses.
    """
    state = content.get('state_dict') or content
    # Checkpoints of a DDP wrapper have this prefix.
    stripped = OrderedDict(
        (key[len('module.'):] if key.startswith('module.') else key, value)
        for key, value in state.items() if isinstance(value, Tensor))
    return without_loss_parameters(stripped)


def _mismatch_error(where: str, role: str, problem: str) -> InvalidValueError:
    return InvalidValueError(
        f'{where} does not fit its config: {problem}; {_FIT[role]}')


def _first_three(names: List[str]) -> str:
    return (f'{len(names)} keys (' + ', '.join(names[:3]) +
            (', ...)' if len(names) > 3 else ')'))
