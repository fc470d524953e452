"""Config files that a command or another config names."""
from typing import Callable

from mmengine.config import Config

from tcal_det.errors import InvalidValueError, MissingFileError


def load_config(path: str,
                name: str = 'config',
                read: Callable[[str], Config] = Config.fromfile) -> Config:
    """Read a config file.

    Args:
        path (str): Of the config.
        name (str): What a message calls it. Defaults to 'config'.
        read (Callable): Reads it. Defaults to ``Config.fromfile``.

    Returns:
        Config: Its content.

    Raises:
        MissingFileError: If the file, or one it inherits from, is missing.
        InvalidValueError: If it is no valid config.
    """
    try:
        return read(path)
    except FileNotFoundError as error:
        raise MissingFileError(
            f'{name} {path!r} does not exist ({error})') from None
    except Exception as error:
        # A config is a program, and can raise whatever it likes.
        raise InvalidValueError(
            f'{name} {path!r} cannot be read ({type(error).__name__}: '
            f'{error})') from None
