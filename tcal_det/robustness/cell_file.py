"""Finished cells in a file, from which a killed or a wider run goes on."""
import os.path as osp
from typing import Any, Dict, List

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.json_reading import load_json
from tcal_det.fileio import write_json_atomically
from .cells import Cell
from .shifts import Shift


class CellFile:
    """Cells by their shift, on disk as soon as they are measured.

    Args:
        path (str): JSON file; read if it exists.
        settings (dict[str, Any]): What the figures depend on beside the
            shift, as plain values. Cells of other settings are refused.

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
        """Keep a cell, and write all of them.

        Args:
            cell (Cell): Takes the place of one with the same shift.
        """
        self.cells[cell.shift] = cell
        write_json_atomically(
            self.path,
            dict(
                settings=self._settings,
                cells=[one.to_dict() for one in self.cells.values()]),
            indent=None)

    def _read(self) -> List[Cell]:
        try:
            content = load_json(self.path)
            settings = dict(content['settings'])
            cells = [Cell.from_dict(one) for one in content['cells']]
        except (OSError, AttributeError, KeyError, TypeError, ValueError,
                RecursionError) as error:
            raise InvalidValueError(
                f'{self.path!r} must hold the finished cells of an earlier '
                f'run, but cannot be read ({type(error).__name__}: {error}): '
                'remove it, or choose another `--out`') from None
        others = [
            key for key in self._settings
            if settings.get(key) != self._settings[key]
        ]
        if others:
            raise InvalidValueError(
                f'{self.path!r} holds cells that were measured with another '
                f'{", ".join(others)}: remove it, or choose another `--out`')
        return cells
