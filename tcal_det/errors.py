"""Exceptions for mistakes that the user can correct.

A message names the argument, the allowed values, the value given, and the
remedy. Commands print a :class:`UserError` on one line and exit with status 2;
any other exception is a defect of the program and keeps its traceback.
"""


class UserError(Exception):
    """Mistake in a config, a file or an argument."""


class InvalidValueError(UserError, ValueError):
    """Value that is not allowed, although its type is."""


class InvalidTypeError(UserError, TypeError):
    """Value of a type that the argument does not accept."""


class MissingFileError(UserError, FileNotFoundError):
    """Named file or folder that does not exist."""
