"""Config files that a command was given."""
from mmengine.config import Config

from tcal_det.errors import InvalidValueError, MissingFileError


def load_config(path: str) -> Config:
    """Read a config file.

    Args:
        path (str): Of the config.

    Raises:
        MissingFileError: If the file, or one it inherits from, is missing.
        InvalidValueError: If it is no valid config.
    """
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        raise MissingFileError(f'config {path!r}: {error}') from None
    except (SyntaxError, OSError, TypeError, KeyError) as error:
        raise InvalidValueError(
            f'config {path!r} cannot be read: {error}') from None
