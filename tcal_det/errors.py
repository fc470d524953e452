"""Exceptions for mistakes that the user can correct, and the warnings.

A message names the argument, the allowed values, the value given, and the
remedy. Commands print a :class:`UserError` on one line and exit with status 2;
any other exception is a defect of the program and keeps its traceback.
Warnings are about the data or the result, never about the program.
"""


class UserError(Exception):
    """Mistake in a config, a file or an argument."""


class InvalidValueError(UserError, ValueError):
    """Value that is not allowed, although its type is."""


class InvalidTypeError(UserError, TypeError):
    """Value of a type that the argument does not accept."""


class MissingFileError(UserError, FileNotFoundError):
    """Named file or folder that does not exist."""


class TcalDetWarning(UserWarning):
    """Doubtful data or an undefined figure; filters can select this class."""


class ImplausibleDataWarning(TcalDetWarning):
    """Data that are probably wrong, such as boxes outside their images."""
