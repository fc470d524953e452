"""Read config files, and configs that are stored as text."""
import ast
from typing import Any, Callable, Dict, List, Optional

from mmengine.config import Config

from tcal_det.errors import InvalidValueError, MissingFileError


def load_config(path: str,
                name: str = 'config',
                read: Callable[[str], Config] = Config.fromfile) -> Config:
    """Read a config file.

    Args:
        path (str): Path to the config file.
        name (str): Name of the config in messages. Defaults to 'config'.
        read (Callable): Function that reads the file. Defaults to
            ``Config.fromfile``.

    Returns:
        Config: Content of the file.

    Raises:
        MissingFileError: If the file, or a file it inherits from, is missing.
        InvalidValueError: If the file is not a valid config.
    """
    try:
        return read(path)
    except FileNotFoundError as error:
        raise MissingFileError(
            f'{name} {path!r} does not exist ({error})') from None
    except Exception as error:
        # A config is a program, which can raise any exception.
        raise InvalidValueError(
            f'{name} {path!r} cannot be read ({type(error).__name__}: '
            f'{error})') from None


def merge_options(cfg: Config, options: Optional[Dict[str, Any]]) -> None:
    """Apply ``--cfg-options`` to a config.

    Args:
        cfg (Config): Config to change, in place.
        options (dict, optional): New values by key, e.g.
            'train_cfg.max_epochs'. None changes nothing.

    Raises:
        InvalidValueError: If a part of a key names a value without keys.
    """
    for key, value in (options or {}).items():
        _check_index(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise InvalidValueError(
                '`--cfg-options` must set dict keys or list indices that the '
                f'config has, but got {key}={value!r} ({error})') from None


def _check_index(cfg: Config, key: str) -> None:
    """Refuse the number of a list's item where the config has a dict."""
    node: Any = cfg
    parents: List[str] = []
    for part in key.split('.'):
        if isinstance(node, dict) and part.isdigit() and part not in node:
            dict_key = '.'.join(parents)
            raise InvalidValueError(
                f'`--cfg-options` {key} must have no number after {dict_key}, '
                'which is a dict in this config, not a list: leave out '
                f'`.{part}`')
        parents.append(part)
        node = node.get(part) if isinstance(node, (Config, dict)) else None


def parse_config_text(text: str) -> Dict[str, Any]:
    """Read the values of a config without running it.

    The text that mmengine writes into a checkpoint's ``meta.cfg`` or a work
    directory consists of assignments of plain values and ``dict(...)``.

    Args:
        text (str): Config as Python source text.

    Returns:
        dict[str, Any]: Values by name.

    Raises:
        InvalidValueError: If the text holds anything but such assignments.
    """
    try:
        values = {}
        for statement in ast.parse(text).body:
            target, = statement.targets
            values[target.id] = _plain_value(statement.value)
        return values
    except (AttributeError, TypeError, ValueError, SyntaxError, RecursionError,
            MemoryError) as error:
        raise InvalidValueError(
            'a config must assign plain values to names to be read without '
            f'running it, but does not ({error})') from None


def _plain_value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', None) != 'dict':
            raise ValueError(f'line {node.lineno} calls a function')
        # mmengine writes keys that are not names as dict({...}).
        value = dict(*map(_plain_value, node.args))
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ValueError(f'line {node.lineno} unpacks a dict')
            value[keyword.arg] = _plain_value(keyword.value)
        return value
    if isinstance(node, ast.Dict):
        keys = map(_plain_value, node.keys)
        return dict(zip(keys, map(_plain_value, node.values)))
    if isinstance(node, ast.List):
        return [_plain_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_plain_value(item) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_plain_value(node.operand)
    # mmengine writes these floats as names.
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    return ast.literal_eval(node)
