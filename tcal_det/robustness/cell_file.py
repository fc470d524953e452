"""File of the finished cells, with which a later run can continue."""
import os.path as osp
from typing import Any, Dict, List

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.json_reading import load_json
from tcal_det.fileio import write_json_atomically
from .cells import Cell
from .shifts import Shift


class CellFile:
    """Measured cells by their shift, written to disk one by one.

    Args:
        path (str): Path of the JSON file, which is read if it exists.
        settings (dict[str, Any]): Settings that the figures depend on besides
            the shift, as plain values. A file with other settings is refused.

    Raises:
        InvalidValueError: If the file has other settings or cannot be read.
    """

    def __init__(self, path: str, settings: Dict[str, Any]) -> None:
        self.path = path
        self._settings = settings
        self.cells: Dict[Shift, Cell] = {}
        if osp.exists(path):
            for cell in self._read():
                self.cells[cell.shift] = cell

    def add(self, cell: Cell) -> None:
        """Add a cell and write all cells to the file.

        Args:
            cell (Cell): New cell; replaces a cell with the same shift.
        """
        self.cells[cell.shift] = cell
        write_json_atomically(
            self.path,
            dict(
                settings=self._settings,
                cells=[finished.to_dict()
                       for finished in self.cells.values()]),
            indent=None)

    def _read(self) -> List[Cell]:
        try:
            content = load_json(self.path)
            settings = dict(content['settings'])
            cells = [Cell.from_dict(cell) for cell in content['cells']]
        except (OSError, AttributeError, KeyError, TypeError, ValueError,
                RecursionError) as error:
            raise InvalidValueError(
                f'{self.path!r} must hold the finished cells of an earlier '
                f'run, but cannot be read ({type(error).__name__}: {error}): '
                'remove it, or choose another `--out`') from None
        differing = [
            key for key in self._settings
            if settings.get(key) != self._settings[key]
        ]
        if differing:
            raise InvalidValueError(
                f'{self.path!r} holds cells that were measured with another '
                f'{", ".join(differing)}: remove it, or choose another `--out`'
            )
        return cells
