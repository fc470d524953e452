"""What every calibrator shares: parameters from a config or a file."""
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
    """Maps a teacher's logits to calibrated logits.

    A calibrator is made from its parameters, or from a file with
    ``load_from``, or fitted: ``TemperatureScaling().fit(logits, labels)``.
    ``to_json_dict`` gives what ``MODELS.build`` makes the same calibrator of.

    Args:
        parameters (dict): The arguments of the subclass by name; None where
            one was not given.
        load_from (str, optional): A ``teacher_calibration.json``, or a file
            with only its ``calibrator``; read at once. Only the arguments in
            ``beside_file`` may be given with it. Defaults to None.

    Attributes:
        activation (str): 'softmax' or 'sigmoid', what the teacher's head
            applies to the logits.
        cls_channels (int, optional): Columns that logits must have:
            background included for softmax. None: any number. Called
            ``num_classes`` in files of earlier versions, which are read.

    Raises:
        InvalidTypeError, InvalidValueError, MissingFileError: If a parameter
            is wrong, or the file cannot be read.
    """

    # Keys that a file must have; without a value the calibrator is not fitted.
    fitted_parameters: Tuple[str, ...] = ()
    # Arguments that may be given with `load_from`, and then win.
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
        """Check and keep the parameters; None means the default."""

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """Calibrate logits.

        Args:
            logits (Tensor): Unnormalised scores, shape (N, C).

        Returns:
            Tensor: Same shape, at least float32.
        """

    @abstractmethod
    def fit(self, logits: Tensor, labels: Tensor) -> 'Calibrator':
        """Find the parameters on held-out samples.

        Args:
            logits (Tensor): The teacher's, uncalibrated, shape (N, C).
            labels (Tensor): Shape (N,): softmax in [0, C), background is
                C - 1; sigmoid in [0, C], background is C. For sigmoid also
                soft targets: floats in [0, 1], shape (N, C).

        Returns:
            Calibrator: Itself.
        """

    @abstractmethod
    def to_json_dict(self) -> Dict[str, Any]:
        """``{"type": ..., ...}``, which a config takes as it is."""

    def check_cls_channels(self, cls_channels: int) -> None:
        """Refuse to serve another number of columns, or without a fit.

        Args:
            cls_channels (int): Columns of the head's logits: background
                included for softmax.

        Raises:
            InvalidValueError: If the calibrator was fitted for another
                number, or never.
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
        given = {
            name: value
            for name, value in parameters.items() if value is not None
        }
        clashing = sorted(set(given) - set(self.beside_file))
        if clashing:
            raise InvalidValueError(
                f'`load_from` must not be given together with {clashing}, '
                f'which the file {load_from!r} holds: remove one of them')
        stored = read_calibrator_dict(load_from)
        kind = stored.pop('type').rpartition('.')[2]
        if kind != type(self).__name__:
            known = [one.__name__ for one in Calibrator.__subclasses__()]
            remedy = f'write type={kind!r}' if kind in known else REFIT
            raise InvalidValueError(
                f'`load_from` {load_from!r} holds a {kind[:80]}, but '
                f'the config asks for {type(self).__name__}: {remedy}')
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
    """Return ``value`` as a float that logits can be scaled by.

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is not positive, or float32 has no such
            number: it would be 0 or infinite where logits are calibrated.
    """
    number = check_positive(name, value)
    limits = np.finfo(np.float32)
    if not limits.tiny <= number <= limits.max:
        raise InvalidValueError(
            f'`{name}` must be in [{limits.tiny:.2g}, {limits.max:.2g}], the '
            f'numbers of float32, but got {number!r}')
    return number


def check_bias(name: str, value: float) -> float:
    """Return ``value`` as a float that can be added to logits.

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is infinite, in float32 or at all, or NaN.
    """
    number = check_finite(name, value)
    largest = np.finfo(np.float32).max
    if abs(number) > largest:
        raise InvalidValueError(
            f'`{name}` must be in [{-largest:.2g}, {largest:.2g}], the '
            f'numbers of float32, but got {number!r}')
    return number


def check_inner_fraction(name: str, value: float) -> float:
    """Return ``value`` as a float if it lies in (0, 1).

    Args:
        name (str): The argument's name, for the message.
        value (float): What the user gave.

    Raises:
        InvalidTypeError: If it is not a number.
        InvalidValueError: If it is outside, 0, 1 or NaN.
    """
    number = check_fraction(name, value)
    if not 0 < number < 1:
        raise InvalidValueError(
            f'`{name}` must be in (0, 1), but got {number!r}')
    return number


def read_calibrator_dict(path: str) -> Dict[str, Any]:
    """Read a calibrator's JSON form.

    Args:
        path (str): A file that holds it, bare or under the key
            ``calibrator`` as in ``teacher_calibration.json``.

    Returns:
        dict: With the key ``type``, and ``cls_channels`` for the
        ``num_classes`` of earlier versions.

    Raises:
        InvalidTypeError: If the path is not a string.
        MissingFileError: If there is no such file.
        InvalidValueError: If it cannot be read as such.
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
            '...}, bare or under the key "calibrator", but does not: '
            f'{REFIT}')
    content = dict(content)
    if FORMER_CLS_CHANNELS in content and 'cls_channels' not in content:
        content['cls_channels'] = content.pop(FORMER_CLS_CHANNELS)
    return content
