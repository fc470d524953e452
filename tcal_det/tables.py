"""Tables for the terminal, the log and Markdown files."""
from typing import Sequence


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as a Markdown table with aligned columns.

    Args:
        rows (Sequence[Sequence[str]]): Cells of the table; the first row is
            the header, and all rows have the same length.

    Returns:
        str: Table with one line per row and a rule below the header.

    Example:
        >>> print(markdown_table([['class', 'D-ECE'], ['cat', '0.1']]))
        | class | D-ECE |
        |-------|-------|
        | cat   | 0.1   |
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        '| ' +
        ' | '.join(cell.ljust(width)
                   for cell, width in zip(row, widths)) + ' |' for row in rows
    ]
    rule = '|' + '|'.join('-' * (width + 2) for width in widths) + '|'
    return '\n'.join([lines[0], rule, *lines[1:]])
