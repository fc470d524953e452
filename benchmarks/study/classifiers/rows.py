"""The results file: JSON Lines, one row a teacher and one a student."""
import json
import os.path as osp
from typing import Any, Dict, List

from tcal_det.errors import InvalidValueError
from tcal_det.fileio import plain_json, write_text_atomically

RESULTS = 'benchmarks/study/classifier_results.jsonl'

Row = Dict[str, Any]


def read_rows(path: str) -> List[Row]:
    """Rows of a results file.

    Args:
        path (str): The file; none is as good as an empty one.

    Returns:
        list[dict]: In the order of the file.

    Raises:
        InvalidValueError: If a line is no row, or a name occurs twice.
    """
    if not osp.isfile(path):
        return []
    rows, lines = [], {}
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                name = row['name']
            except (ValueError, TypeError, KeyError):
                raise InvalidValueError(
                    f'{path!r}, line {number} must be a JSON object with a '
                    f'"name", but got {line[:60]!r}: restore the file from '
                    'git, or remove the line and all others of its unit'
                ) from None
            if name in lines:
                raise InvalidValueError(
                    f'{path!r}, line {number}: the name {name!r} must occur '
                    f'once, but line {lines[name]} has it, too: remove one')
            lines[name] = number
            rows.append(row)
    return rows


def add_rows(path: str, rows: List[Row]) -> None:
    """Append rows, all of them or none.

    Args:
        path (str): The results file.
        rows (list[dict]): Rows whose names are new.

    Raises:
        InvalidValueError: If a name is there already.
    """
    known = read_rows(path)
    taken = {row['name'] for row in known} & {row['name'] for row in rows}
    if taken:
        raise InvalidValueError(
            f'{path!r} must not have the rows that are to be added, but has '
            f'{min(taken)!r}: let one call at a time write to it')
    write_text_atomically(
        path,
        ''.join(json.dumps(plain_json(row)) + '\n' for row in known + rows))
