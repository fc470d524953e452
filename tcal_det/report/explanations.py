"""Figures of the page, with their titles and explanations."""
from dataclasses import dataclass

from tcal_det.evaluation.functional.figures import BY_KEY

_HEADLINES = ('mAP', 'AP50', 'AP75', 'd_ece', 'd_ece_over', 'd_ece_under',
              'laece', 'laece_0', 'lrp_0', 'olrp', 'oce', 'brier')
_OF_CLASSES = ('mAP', 'AP50', 'AP75', 'd_ece', 'd_ece_over', 'd_ece_under',
               'laece_0', 'olrp', 'oce', 'brier')


@dataclass(frozen=True)
class ExplainedFigure:
    """A figure with its title and explanation.

    Attributes:
        key (str): Key in the catalogue.
        title (str): Title in tables and cards, with that of the whole figure
            if this is a part of one.
        sentence (str): Meaning of the figure.
        higher_is_better (bool): Whether higher values are better.
    """
    key: str
    title: str
    sentence: str
    higher_is_better: bool


def figure(key: str) -> ExplainedFigure:
    """Look up a figure in the catalogue.

    Args:
        key (str): Key in the catalogue.
    """
    known = BY_KEY[key]
    prefix = f'{BY_KEY[known.part_of].title} ' if known.part_of else ''
    return ExplainedFigure(key, prefix + known.title, known.meaning,
                           known.better == 'higher')


HEADLINES = tuple(map(figure, _HEADLINES))
CLASS_COLUMNS = tuple(map(figure, _OF_CLASSES))
