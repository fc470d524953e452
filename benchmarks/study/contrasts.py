"""The contrasts of docs/evidence/preregistration.md, "Analysis"."""
from itertools import combinations
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .plan import BCCD_SEEDS, FIRST_SEED, UNSEEN_TEACHERS
from .rows import Row, rows_of, values_of
from .statistics import (Differences, Estimate, estimate, paired_differences,
                         pooled_sd)

# Differences in mAP below this are called equivalent: the least gain that
# Kim et al. report on COCO. The other one is the largest.
MARGIN = 0.7
LARGEST_GAIN = 1.77
# Images of a test part by those that the runs of a fold were trained on: the
# student and the teacher.
TEST_TO_TRAIN = 73 / (36 + 146)

_NAMES = {
    'baseline': 'no teacher',
    'hard': 'hard labels',
    'kd': 'KD',
    'as-is': 'raw teacher',
    'platt': 'Platt',
    'focal-posterior': 'closed form'
}


def arm_name(arm: str) -> str:
    """How tables and figures name an arm."""
    stem, is_light, weight = arm.partition('-w')
    if stem.startswith('tcal-t'):
        name = f'T = {stem[len("tcal-t"):]}'
    else:
        name = _NAMES.get(stem, stem)
    return f'{name}, weight {weight}' if is_light else name


class Side(NamedTuple):
    """Runs that differ in nothing but seed and fold.

    Attributes:
        block (str): Letter of the block.
        arm (str): Name of the arm.
        teacher (str, optional): Name of the only teacher. Defaults to all.
        seed (int, optional): The only seed. Defaults to all.
    """
    block: str
    arm: str
    teacher: Optional[str] = None
    seed: Optional[int] = None

    def values(self, rows: Sequence[Row], figure: str,
               split: str) -> Dict[tuple, float]:
        """A figure of its runs by key."""
        chosen = rows_of(rows, self.block, self.arm)
        for key, only in (('teacher', self.teacher), ('seed', self.seed)):
            chosen = [row for row in chosen if only in (None, row[key])]
        return values_of(chosen, figure, split)


class Contrast(NamedTuple):
    """A difference between two arms, or between two such differences.

    Attributes:
        label (str): What is compared, for tables.
        side (Side): Arm whose figures are compared.
        reference (Side): Arm that they are compared with.
        change (tuple[Side, Side], optional): Two arms whose difference is
            subtracted, for an interaction. Defaults to None.
    """
    label: str
    side: Side
    reference: Side
    change: Optional[Tuple[Side, Side]] = None

    def differences(self,
                    rows: Sequence[Row],
                    figure: str = 'mAP',
                    split: str = 'test') -> Differences:
        """Paired differences in a figure, x 100."""
        side, reference = (
            chosen.values(rows, figure, split)
            for chosen in (self.side, self.reference))
        found = paired_differences(side, reference)
        if self.change is None:
            return found
        subtracted = Contrast(self.label, *self.change)
        return paired_differences(found,
                                  subtracted.differences(rows, figure, split))

    def estimate(self,
                 rows: Sequence[Row],
                 figure: str = 'mAP',
                 split: str = 'test') -> Estimate:
        """Their mean with its interval."""
        return estimate(self.differences(rows, figure, split), TEST_TO_TRAIN)


def _contrast(block: str, arm: str, reference: str) -> Contrast:
    return Contrast(f'{arm_name(arm)} - {arm_name(reference)}',
                    Side(block, arm), Side(block, reference))


def _against_baseline(block: str, *arms: str) -> List[Contrast]:
    return [_contrast(block, arm, 'baseline') for arm in arms]


def _only(contrast: Contrast, name: str, **choice: Any) -> Contrast:
    return contrast._replace(
        label=f'{contrast.label}, {name} only',
        side=contrast.side._replace(**choice))


# Families: p values of each are corrected for their number.
PRIMARY = [
    _contrast('A', 'tcal-t1.5', 'kd'),
    _contrast('A', 'tcal-t3', 'tcal-t1'),
    _contrast('A', 'tcal-t1', 'hard')
]
FOCAL = [
    _contrast('F', 'platt', 'as-is'),
    _contrast('F', 'tcal-t1.5', 'as-is'),
    _contrast('F', 'platt', 'tcal-t1.5')
]
# All others are secondary, with p values of their own.
SOFTMAX_REAL = [
    _contrast('S', 'tcal-t1.5', 'kd'),
    _contrast('S', 'tcal-t1.5', 'tcal-t1'),
    _contrast('S', 'tcal-t1', 'hard'),
    *_against_baseline('S', 'hard', 'kd', 'tcal-t1', 'tcal-t1.5')
]
FOCAL_OTHERS = [
    _contrast('F', 'focal-posterior', 'as-is'),
    _contrast('F', 'focal-posterior', 'platt'),
    *_against_baseline('F', 'as-is', 'tcal-t1.5', 'platt', 'focal-posterior')
]
# The teachers begin with the weights of the students of seed 1.
FOCAL_SEEDS = [
    _only(contrast, f'seed {seed}', seed=seed)
    for contrast in (*FOCAL, *_against_baseline('F', 'as-is'))
    for seed in BCCD_SEEDS
]
_SEEN = Side('B', 'tcal-t3'), Side('B', 'tcal-t1')
_UNSEEN = Side('A', 'tcal-t3'), Side('A', 'tcal-t1')
SEEN = Contrast('seen - unseen images, T = 1', _SEEN[1], _UNSEEN[1])
# U3 and U4 taught one seed each of those that block B has.
SEEN_BY_TEACHER = [
    SEEN._replace(
        label=f'seen - {teacher}, T = 1',
        reference=SEEN.reference._replace(teacher=teacher))
    for teacher in UNSEEN_TEACHERS[FIRST_SEED]
]
INTERACTION = Contrast('(T = 3 - T = 1, seen) - (the same, unseen)', *_SEEN,
                       _UNSEEN)
SECONDARY = [
    *_against_baseline('A', 'hard', 'kd', 'tcal-t1', 'tcal-t1.5', 'tcal-t3'),
    *(_only(contrast, teacher, teacher=teacher) for contrast in PRIMARY
      for pair in UNSEEN_TEACHERS.values() for teacher in pair),
    Contrast('T = 3 - T = 1, seen images', *_SEEN), SEEN, *SEEN_BY_TEACHER,
    INTERACTION, *(Contrast(f'{arm_name(arm)}: weight 4 - weight 16',
                            Side('W', f'{arm}-w4'), Side('A', arm))
                   for arm in ('hard', 'kd', 'tcal-t1', 'tcal-t1.5')),
    Contrast('T = 1.5 - KD, weight 4', Side('W', 'tcal-t1.5-w4'),
             Side('W', 'kd-w4')), *SOFTMAX_REAL, *FOCAL_OTHERS, *FOCAL_SEEDS
]


class Spread(NamedTuple):
    """How much paired differences scatter, whatever the arms.

    Attributes:
        sd (float): Pooled standard deviation.
        pairs_of_arms (int): Number of pairs of arms with at least two paired
            runs.
        freedom (int): Sum of the degrees of freedom of the pairs of arms.
    """
    sd: float
    pairs_of_arms: int
    freedom: int


def spread_of(rows: Sequence[Row], block: str, figure: str = 'mAP') -> Spread:
    """Pool the standard deviation of paired differences over pairs of arms.

    Args:
        rows (Sequence[dict]): Rows of the results.
        block (str): Letter of the block.
        figure (str): Name of the figure. Defaults to 'mAP'.

    Returns:
        Spread: The same for any names and any order of the arms, and whatever
        is added to all runs of an arm.
    """
    arms = sorted({row['arm'] for row in rows if row['block'] == block})
    samples = [
        list(_contrast(block, *pair).differences(rows, figure).values())
        for pair in combinations(arms, 2)
    ]
    samples = [sample for sample in samples if len(sample) > 1]
    return Spread(
        pooled_sd(samples), len(samples),
        sum(len(sample) - 1 for sample in samples))
