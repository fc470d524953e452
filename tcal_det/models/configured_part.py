"""Parts that the user's config names, with errors that name the key."""
import inspect
from collections.abc import Mapping
from typing import Any

import torch.nn as nn

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.registry import MODELS


def build_configured_part(where: str, cfg: Any) -> nn.Module:
    """Build a calibrator or a loss.

    Args:
        where (str): The config's key, e.g. 'teacher.calibrator'.
        cfg (dict): With the key ``type``, and that type's arguments.

    Raises:
        InvalidTypeError: If it is no such dict.
        InvalidValueError: If the type does not take these arguments.
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise InvalidTypeError(
            f'`{where}` must be a dict with the key `type` and its '
            f"arguments, e.g. dict(type='...'), but got {cfg!r}")
    arguments = dict(cfg)
    kind = arguments.pop('type')
    cls = kind if inspect.isclass(kind) else MODELS.get(kind)
    # An unknown name is the registry's to report.
    if cls is not None:
        try:
            inspect.signature(cls).bind(**arguments)
        except TypeError as error:
            allowed = ', '.join(inspect.signature(cls).parameters)
            raise InvalidValueError(
                f'`{where}` {cls.__name__} takes ({allowed}), but got '
                f'{arguments}: {error}') from None
    return MODELS.build(dict(cfg, _scope_='tcal_det'))
