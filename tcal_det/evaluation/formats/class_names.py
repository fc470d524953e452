"""Class names of labels, read from `classes.txt` or YOLO's `data.yaml`."""
import os.path as osp
from typing import Any, List, Optional

from tcal_det.checks import shortened
from tcal_det.errors import InvalidValueError, MissingFileError

NAME_FILES = ('classes.txt', 'data.yaml')
_YAML_SUFFIXES = ('.yaml', '.yml')


def find_class_names(folder: str) -> Optional[str]:
    """Look for a file of class names near a folder of labels.

    YOLO data sets have ``data.yaml`` two folders above ``labels/val``;
    annotation programs write ``classes.txt`` next to the labels.

    Args:
        folder (str): Path to the folder of label files.

    Returns:
        str, optional: Path to the nearest file, in the folder or in the two
        folders above it; None if there is none.
    """
    folder = osp.abspath(folder)
    for _ in range(3):
        for name in NAME_FILES:
            path = osp.join(folder, name)
            if osp.isfile(path):
                return path
        folder = osp.dirname(folder)
    return None


def read_class_names(path: str) -> List[str]:
    """Read the names of the labels 0, 1, ...

    Args:
        path (str): Path to a text file with one name in each line, or to a
            YAML file with ``names``, a list or a mapping from label to name.
            YAML needs PyYAML.

    Returns:
        list[str]: One name for each label.

    Raises:
        MissingFileError: If there is no such file.
        InvalidValueError: If the file contains no names or a name twice, or is
            a YAML file and PyYAML is not installed.
    """
    try:
        # Some editors begin a UTF-8 file with a byte order mark.
        with open(path, encoding='utf-8-sig') as file:
            text = file.read()
    except FileNotFoundError:
        raise MissingFileError(f'class names {path!r} do not exist') from None
    except (OSError, ValueError) as error:
        raise InvalidValueError(
            f'class names {path!r} cannot be read: {error}') from None
    if path.endswith(_YAML_SUFFIXES):
        names = _names_of_yaml(text, path)
    else:
        # A label is the index of its line, so empty lines must not be dropped.
        names = [line.strip() for line in text.rstrip().splitlines()]
    for label, name in enumerate(names):
        if not name:
            raise InvalidValueError(
                f'class names must not be empty, but label {label} has none '
                f'(in {path!r})')
        if name in names[:label]:
            raise InvalidValueError(
                f'class names must differ, but labels {names.index(name)} and '
                f'{label} are both {shortened(name)} (in {path!r})')
    if not names:
        raise InvalidValueError(
            f'class names {path!r} must have at least one name, but the file '
            'is empty')
    return names


def _names_of_yaml(text: str, path: str) -> List[str]:
    try:
        import yaml
    except ImportError:
        raise InvalidValueError(
            f'class names {path!r} need PyYAML: pip install PyYAML; or write '
            'one name in each line of a classes.txt') from None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidValueError(f'class names {path!r} cannot be read as YAML '
                                f'({shortened(str(error))})') from None
    names = content.get('names') if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[label] for label in range(len(names))]
    if not isinstance(names, list) or not all(map(_is_name, names)):
        raise InvalidValueError(
            f'class names {path!r} must have `names`, a list of texts or a '
            f'mapping from 0, 1, ... to texts, but got {shortened(names)}')
    return [str(name) for name in names]


def _is_name(value: Any) -> bool:
    # YAML reads names that consist of digits as numbers.
    return isinstance(value, (str, int)) and not isinstance(value, bool)
