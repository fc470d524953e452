"""Base class of the calibrators: parameters from a config or a file."""
import json
from abc import ABCMeta, abstractmethod
from typing import Any, Dict, Optional, Tuple

import numpy as np
import torch.nn as nn
from torch import Tensor

from tcal_det.checks import (check_finite, check_fraction, check_positive,
                             shortened)
from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError, UserError)

REFIT = 'fit it with tools/calibrate_teacher.py'
# The key of `cls_channels` in files of earlier versions.
FORMER_CLS_CHANNELS = 'num_classes'


class Calibrator(nn.Module, metaclass=ABCMeta):
    """Base class of the maps from a teacher's logits to calibrated logits.

    There are three ways to create a calibrator: from its parameters, from a
    file with ``load_from``, or by a fit:
    ``TemperatureScaling().fit(logits, labels)``. ``to_json_dict`` returns a
    config from which ``MODELS.build`` builds the same calibrator.

    Args:
        parameters (dict[str, Any]): Arguments of the subclass by name; None
            for an argument that was not given.
        load_from (str): Path to a ``teacher_calibration.json``, or to a file
            with only its ``calibrator``. The constructor reads the file. Only
            the arguments in ``beside_file`` may be given with it. None: no
            file.

    Attributes:
        activation (str): Activation of the teacher's head, 'softmax' or
            'sigmoid'.
        cls_channels (int, optional): Number of columns that the logits must
            have, including background for softmax. None: any number. Files
            of earlier versions, which can still be read, call it
            ``num_classes``.

    Raises:
        InvalidTypeError: If a parameter has a wrong type.
        InvalidValueError: If a parameter has a wrong value, or the file
            cannot be read.
        MissingFileError: If the file does not exist.
    """

    # Keys that a file must have; without a value the calibrator is not fitted.
    fitted_parameters: Tuple[str, ...] = ()
    # Arguments that may be given with `load_from`; they override the file.
    beside_file: Tuple[str, ...] = ()

    activation: str
    cls_channels: Optional[int]

    def __init__(self, parameters: Dict[str, Any],
                 load_from: Optional[str]) -> None:
        super().__init__()
        if load_from is None:
            self._set_parameters(**parameters)
            return
        parameters = self._merge_with_file(parameters, load_from)
        try:
            self._set_parameters(**parameters)
        except UserError as error:
            raise InvalidValueError(
                f'{error} (in {load_from!r}): {REFIT}') from None

    @abstractmethod
    def _set_parameters(self, **parameters: Any) -> None:
        """Check and store the parameters; None means the default."""

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, C).

        Returns:
            Tensor: Calibrated logits, same shape, at least float32.
        """

    @abstractmethod
    def fit(self, logits: Tensor, labels: Tensor) -> 'Calibrator':
        """Fit the parameters to held-out samples.

        Args:
            logits (Tensor): Uncalibrated logits of the teacher, shape (N, C).
            labels (Tensor): Labels, shape (N,): in [0, C) for softmax, where
                C - 1 is background; in [0, C] for sigmoid, where C is
                background. Or, for sigmoid, soft targets: floats in [0, 1],
                shape (N, C).

        Returns:
            Calibrator: This calibrator.
        """

    @abstractmethod
    def to_json_dict(self) -> Dict[str, Any]:
        """Return the config dict ``{"type": ..., ...}`` of this calibrator."""

    def check_cls_channels(self, cls_channels: int) -> None:
        """Check that the calibrator is fitted to this number of columns.

        Args:
            cls_channels (int): Number of columns of the head's logits,
                including background for softmax.

        Raises:
            InvalidValueError: If the calibrator is not fitted, or is fitted
                to another number of columns.
        """
        if not self.is_fitted:
            names = ' and '.join(f'`{name}`'
                                 for name in self.fitted_parameters)
            raise InvalidValueError(
                f'{type(self).__name__} must have {names}, or `load_from`, '
                f'but has none: {self._remedy_without_fit()}')
        if self.cls_channels not in (None, cls_channels):
            background = (', background included'
                          if self.activation == 'softmax' else '')
            raise InvalidValueError(
                f'{type(self).__name__} was fitted for {self.cls_channels} '
                f"columns of logits{background}, but the teacher's head has "
                f'{cls_channels}: {REFIT} on this teacher')

    @property
    def is_fitted(self) -> bool:
        """Whether all parameters have a value."""
        return all(
            getattr(self, name) is not None for name in self.fitted_parameters)

    def _remedy_without_fit(self) -> str:
        return f'{REFIT} --calibrator {type(self).__name__}'

    def _merge_with_file(self, parameters: Dict[str, Any],
                         load_from: str) -> Dict[str, Any]:
        stored = read_calibrator_dict(load_from)
        given = {
            name: value
            for name, value in parameters.items() if value is not None
        }
        clashing = sorted(set(given) - set(self.beside_file))
        if clashing:
            raise InvalidValueError(
                f'`load_from` must not be given together with {clashing}, '
                f'which the file {load_from!r} holds: remove one of them')
        kind = stored.pop('type').rpartition('.')[2]
        if kind != type(self).__name__:
            names = [cls.__name__ for cls in Calibrator.__subclasses__()]
            remedy = f'write type={kind!r}' if kind in names else REFIT
            raise InvalidValueError(
                f'`load_from` {load_from!r} holds a {kind[:80]}, but '
                f'the config has the type {type(self).__name__}: {remedy}')
        unknown = sorted(set(stored) - set(parameters))
        missing = [
            name for name in self.fitted_parameters if stored.get(name) is None
        ]
        if unknown or missing:
            raise InvalidValueError(
                f'the calibrator in {load_from!r} must have the keys '
                f'{sorted(parameters)}, of which {self.fitted_parameters} are '
                f'required, but has {shortened(sorted(stored))}: {REFIT}')
        return dict(parameters, **dict(stored, **given))


def check_scale(name: str, value: float) -> float:
    """Return ``value`` as a float if logits can be scaled by it.

    Args:
        name (str): Name of the argument, for the message.
        value (float): Value from the user.

    Returns:
        float: The value.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is not positive, or is outside the
            range of float32, in which it would be 0 or infinite.
    """
    number = check_positive(name, value)
    limits = np.finfo(np.float32)
    if not limits.tiny <= number <= limits.max:
        raise InvalidValueError(
            f'`{name}` must be in [{limits.tiny:.2g}, {limits.max:.2g}], the '
            f'range of float32, but got {number!r}')
    return number


def check_bias(name: str, value: float) -> float:
    """Return ``value`` as a float if it can be added to logits.

    Args:
        name (str): Name of the argument, for the message.
        value (float): Value from the user.

    Returns:
        float: The value.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is NaN, infinite, or outside the range
            of float32.
    """
    number = check_finite(name, value)
    largest = np.finfo(np.float32).max
    if abs(number) > largest:
        raise InvalidValueError(
            f'`{name}` must be in [{-largest:.2g}, {largest:.2g}], the '
            f'range of float32, but got {number!r}')
    return number


def check_inner_fraction(name: str, value: float) -> float:
    """Return ``value`` as a float if it is in (0, 1).

    Args:
        name (str): Name of the argument, for the message.
        value (float): Value from the user.

    Returns:
        float: The value.

    Raises:
        InvalidTypeError: If the value is not a number.
        InvalidValueError: If the value is not in (0, 1), or is NaN.
    """
    number = check_fraction(name, value)
    if not 0 < number < 1:
        raise InvalidValueError(
            f'`{name}` must be in (0, 1), but got {number!r}')
    return number


def read_calibrator_dict(path: str) -> Dict[str, Any]:
    """Read the config dict of a calibrator from a JSON file.

    Args:
        path (str): Path to a file that holds the dict, either alone or under
            the key ``calibrator`` as in ``teacher_calibration.json``.

    Returns:
        dict[str, Any]: Config dict with the key ``type``. The key
        ``num_classes`` of earlier versions is renamed to ``cls_channels``.

    Raises:
        InvalidTypeError: If the path is not a string.
        MissingFileError: If the file does not exist.
        InvalidValueError: If the file cannot be read, or does not hold a
            calibrator.
    """
    if not isinstance(path, str):
        raise InvalidTypeError('`load_from` must be the path of a JSON file, '
                               f'but got {path!r}')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise MissingFileError(
            f'`load_from` {path!r} does not exist: {REFIT}') from None
    except (OSError, ValueError, RecursionError) as error:
        # A truncated file and one that is not text are both ValueErrors.
        raise InvalidValueError(f'`load_from` {path!r} cannot be read as '
                                f'JSON ({error}): {REFIT}') from None
    if isinstance(content, dict):
        content = content.get('calibrator', content)
    if not isinstance(content, dict) or not isinstance(
            content.get('type'), str):
        raise InvalidValueError(
            f'`load_from` {path!r} must hold a calibrator {{"type": ..., '
            '...}, alone or under the key "calibrator", but does not: '
            f'{REFIT}')
    content = dict(content)
    if FORMER_CLS_CHANNELS in content and 'cls_channels' not in content:
        content['cls_channels'] = content.pop(FORMER_CLS_CHANNELS)
    return content
