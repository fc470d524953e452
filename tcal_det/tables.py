"""Tables that read well in a terminal, a log and a Markdown file."""
from typing import Sequence


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table whose columns are aligned.

    Args:
        rows (Sequence[Sequence[str]]): Cells, the first row being the
            header; all rows of one length.

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
