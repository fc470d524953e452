"""Which loss weight a method gets, from the grid's runs on val."""
from typing import Dict, Iterable, Optional

from .rows import Record, Row, by_row, by_seed, finished_runs, row_of


def grid_scores(runs: Iterable[Record], row: Row) -> Dict[float, float]:
    """Mean mAP on val for each weight of a method's grid.

    Args:
        runs (Iterable[dict]): All runs of the study.
        row (Row): The method.

    Returns:
        dict[float, float]: By loss weight in rising order; weights without
        a finished run are missing.
    """
    scores = {}
    for (other, weight), group in by_row(finished_runs(runs, 'grid')).items():
        values = by_seed(group, 'val', 'mAP').values()
        if other == row and weight is not None and values:
            scores[weight] = sum(values) / len(values)
    return scores


def grids_of(runs: Iterable[Record]) -> Dict[Row, Dict[float, float]]:
    """The scores of all methods that have a grid, in the order of a table."""
    rows = {row_of(run) for run in finished_runs(runs, 'grid')}
    grids = {
        row: grid_scores(runs, row)
        for row in sorted(rows, key=lambda row: row.sort_key)
    }
    return {row: scores for row, scores in grids.items() if scores}


def best_weight(scores: Dict[float, float]) -> Optional[float]:
    """The loss weight that a method gets in the comparison.

    Args:
        scores (dict[float, float]): Of :func:`grid_scores`.

    Returns:
        float or None: That of the highest score, of equal ones the smallest;
        None without any.
    """
    if not scores:
        return None
    return min(scores, key=lambda weight: (-scores[weight], weight))


def is_at_edge(scores: Dict[float, float], weight: float) -> bool:
    """Whether the grid ends at a weight, so that a better one may lie beyond.

    Args:
        scores (dict[float, float]): Of :func:`grid_scores`.
        weight (float): One of its keys.
    """
    return weight in (min(scores), max(scores))
