"""What the report says about each figure, in one sentence."""
from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class ExplainedFigure:
    """A figure with the words for it.

    Attributes:
        key (str): In ``overall`` and ``per_class`` of an evaluation.
        title (str): As tables and cards show it.
        sentence (str): What it means.
        higher_is_better (bool): Defaults to False.
    """
    key: str
    title: str
    sentence: str
    higher_is_better: bool = False


HEADLINES: Tuple[ExplainedFigure, ...] = (
    ExplainedFigure(
        'mAP', 'mAP',
        "COCO's mean average precision over IoU thresholds .50 to .95; it "
        'sees the order of the scores only, not their values.', True),
    ExplainedFigure('AP50', 'AP50',
                    'Average precision where a box needs an IoU of .5.', True),
    ExplainedFigure(
        'AP75', 'AP75',
        'Average precision where a box needs an IoU of .75: strict about its '
        'place.', True),
    ExplainedFigure(
        'd_ece', 'D-ECE',
        'Mean distance between score and precision at IoU .5; 0.05 says that '
        'scores are 5 percentage points off on average.'),
    ExplainedFigure('d_ece_over', 'D-ECE over',
                    'The part of D-ECE from scores above the precision.'),
    ExplainedFigure('d_ece_under', 'D-ECE under',
                    'The part of D-ECE from scores below the precision.'),
    ExplainedFigure(
        'laece', 'LaECE',
        'Mean distance between score and precision times IoU, averaged over '
        'classes (match at IoU .1): sloppy boxes cost too.'),
    ExplainedFigure(
        'laece_0', 'LaECE_0',
        'As LaECE, but every overlap counts as a match, so that no threshold '
        'decides the result.'),
    ExplainedFigure(
        'lrp_0', 'LRP_0',
        'Sloppy boxes, false detections and missed objects in one error, of '
        'all detections as they are.'),
    ExplainedFigure(
        'olrp', 'oLRP',
        'The least such error, at IoU .5, that a score threshold for each '
        'class reaches.'),
    ExplainedFigure(
        'brier', 'Brier score',
        'Mean squared error of the score as the probability of being right; '
        'it needs no bins.'),
    ExplainedFigure(
        'nll', 'NLL',
        'Mean negative log-likelihood: as the Brier score, but a confident '
        'mistake costs far more.'),
)

CLASS_COLUMNS: Tuple[ExplainedFigure, ...] = tuple(
    one for one in HEADLINES if one.key not in ('laece', 'lrp_0', 'nll'))


def figure(key: str) -> ExplainedFigure:
    """The figure of a key.

    Args:
        key (str): One of :data:`HEADLINES`.
    """
    return next(one for one in HEADLINES if one.key == key)
