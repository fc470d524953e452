"""Equal-width bins of [0, 1], and tables with the counts and means of bins.

Shapes:
    N: samples
    M: bins
    F: dimensions of a grid of bins (score, cx, cy, ...)
"""
from dataclasses import dataclass
from typing import Any, Dict, Literal, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from tcal_det.checks import check_choice, check_count
from tcal_det.errors import InvalidValueError
from .array_checks import as_unit_interval

CLOSED_SIDES = ('right', 'left')
# More bins give no information, and a table for each class would fill the
# memory.
MAX_BINS = 1000


def bin_edges(num_bins: int) -> np.ndarray:
    """Edges of ``num_bins`` bins of equal width.

    Some edges are slightly above their decimal value (with 10 bins .3, .6 and
    .7). So a score of 0.3 is below its edge and belongs to the lower bin,
    whichever side is closed.

    Args:
        num_bins (int): Number of bins, in [1, 1000].

    Returns:
        ndarray: ``linspace(0, 1, M + 1)`` in float64, shape (M + 1,).
    """
    return np.linspace(0, 1,
                       check_count('num_bins', num_bins, 1, MAX_BINS) + 1)


def bin_index(values: ArrayLike,
              num_bins: int,
              closed: str = 'right') -> np.ndarray:
    """Find the bin of each value.

    Args:
        values (Sequence[float]): Numbers in [0, 1], shape (N,).
        num_bins (int): Number of bins of equal width, in [1, 1000].
        closed (str): Closed side of the bins: 'right' for (lo, hi], where the
            first bin includes 0 (Guo et al.); 'left' for [lo, hi), where the
            last bin includes 1 (netcal). Defaults to 'right'.

    Returns:
        ndarray: Indices in [0, num_bins), int64, shape (N,).

    Raises:
        InvalidValueError: If a value is NaN or outside [0, 1].

    Example:
        >>> bin_index([0.0, 0.2, 0.5, 1.0], num_bins=2)
        array([0, 0, 0, 1])
        >>> bin_index([0.0, 0.2, 0.5, 1.0], num_bins=2, closed='left')
        array([0, 0, 1, 1])
    """
    check_choice('closed', closed, CLOSED_SIDES)
    values = as_unit_interval('values', values)
    return _bin_index(values, num_bins, closed)


def _bin_index(values: np.ndarray, num_bins: int, closed: str) -> np.ndarray:
    # Only the inner edges are searched, so 0 and 1 need no special case.
    inner_edges = bin_edges(num_bins)[1:-1]
    side: Literal['left', 'right'] = 'left' if closed == 'right' else 'right'
    return np.searchsorted(inner_edges, values, side=side)


class GapSummary(NamedTuple):
    """Summary of rows of bins; each field has the shape of the rows.

    The gap of a bin is mean confidence minus mean target. Bins with fewer than
    ``min_samples`` samples have no gap, but their samples stay in the
    denominator of ``error``, ``over`` and ``under`` (as in netcal): read
    ``coverage`` together with these.
    """
    error: np.ndarray  # sum over bins of N_b / N * |gap|
    over: np.ndarray  # over-confident part of `error`, gap > 0
    under: np.ndarray  # under-confident part of `error`, gap < 0
    largest: np.ndarray  # largest |gap| of a used bin
    average: np.ndarray  # mean |gap| over used bins, equal weights
    coverage: np.ndarray  # share of the samples that lie in used bins
    renormalized: np.ndarray  # error / coverage
    num_used: np.ndarray  # number of used bins


def summarize_gaps(count: np.ndarray,
                   mean_confidence: np.ndarray,
                   mean_target: np.ndarray,
                   min_samples: int = 1) -> GapSummary:
    """Reduce the last axis of bin tables to calibration errors.

    Args:
        count (ndarray): Number of samples per bin, shape (..., M).
        mean_confidence (ndarray): Mean confidence per bin, NaN in empty bins,
            shape (..., M).
        mean_target (ndarray): Mean target per bin (accuracy, precision, or
            precision times IoU), NaN in empty bins, shape (..., M).
        min_samples (int): Minimum number of samples of a used bin, >= 1.
            Defaults to 1.

    Returns:
        GapSummary: Fields of shape (...); NaN where there is no sample.
    """
    used = count >= check_count('min_samples', min_samples)
    gap = np.where(used, mean_confidence - mean_target, 0.0)
    num_samples = count.sum(axis=-1)
    num_used = used.sum(axis=-1)
    largest = np.abs(gap).max(axis=-1)
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: undefined
        over = (count * np.maximum(gap, 0)).sum(axis=-1) / num_samples
        under = (count * np.maximum(-gap, 0)).sum(axis=-1) / num_samples
        error = (count * np.abs(gap)).sum(axis=-1) / num_samples
        coverage = (count * used).sum(axis=-1) / num_samples
        average = np.abs(gap).sum(axis=-1) / num_used
        renormalized = error / coverage
    undefined = num_samples == 0
    return GapSummary(error, over, under, np.where(undefined, np.nan, largest),
                      average, coverage, renormalized, num_used)


@dataclass(frozen=True, eq=False)
class BinTable:
    """Counts and means of each bin: enough for a reliability diagram.

    Attributes:
        edges (ndarray): Bin edges, shape (M + 1,).
        count (ndarray): Number of samples per bin, int64, shape (M,).
        mean_confidence (ndarray): Mean confidence per bin, NaN in empty bins,
            shape (M,).
        mean_target (ndarray): Mean target per bin (accuracy, precision or
            precision times IoU), NaN in empty bins, shape (M,).
        closed (str): Closed side of the bins, 'right' or 'left'.
    """
    edges: np.ndarray
    count: np.ndarray
    mean_confidence: np.ndarray
    mean_target: np.ndarray
    closed: str = 'right'

    @property
    def num_samples(self) -> int:
        """Number of samples in all bins."""
        return int(self.count.sum())

    @property
    def gap(self) -> np.ndarray:
        """Mean confidence minus mean target, shape (M,)."""
        return self.mean_confidence - self.mean_target

    def summarize(self, min_samples: int = 1) -> GapSummary:
        """Compute the calibration errors of this table, as scalars."""
        return summarize_gaps(self.count, self.mean_confidence,
                              self.mean_target, min_samples)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain lists and numbers; NaN stays NaN."""
        return dict(
            closed=self.closed,
            edges=self.edges.tolist(),
            count=self.count.tolist(),
            mean_confidence=self.mean_confidence.tolist(),
            mean_target=self.mean_target.tolist())

    @classmethod
    def merge(cls, tables: Sequence['BinTable']) -> 'BinTable':
        """Merge several tables with equal edges into one.

        Raises:
            InvalidValueError: If there is no table, or edges or closed
                sides differ.
        """
        if len(tables) == 0:
            raise InvalidValueError('`tables` must hold at least one table')
        first = tables[0]
        for table in tables[1:]:
            if (table.closed != first.closed
                    or not np.array_equal(table.edges, first.edges)):
                raise InvalidValueError(
                    '`tables` must have the same edges and closed side, but '
                    f'got {len(first.count)} bins closed on the '
                    f'{first.closed} and {len(table.count)} bins closed on '
                    f'the {table.closed}')
        sums = [(table.count,
                 np.where(table.count, table.count * table.mean_confidence,
                          0.0),
                 np.where(table.count, table.count * table.mean_target, 0.0))
                for table in tables]
        count: Any  # sum() of arrays is an array, not an int
        confidence_sum: Any
        target_sum: Any
        count, confidence_sum, target_sum = (sum(part) for part in zip(*sums))
        return cls(first.edges, count, _mean(confidence_sum, count),
                   _mean(target_sum, count), first.closed)


@dataclass(frozen=True, eq=False)
class BinGrid:
    """A grid of bins over several features, the score first.

    Attributes:
        features (tuple[str, ...]): Name of each of the F dimensions.
        edges (tuple[ndarray, ...]): Bin edges of each dimension.
        count (ndarray): Number of samples per cell, int64, shape
            (M_1, ..., M_F).
        mean_confidence (ndarray): Mean confidence per cell, NaN in empty
            cells, same shape.
        mean_target (ndarray): Mean target per cell, NaN in empty cells, same
            shape.
        closed (str): Closed side of the bins, 'right' or 'left'.
    """
    features: Tuple[str, ...]
    edges: Tuple[np.ndarray, ...]
    count: np.ndarray
    mean_confidence: np.ndarray
    mean_target: np.ndarray
    closed: str = 'right'

    @property
    def num_samples(self) -> int:
        """Number of samples in all cells."""
        return int(self.count.sum())

    @property
    def gap(self) -> np.ndarray:
        """Mean confidence minus mean target, shape (M_1, ..., M_F)."""
        return self.mean_confidence - self.mean_target

    def summarize(self, min_samples: int = 1) -> GapSummary:
        """Compute the calibration errors of the whole grid, as scalars."""
        return summarize_gaps(self.count.ravel(), self.mean_confidence.ravel(),
                              self.mean_target.ravel(), min_samples)

    def summarize_over_score(self, min_samples: int = 1) -> GapSummary:
        """Compute the errors within each cell of the other features.

        With features (score, cx, cy) the fields have the shape of the image
        plane, (M_cx, M_cy), as for a heat map of D-ECE.
        """
        count, mean_confidence, mean_target = (
            np.moveaxis(part, 0, -1)
            for part in (self.count, self.mean_confidence, self.mean_target))
        return summarize_gaps(count, mean_confidence, mean_target, min_samples)

    def to_dict(self) -> Dict[str, Any]:
        """Convert to plain lists and numbers; NaN stays NaN."""
        return dict(
            closed=self.closed,
            features=list(self.features),
            edges=[edges.tolist() for edges in self.edges],
            count=self.count.tolist(),
            mean_confidence=self.mean_confidence.tolist(),
            mean_target=self.mean_target.tolist())


def make_bin_table(confidence: np.ndarray, target: np.ndarray, num_bins: int,
                   closed: str) -> BinTable:
    """Sort checked samples into bins of equal width.

    Args:
        confidence (ndarray): Confidences in [0, 1], float64, shape (N,).
        target (ndarray): Targets in [0, 1], float64, shape (N,).
        num_bins (int): Number of bins.
        closed (str): Closed side of the bins, see :func:`bin_index`.
    """
    check_choice('closed', closed, CLOSED_SIDES)
    index = _bin_index(confidence, num_bins, closed)
    sums = cell_sums(index, num_bins, confidence, target)
    return BinTable(bin_edges(num_bins), *sums.means(), closed=closed)


class CellSums(NamedTuple):
    """Counts and sums of samples by cell, all with the same shape."""
    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count
    confidence_sum: np.ndarray
    target_sum: np.ndarray

    def means(self) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count, mean confidence and mean target, NaN in empty cells."""
        return (self.count, _mean(self.confidence_sum, self.count),
                _mean(self.target_sum, self.count))


def cell_sums(index: np.ndarray, num_cells: int, confidence: np.ndarray,
              target: np.ndarray) -> CellSums:
    """Count and sum samples by cell index; fields of shape (num_cells,)."""
    return CellSums(
        np.bincount(index, minlength=num_cells),
        np.bincount(index, weights=confidence, minlength=num_cells),
        np.bincount(index, weights=target, minlength=num_cells))


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore'):  # 0 / 0 is NaN: an empty bin
        return total / count
