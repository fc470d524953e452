"""Numbers as cells, cells as tables, and tables into a document."""
import math
import re
from typing import Dict, List, Sequence

from tcal_det.errors import InvalidValueError
from .statistics import Estimate

NOT_MEASURED = '*Not measured yet.*'
NOTHING = '-'


def number(value: float, decimals: int = 2, sign: str = '') -> str:
    """A number, or a dash where it is undefined."""
    if math.isnan(value):
        return NOTHING
    # Adding 0 makes what is rounded to -0.0 a plain zero.
    return f'{round(value, decimals) + 0.0:{sign}.{decimals}f}'


def change(estimated: Estimate, decimals: int = 2) -> str:
    """A difference with its 95 % interval, or with what forbids one."""
    if not estimated.count:
        return NOTHING
    cell = number(estimated.mean, decimals, '+')
    if math.isnan(estimated.low):
        return f'{cell} (n = {estimated.count})'
    low, high = (
        number(end, decimals, '+') for end in (estimated.low, estimated.high))
    return f'{cell} [{low}, {high}]'


def p_value(value: float) -> str:
    """A p value with three decimals."""
    return '< 0.001' if value < 0.0005 else number(value, 3)


def percent(value: float) -> str:
    """A fraction as a whole percentage."""
    cell = number(100 * value, 0)
    return cell if cell == NOTHING else f'{cell} %'


def table(heading: Sequence[str],
          rows: Sequence[Sequence[str]],
          num_text_columns: int = 1) -> str:
    """A Markdown table that can be read as text, too.

    Args:
        heading (Sequence[str]): One name per column.
        rows (Sequence[Sequence[str]]): Cells.
        num_text_columns (int): Number of columns, from the first, that are
            aligned to the left; the others are numbers. Defaults to 1.
    """
    cells = [[cell.replace('|', r'\|') for cell in row]
             for row in (heading, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]

    def line(row: Sequence[str]) -> str:
        padded = (cell.ljust(width)
                  if index < num_text_columns else cell.rjust(width)
                  for index, (cell, width) in enumerate(zip(row, widths)))
        return f'| {" | ".join(padded)} |'

    rule = '|'.join('-' * (width + 2) if index < num_text_columns else '-' *
                    (width + 1) + ':' for index, width in enumerate(widths))
    return '\n'.join([line(cells[0]), f'|{rule}|', *map(line, cells[1:])])


_MARK = re.compile(r'<!--\s*(/?)study:(.*?)\s*-->')


def fill_blocks(text: str, blocks: Dict[str, str], path: str) -> str:
    """Put Markdown between its marks, and change nothing else.

    A block is ``<!-- study:NAME -->`` ... ``<!-- /study:NAME -->``.

    Args:
        text (str): Text of the document.
        blocks (dict[str, str]): What belongs into each block, by name.
        path (str): Path of the document, for messages.

    Returns:
        str: The document with its blocks filled.

    Raises:
        InvalidValueError: If a name is unknown, or a mark has no partner.
    """
    parts: List[str] = []
    end, opened, opened_line = 0, None, 0
    for mark in _MARK.finditer(text):
        is_closing, name = bool(mark[1]), mark[2]
        line = text.count('\n', 0, mark.start()) + 1
        if name not in blocks:
            raise InvalidValueError(
                f'{path}, line {line}: a block must be one of '
                f'{", ".join(blocks)}, but got {name!r}; rename or remove it')
        if opened is not None and not (is_closing and name == opened):
            raise _unclosed(path, opened_line, opened)
        if opened is None and is_closing:
            raise InvalidValueError(
                f'{path}, line {line}: `{mark[0]}` must follow '
                f'`<!-- study:{name} -->`, but no block is open; add that '
                'mark or remove this one')
        if is_closing:
            parts.append(f'\n\n{blocks[name]}\n\n')
        else:
            parts.append(text[end:mark.end()])
        end = mark.start() if is_closing else mark.end()
        opened, opened_line = (None if is_closing else name), line
    if opened is not None:
        raise _unclosed(path, opened_line, opened)
    return ''.join([*parts, text[end:]])


def _unclosed(path: str, line: int, name: str) -> InvalidValueError:
    return InvalidValueError(
        f'{path}, line {line}: block `study:{name}` must be closed before the '
        f'next one, but is not; add `<!-- /study:{name} -->`')
