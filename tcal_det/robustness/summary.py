"""Means over corruptions and severities: mPC, rPC and their counterparts."""
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from tcal_det.evaluation.intervals import Interval
from .cells import ACCURACY, FIGURES, Cell, Figures, mean_of, ratio_of
from .options import CONFIDENCE


@dataclass(frozen=True, eq=False)
class RobustnessSummary:
    r"""Summary of the cells of a detector.

    With P the figure of corruption c at severity s,

    .. math::
        \mathrm{mPC} = \frac{1}{N_c} \sum_c \frac{1}{N_s} \sum_s P_{c, s},
        \quad \mathrm{rPC} = \mathrm{mPC} / P_\mathrm{clean} .

    Both are defined for an accuracy (mAP, AP50). The mean is also computed
    for D-ECE and LaECE_0. An error can be 0 on clean images, so its
    difference from the clean images replaces the ratio. The means do not
    include attacks.

    Attributes:
        cells (list[Cell]): All cells, the clean one first.
        mean (Figures, optional): mPC of each figure; None without
            corruptions.
        relative (Figures, optional): rPC of mAP and AP50; None without
            corruptions.
        by_severity (dict[int, Figures]): Means over the corruptions.
        by_corruption (dict[str, Figures]): Means over the severities.

    Reference:
        Michaelis et al., "Benchmarking Robustness in Object Detection",
        arXiv 1907.07484, Eq. 1 and 2.
    """
    cells: List[Cell]
    mean: Optional[Figures]
    relative: Optional[Figures]
    by_severity: Dict[int, Figures]
    by_corruption: Dict[str, Figures]

    @classmethod
    def from_cells(cls, cells: Sequence[Cell]) -> 'RobustnessSummary':
        """Summarise the cells of one detector.

        Args:
            cells (Sequence[Cell]): All cells, the clean one first; all
                corruptions have the same severities.

        Returns:
            RobustnessSummary: Cells and their means.
        """
        corrupted = [cell for cell in cells if cell.shift.kind == 'corruption']

        def means_by(attribute, kind):
            groups: Dict[Any, List[Figures]] = {}
            for cell in corrupted:
                group = kind(getattr(cell.shift, attribute))
                groups.setdefault(group, []).append(cell.figures)
            return {key: mean_of(parts) for key, parts in groups.items()}

        mean = relative = None
        if corrupted:
            mean = mean_of([cell.figures for cell in corrupted])
            relative = ratio_of(
                *(Figures({key: figures.values[key]
                           for key in ACCURACY},
                          {key: figures.resamples[key]
                           for key in ACCURACY})
                  for figures in (mean, cells[0].figures)))
        return cls(
            list(cells), mean, relative, means_by('strength', int),
            means_by('name', str))

    @property
    def clean(self) -> Cell:
        """Cell of the unchanged images."""
        return self.cells[0]

    @property
    def attacked(self) -> List[Cell]:
        """Cells of the attacks."""
        return [cell for cell in self.cells if cell.shift.kind == 'attack']

    def to_dict(self) -> Dict[str, Any]:
        """Plain numbers, each figure with its interval; NaN stays NaN."""
        clean = self.clean.figures
        content = dict(
            clean=_plain(clean.intervals()), confidence_level=CONFIDENCE)
        if self.mean is not None:
            content.update(
                mPC=_plain(self.mean.intervals()),
                rPC=_plain(self.relative.intervals(highest=float('inf'))),
                difference_to_clean={
                    key:
                    dict(
                        value=figure.difference,
                        low=figure.low,
                        high=figure.high)
                    for key, figure in self.mean.differences_from(
                        clean).items()
                },
                by_severity={
                    severity: _plain(figures.intervals())
                    for severity, figures in self.by_severity.items()
                },
                by_corruption={
                    name: _plain(figures.intervals())
                    for name, figures in self.by_corruption.items()
                })
        return dict(
            content,
            cells=[
                dict(
                    cell.shift.to_dict(),
                    num_detections=cell.num_detections,
                    **_plain(cell.figures.intervals())) for cell in self.cells
            ])


def _plain(intervals: Dict[str, Interval]) -> Dict[str, Dict[str, float]]:
    return {
        key: dict(value=figure.value, low=figure.low, high=figure.high)
        for key, figure in intervals.items() if key in FIGURES
    }
