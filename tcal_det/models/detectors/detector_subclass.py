"""A detector that *is a* plain mmdet detector, with something mixed in.

A wrapper around the detector would prefix its parameter names, and
checkpoints, exporters and hooks would no longer see the plain detector.
"""
from functools import lru_cache
from typing import Any, Optional, Union

import torch.nn as nn
from mmdet.models import BaseDetector

from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS


def detector_subclass(mixin: type, argument: str,
                      detector_type: Optional[Union[str, type]]) -> type:
    """The subclass of a detector's class that has a mixin before it.

    Args:
        mixin (type): Comes first in the method resolution order.
        argument (str): The config key that named the detector, for the
            message.
        detector_type (str | type, optional): A registered detector.

    Returns:
        type: One class per mixin and detector. Its instances can be pickled.

    Raises:
        InvalidValueError: If ``detector_type`` is no registered detector.
    """
    detector_class = detector_type
    if isinstance(detector_type, str):
        detector_class = MODELS.get(detector_type)
    if (not isinstance(detector_class, type)
            or not issubclass(detector_class, BaseDetector)):
        raise InvalidValueError(
            f'`{argument}` must name a registered mmdet detector (what '
            "`model.type` was, e.g. 'FasterRCNN'), but got "
            f'{detector_type!r}')
    return _mixed(mixin, detector_class)


def detector_name(detector: nn.Module) -> str:
    """Name a detector's class as its user does: without what is mixed in."""
    cls = type(detector)
    return getattr(cls, '_plain_class', cls).__name__


@lru_cache(maxsize=None)
def _mixed(mixin: type, detector_class: type) -> type:
    cls = type(f'{mixin.__name__}_{detector_class.__name__}',
               (mixin, detector_class),
               dict(__module__=mixin.__module__, _plain_class=detector_class))

    def reduce_ex(self, protocol: int) -> tuple:
        reduced = super(cls, self).__reduce_ex__(protocol)
        if type(self) is not cls:
            return reduced
        # Pickle finds a class by its module and name, and no module has this
        # one: it is made again from its parts.
        return (_new_instance, (mixin, detector_class), *reduced[2:])

    cls.__reduce_ex__ = reduce_ex
    return cls


def _new_instance(mixin: type, detector_class: type) -> Any:
    """An instance without its state, which pickle sets."""
    cls = _mixed(mixin, detector_class)
    return cls.__new__(cls)
