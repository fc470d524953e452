"""Rows of the study's results files, and which of them are paired."""
import json
import os.path as osp
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.fileio import plain_json, write_text_atomically

# A run as the results file has it.
Row = Dict[str, Any]

# What every row of a detector has; `val` and `test` hold the figures.
KEYS = ('name', 'block', 'data', 'head', 'arm', 'teacher', 'epochs', 'seed',
        'fold', 'loss_weight', 'val', 'test', 'seconds', 'commit')
ACCURACY = ('mAP', 'AP50', 'AP75')
RAW_ERRORS = ('D-ECE', 'D-ECE over', 'D-ECE under', 'LaECE_0', 'LRP_0')
# With a temperature or score thresholds that were chosen on val.
CHOSEN_ERRORS = ('D-ECE, T', 'LaECE_0, T', 'LaECE_0, thr', 'LRP_0, thr')
FIGURES = ACCURACY + RAW_ERRORS + CHOSEN_ERRORS


class Key(NamedTuple):
    """What two runs share if their difference is that of their arms alone.

    Attributes:
        data (str): Name of the data.
        head (str): Family of the classification head.
        seed (int): Random seed of the training.
        fold (int, optional): Number of the fold.
    """
    data: str
    head: str
    seed: int
    fold: Optional[int]


def read_existing_rows(
    option: str, path: str, keys: Sequence[str] = ('name', )) -> List[Row]:
    """Read a results file that must be there.

    Args:
        option (str): Name of the option that names the file.
        path (str): Path of the file.
        keys (Sequence[str]): As in :func:`read_rows`. Defaults to
            ('name', ).

    Returns:
        list[dict]: Objects in the order of the file.

    Raises:
        MissingFileError: If the file does not exist.
        InvalidValueError: As in :func:`read_rows`.
    """
    if not osp.isfile(path):
        raise MissingFileError(
            f'`{option}` must be a results file, but {path} does not exist: '
            'give its path, or make runs first')
    return read_rows(path, keys)


def read_rows(path: str, keys: Sequence[str] = ('name', )) -> List[Row]:
    """Read a results file: one JSON object a line, each with its own name.

    Args:
        path (str): Path of the file.
        keys (Sequence[str]): Keys that every object must have, 'name' among
            them; ``KEYS`` are those of the detectors. Defaults to ('name', ),
            all that a runner looks at.

    Returns:
        list[dict]: Objects in the order of the file; none if it does not
        exist.

    Raises:
        InvalidValueError: If a line is broken, lacks a key or has the name of
            an earlier one.
    """
    if not osp.isfile(path):
        return []
    with open(path, encoding='utf-8') as file:
        lines = list(file)
    rows: List[Row] = []
    seen: Dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        row = _parse(line, f'{path}, line {number}', number == len(lines),
                     keys)
        name = row['name']
        if name in seen:
            raise InvalidValueError(
                f'{path}, line {number}: each `name` must be there once, but '
                f'{name!r} is already in line {seen[name]}; delete one of the '
                'two lines')
        seen[name] = number
        rows.append(row)
    return rows


def append_rows(path: str, rows: Sequence[Row]) -> None:
    """Append rows to a results file, all of them or none.

    Args:
        path (str): Path of the file.
        rows (sequence[dict]): Rows whose names are new; NaN becomes null.

    Raises:
        InvalidValueError: If the file has a row of the same name.
    """
    known = read_rows(path)
    taken = {row['name'] for row in known} & {row['name'] for row in rows}
    if taken:
        raise InvalidValueError(
            f'`rows` must have names that {path} does not have, but it has '
            f'{min(taken)!r}: let one call at a time write to it')
    write_text_atomically(
        path,
        ''.join(json.dumps(plain_json(row)) + '\n' for row in [*known, *rows]))


def _parse(line: str, where: str, is_last: bool, keys: Sequence[str]) -> Row:
    try:
        row = json.loads(line)
        # Whatever is appended would become a part of this line.
        if not line.endswith('\n'):
            raise ValueError('it does not end with a line break')
    except ValueError as error:
        remedy = ('it is the last line, which a run that was stopped may have '
                  'left half-written: delete it and start the runner again'
                  if is_last else
                  'restore the line from the history of the repository')
        raise InvalidValueError(
            f'{where}: must be one JSON object, but it is broken ({error}); '
            f'{remedy}') from None
    if not isinstance(row, dict):
        raise InvalidValueError(
            f'{where}: must be one JSON object, but got {line[:40]!r}; delete '
            'the line')
    missing = [key for key in keys if key not in row]
    if missing:
        raise InvalidValueError(
            f'{where}: must have the keys {", ".join(keys)}, but lacks '
            f'{", ".join(missing)}; delete the line and make the run again')
    return row


def key_of(row: Row) -> Key:
    """The key by which a row is paired with rows of other arms."""
    return Key(row['data'], row['head'], row['seed'], row['fold'])


def rows_of(rows: Iterable[Row], block: str, arm: str) -> List[Row]:
    """Rows of one arm of a block."""
    return [row for row in rows if (row['block'], row['arm']) == (block, arm)]


def values_of(rows: Iterable[Row],
              figure: str,
              split: str = 'test') -> Dict[Key, float]:
    """A figure of runs of one arm, in hundredths.

    Args:
        rows (Iterable[dict]): Rows that differ in nothing but their key.
        figure (str): Name of the figure, e.g. 'mAP'.
        split (str): 'val' or 'test'. Defaults to 'test'.

    Returns:
        dict[Key, float]: 100 times the figure, by key. Rows without the
        figure are left out.

    Raises:
        InvalidValueError: If two rows have the same key.
    """
    values: Dict[Key, float] = {}
    names: Dict[Key, str] = {}
    for row in rows:
        key = key_of(row)
        if key in names:
            raise InvalidValueError(
                'runs of one arm must differ in seed or fold, but '
                f'{names[key]!r} and {row["name"]!r} are both of {key}')
        names[key] = row['name']
        value = row[split].get(figure)
        # NaN is unequal to itself.
        if value is not None and value == value:
            values[key] = 100 * value
    return values
