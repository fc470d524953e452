"""Building of modules from the user's config, with errors that name the key.

Such modules are the calibrators and the losses.
"""
import inspect
from collections.abc import Mapping
from typing import Any

import torch.nn as nn

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS
from tcal_det.suggestions import did_you_mean


def build_configured_part(where: str, cfg: Any) -> nn.Module:
    """Build a calibrator or a loss.

    Args:
        where (str): Key in the config, e.g. 'teacher.calibrator'.
        cfg (dict): Config of the module: the key ``type`` and the arguments
            of that type.

    Returns:
        nn.Module: The calibrator or the loss.

    Raises:
        InvalidTypeError: If ``cfg`` is not a dict with the key ``type``.
        InvalidValueError: If the type does not take these arguments.
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise InvalidTypeError(
            f'`{where}` must be a dict with the key `type` and its '
            f"arguments, e.g. dict(type='...'), but got {cfg!r}")
    arguments = dict(cfg)
    kind = arguments.pop('type')
    cls = kind if inspect.isclass(kind) else MODELS.get(kind)
    # The registry reports an unknown name.
    if cls is not None:
        try:
            inspect.signature(cls).bind(**arguments)
        except TypeError as error:
            allowed = list(inspect.signature(cls).parameters)
            suggestions = ''.join(
                did_you_mean(name, allowed) for name in arguments
                if name not in allowed)
            raise InvalidValueError(
                f'`{where}` {cls.__name__} takes ({", ".join(allowed)}), but '
                f'got {arguments}: {error}{suggestions}') from None
    return MODELS.build(dict(cfg, _scope_='tcal_det'))
