"""Configs, read once: mmengine takes tenths of a second for one."""
import copy
from functools import lru_cache

from mmengine.config import Config


@lru_cache(maxsize=None)
def _read(path, options):
    return Config.fromfile(path, **dict(options))


def read_config(path, **options):
    """A config that may be changed.

    Args:
        path (str): Of the config's file, which must not change.
        **options: Of ``Config.fromfile``.

    Returns:
        Config: A copy.
    """
    return copy.deepcopy(_read(path, tuple(sorted(options.items()))))
