"""The study's picture: what each arm changes in the plain student."""
import math
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from tcal_det.visualization.figures import (BLACK, BLUE, GREY, VERMILION,
                                            new_figure)
from .contrasts import TEST_TO_TRAIN, Contrast, Side, arm_name
from .rows import Row
from .statistics import Differences, Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour, mark, place beside the arm's row and legend of each figure.
_STYLES = {
    'mAP': (BLUE, 'o', -0.18, 'mAP: right of 0 is better'),
    'D-ECE': (VERMILION, 's', 0.18, 'D-ECE: left of 0 is better')
}
# Means of fewer pairs are not put into an order.
_PAIRS_FOR_AN_ORDER = 3
# Block, its arms from top to bottom, and what it is about.
PANELS = (
    ('A', ('hard', 'kd', 'tcal-t1', 'tcal-t1.5', 'tcal-t3'),
     'Softmax head, digit scenes'),
    ('S', ('hard', 'kd', 'tcal-t1', 'tcal-t1.5'), 'Softmax head, blood cells'),
    ('F', ('as-is', 'tcal-t1.5', 'platt', 'focal-posterior'),
     'Focal head, blood cells'),
)


def study_figure(rows: Sequence[Row]) -> 'Figure':
    """Paired differences to the student without a teacher.

    Args:
        rows (Sequence[dict]): Rows of the results.

    Returns:
        Figure: For :func:`~tcal_det.visualization.save_figure`. A panel a
        head and data set; a row an arm, with mAP and D-ECE: small marks are
        single pairs of runs, large ones their mean with its 95 % interval.
    """
    figure = new_figure((10.4, 8.6))
    *panels, corner = figure.subplots(2, 2).flat
    for axes, (block, arms, scope) in zip(panels, PANELS):
        _draw_panel(axes, rows, block, arms, scope)
    corner.axis('off')
    corner.legend(
        handles=_legend_handles(), loc='center', frameon=False, fontsize=11)
    return figure


def _draw_panel(axes: 'Axes', rows: Sequence[Row], block: str,
                arms: Sequence[str], scope: str) -> None:
    labels, estimates = [], {figure: {} for figure in _STYLES}
    counts = []
    axes.axvline(0, color=GREY, linestyle='--', linewidth=1.2, zorder=1)
    for y, arm in enumerate(arms):
        contrast = Contrast(arm, Side(block, arm), Side(block, 'baseline'))
        count = 0
        for figure in _STYLES:
            differences = contrast.differences(rows, figure)
            estimated = estimate(differences, TEST_TO_TRAIN)
            if estimated.count:
                estimates[figure][arm] = estimated.mean
                _draw(axes, y, figure, differences, estimated)
            count = max(count, len(differences))
        counts.append(count)
        labels.append(f'{arm_name(arm)}\n({count} '
                      f'pair{"" if count == 1 else "s"})')
    axes.set_yticks(range(len(arms)), labels)
    axes.set_ylim(len(arms) - 0.45, -0.55)
    axes.set_xlabel('difference to the student without a teacher, x 100')
    axes.set_axisbelow(True)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.5, axis='x')
    axes.tick_params(axis='y', length=0)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.set_title(
        title_of(scope, estimates['mAP'], estimates['D-ECE'], min(counts)),
        fontsize=11,
        fontweight='bold',
        loc='left')


def title_of(scope: str, accuracies: Dict[str, float],
             errors: Dict[str, float], fewest_pairs: int) -> str:
    """A sentence of the largest mean differences of a panel.

    Args:
        scope (str): Head and data.
        accuracies (dict[str, float]): Mean differences in mAP, by arm.
        errors (dict[str, float]): Mean differences in D-ECE, by arm.
        fewest_pairs (int): Smallest number of pairs of an arm.
    """
    if fewest_pairs < _PAIRS_FOR_AN_ORDER:
        return f'{scope}:\ntoo few pairs of runs yet to order the arms'
    best = max(accuracies, key=accuracies.get)
    least = min(errors, key=errors.get)
    verb = 'gains' if accuracies[best] > 0 else 'loses'
    most = 'most' if accuracies[best] > 0 else 'least'
    change = 'lowers' if errors[least] < 0 else 'raises'
    degree = 'most' if errors[least] < 0 else 'least'
    # One subject for both, or two.
    joint = '\nand' if best == least else f',\n{_quoted(least)}'
    return (f'{scope}: on average\n{_quoted(best)} {verb} {most} mAP{joint} '
            f'{change} D-ECE {degree}')


def _quoted(arm: str) -> str:
    """The name of an arm, in quotation marks if it begins as a word does."""
    name = arm_name(arm)
    return f'"{name}"' if name[0].islower() else name


def _draw(axes: 'Axes', row: int, figure: str, differences: Differences,
          estimated: Estimate) -> None:
    color, marker, shift, _ = _STYLES[figure]
    y = row + shift
    values = list(differences.values())
    # Below the mean's mark, which would hide them.
    axes.plot(
        values, [y + 0.11] * len(values),
        marker,
        color=color,
        alpha=0.4,
        markersize=3.5,
        markeredgewidth=0,
        zorder=1.5)
    low, high = _ends(estimated)
    axes.errorbar(
        estimated.mean,
        y,
        xerr=[[estimated.mean - low], [high - estimated.mean]],
        color=color,
        marker=marker,
        markersize=7,
        linestyle='none',
        capsize=3)


def _ends(estimated: Estimate) -> Tuple[float, float]:
    """Ends of the bar: the mean itself where there is no interval."""
    if math.isnan(estimated.low):
        return estimated.mean, estimated.mean
    return estimated.low, estimated.high


def _legend_handles() -> List:
    from matplotlib.lines import Line2D
    handles = [
        Line2D((), (),
               color=color,
               marker=marker,
               markersize=7,
               linestyle='none',
               label=label) for color, marker, _, label in _STYLES.values()
    ]
    handles.append(
        Line2D((), (),
               color=BLACK,
               marker='|',
               markersize=7,
               label='mean, 95 % interval'))
    handles.append(
        Line2D((), (),
               color=GREY,
               marker='o',
               markersize=3.5,
               linestyle='none',
               label='one pair of runs'))
    return handles
