"""Numbers as cells, cells as tables, and tables into a document."""
import math
import re
from typing import Dict, List, Optional, Sequence, Tuple

from tcal_det.errors import InvalidValueError
from .estimates import Mean

NOT_MEASURED = '*Not measured yet.*'
NOTHING = 'n/a'


def number(value: Optional[float], decimals: int, sign: str = '') -> str:
    """A number, or n/a where it is undefined."""
    if value is None or math.isnan(value):
        return NOTHING
    # Adding 0 makes what is rounded to -0.0 a plain zero.
    return f'{round(value, decimals) + 0.0:{sign}.{decimals}f}'


def percent(value: Optional[float], decimals: int = 1) -> str:
    """A fraction x 100."""
    return number(None if value is None else 100 * value, decimals)


def spread(estimate: Mean, decimals: int = 1) -> str:
    """Mean and standard deviation, x 100."""
    cell = percent(estimate.mean, decimals)
    if estimate.count > 1:
        cell += f' ± {percent(estimate.std, decimals)}'
    return cell


def change(estimate: Mean, decimals: int = 2) -> str:
    """A difference with its 95 % confidence interval, x 100."""
    cell = number(100 * estimate.mean, decimals, '+')
    if not math.isnan(estimate.low):
        cell += ' ' + interval(
            (100 * estimate.low, 100 * estimate.high), decimals, '+')
    return cell


def interval(ends: Tuple[float, float], decimals: int, sign: str = '') -> str:
    """Both ends of an interval."""
    if any(map(math.isnan, ends)):
        return NOTHING
    low, high = (number(end, decimals, sign) for end in ends)
    return f'[{low}, {high}]'


def p_value(value: float) -> str:
    """A p value with three decimals."""
    if value < 0.0005:
        return '< 0.001'
    return number(value, 3)


def table(heading: Sequence[str],
          rows: Sequence[Sequence[str]],
          num_text_columns: int = 1) -> str:
    """A Markdown table; the document's readers meet the source, too.

    Args:
        heading (Sequence[str]): One name per column.
        rows (Sequence[Sequence[str]]): Cells.
        num_text_columns (int): Aligned to the left; the others are numbers.
            Defaults to 1.
    """
    cells = [[str(cell).replace('|', r'\|') for cell in row]
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


def fill_blocks(text: str, tables: Dict[str, str], path: str) -> str:
    """Put tables between their marks, and change nothing else.

    A block is ``<!-- study:NAME -->`` ... ``<!-- /study:NAME -->``.

    Args:
        text (str): The document.
        tables (dict[str, str]): What belongs into each block, by name.
        path (str): Of the document, for messages.

    Returns:
        str: The document with its blocks filled.

    Raises:
        InvalidValueError: If a name is unknown, or a mark has no partner.
    """
    parts: List[str] = []
    end, opened = 0, None
    for mark in _MARK.finditer(text):
        is_closing, name = bool(mark[1]), mark[2]
        line = text.count('\n', 0, mark.start()) + 1
        if name not in tables:
            raise InvalidValueError(
                f'{path}, line {line}: a block must be one of '
                f'{", ".join(tables)}, but got `study:{name}`')
        if (opened is None) == is_closing or is_closing and name != opened:
            expected = 'no block is open' if opened is None else (
                f'`<!-- /study:{opened} -->` must come first')
            raise InvalidValueError(
                f'{path}, line {line}: {mark[0]}, but {expected}')
        if is_closing:
            parts.append(f'\n\n{tables[name]}\n\n')
        else:
            parts.append(text[end:mark.end()])
        end = mark.start() if is_closing else mark.end()
        opened = None if is_closing else name
    if opened is not None:
        raise InvalidValueError(f'{path}: block `study:{opened}` has no '
                                f'`<!-- /study:{opened} -->`')
    return ''.join([*parts, text[end:]])
