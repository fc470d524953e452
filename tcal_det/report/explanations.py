"""Which figures of the catalogue the page shows, and how it calls them."""
from dataclasses import dataclass

from tcal_det.evaluation.functional.figures import BY_KEY

_HEADLINES = ('mAP', 'AP50', 'AP75', 'd_ece', 'd_ece_over', 'd_ece_under',
              'laece', 'laece_0', 'lrp_0', 'olrp', 'oce', 'brier')
_OF_CLASSES = ('mAP', 'AP50', 'AP75', 'd_ece', 'd_ece_over', 'd_ece_under',
               'laece_0', 'olrp', 'oce', 'brier')


@dataclass(frozen=True)
class ExplainedFigure:
    """A figure with the words for it.

    Attributes:
        key (str): In the catalogue.
        title (str): As tables and cards show it, where it stands alone.
        sentence (str): What it means.
        higher_is_better (bool): Or lower.
    """
    key: str
    title: str
    sentence: str
    higher_is_better: bool


def figure(key: str) -> ExplainedFigure:
    """The figure of a key.

    Args:
        key (str): Of the catalogue.
    """
    known = BY_KEY[key]
    whole = f'{BY_KEY[known.part_of].title} ' if known.part_of else ''
    return ExplainedFigure(key, whole + known.title, known.meaning,
                           known.better == 'higher')


HEADLINES = tuple(map(figure, _HEADLINES))
CLASS_COLUMNS = tuple(map(figure, _OF_CLASSES))
