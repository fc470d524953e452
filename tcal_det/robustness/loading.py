"""Load a detector and its config."""
from typing import Any, Dict, Optional, Tuple

import torch.nn as nn
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from tcal_det.config_file import load_config, merge_options
from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.detectors import check_test_options
from tcal_det.models.distillers.detector_files import (ZOO_PREFIX,
                                                       build_detector,
                                                       find_detector,
                                                       load_weights)


def load_detector_config(
        config: str,
        checkpoint: str,
        cfg_options: Optional[Dict[str, Any]] = None) -> Tuple[Config, str]:
    """Read the config of a detector, and find its checkpoint.

    Teacher and distillation losses of a distillation config are removed, so
    that it describes the student.

    Args:
        config (str): Path or 'mmdet::' name of a detector config.
        checkpoint (str): Path or URL of the checkpoint, or 'auto' for the zoo
            weights of an 'mmdet::' config.
        cfg_options (dict[str, Any], optional): Overrides of config values by
            dotted key. Defaults to None.

    Returns:
        tuple[Config, str]: Config, and path or URL of the checkpoint.

    Raises:
        MissingFileError: If the config does not exist.
        InvalidTypeError: If ``model`` is not a dict.
        InvalidValueError: If the config cannot be read or has no ``model``,
            an override is invalid, or the model would ignore a test option.
    """
    if config.startswith(ZOO_PREFIX):
        cfg, checkpoint = find_detector(config, checkpoint)
    else:
        cfg = load_config(config)
    merge_options(cfg, cfg_options)
    if 'model' not in cfg:
        raise InvalidValueError(
            f'config {config!r} must have the key `model`, but has only '
            f'{sorted(cfg.keys())}')
    if not isinstance(cfg['model'], dict):
        raise InvalidTypeError(
            f'`model` of config {config!r} must be a dict, but is '
            f'{type(cfg["model"]).__name__}')
    check_test_options(cfg.model)
    if 'distill_losses' in cfg['model']:
        cfg['model']['distill_losses'] = {}
        cfg['model'].pop('teacher', None)
    return cfg, checkpoint


def load_detector(cfg: Config,
                  checkpoint: str,
                  allow_partial: bool = False) -> nn.Module:
    """Build a detector and load its weights.

    Args:
        cfg (Config): Config from :func:`load_detector_config`.
        checkpoint (str): Path or URL of the checkpoint; code in it is not
            executed.
        allow_partial (bool): Whether to load the weights that fit and to log
            the others, instead of an error. Defaults to False.

    Returns:
        nn.Module: Detector in eval mode, on the GPU if there is one.

    Raises:
        MissingFileError: If the checkpoint does not exist.
        InvalidValueError: If the checkpoint cannot be read, or does not fit
            the config.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    detector = build_detector(cfg)
    load_weights(
        detector, checkpoint, role='detector', allow_partial=allow_partial)
    return detector.to(get_device()).eval()
