"""Errors that the user can mend: argument, what is allowed, what was given.

Commands print the one line of a :class:`UserError` and exit with status 2;
any other exception is a defect of the program and keeps its traceback.
"""


class UserError(Exception):
    """A mistake in a config, a file or an argument."""


class InvalidValueError(UserError, ValueError):
    """The type is right, the value is not."""


class InvalidTypeError(UserError, TypeError):
    """The value has a type that the argument cannot take."""


class MissingFileError(UserError, FileNotFoundError):
    """A file that was named does not exist."""
