"""Subclasses of mmdet detectors with a mixin.

The result *is a* plain mmdet detector. A wrapper around the detector would
add a prefix to its parameter names; checkpoints, exporters and hooks of the
plain detector could then not be used.
"""
import inspect
from functools import lru_cache
from typing import Any, Iterable, Optional, Set, Union

import torch.nn as nn
from mmdet.models import BaseDetector

from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS
from tcal_det.suggestions import did_you_mean


def detector_subclass(mixin: type, argument: str,
                      detector_type: Optional[Union[str, type]]) -> type:
    """Create a subclass of a mixin and a detector's class.

    Args:
        mixin (type): Mixin, which comes first in the method resolution order.
        argument (str): Config key that named the detector, for the message.
        detector_type (str | type, optional): Name or class of a registered
            detector.

    Returns:
        type: The subclass, the same for each call with equal arguments. Its
        instances can be pickled.

    Raises:
        InvalidValueError: If ``detector_type`` is not a registered detector.
    """
    detector_class = detector_type
    if isinstance(detector_type, str):
        detector_class = MODELS.get(detector_type)
    if (not isinstance(detector_class, type)
            or not issubclass(detector_class, BaseDetector)):
        raise InvalidValueError(
            f'`{argument}` must name a registered mmdet detector (the former '
            "`model.type`, e.g. 'FasterRCNN'), but got "
            f'{detector_type!r}')
    return _mixed(mixin, detector_class)


def explain_unknown_key(error: TypeError, subclass: type, given: Iterable[str],
                        own: Iterable[str]) -> None:
    """Raise an error that names a misspelled key of ``model``, if it is one.

    Args:
        error (TypeError): Error of the constructor of the detector.
        subclass (type): Result of :func:`detector_subclass`.
        given (iterable[str]): Names of the arguments for the detector.
        own (iterable[str]): Names of further keys of ``model``, for a
            suggestion.

    Raises:
        InvalidValueError: If the error is about an argument that the
            detector's class does not have.
    """
    plain = getattr(subclass, '_plain_class', None)
    allowed = None if plain is None else _argument_names(plain)
    for name in given:
        if (allowed is not None and name not in allowed
                and repr(name) in str(error)):
            suggestion = did_you_mean(name, {*allowed, *own})
            raise InvalidValueError(
                f'`model` has the unknown key {name!r}{suggestion or ":"} '
                f'{plain.__name__} takes {", ".join(sorted(allowed))}'
            ) from None


def _argument_names(cls: type) -> Optional[Set[str]]:
    """Names of all arguments of a class; None if it takes any name."""
    names: Set[str] = set()
    for base in cls.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())
        names.update(parameter.name for parameter in parameters[1:]
                     if parameter.kind not in (parameter.VAR_POSITIONAL,
                                               parameter.VAR_KEYWORD))
        if not any(parameter.kind == parameter.VAR_KEYWORD
                   for parameter in parameters):
            return names
    return None


def detector_name(detector: nn.Module) -> str:
    """Return the class name of a detector, without its mixin."""
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
        # Pickle finds a class by its module and name, but no module contains
        # this class. It is therefore created again from its parts.
        return (_new_instance, (mixin, detector_class), *reduced[2:])

    cls.__reduce_ex__ = reduce_ex
    return cls


def _new_instance(mixin: type, detector_class: type) -> Any:
    """Create an instance without its state, which pickle sets afterwards."""
    cls = _mixed(mixin, detector_class)
    return cls.__new__(cls)
