"""Made-up rows of the study's results."""
import numpy as np

from benchmarks.study.rows import FIGURES, key_of
from benchmarks.study.statistics import estimate


def make_row(block='A',
             arm='baseline',
             seed=201,
             mean_ap=0.25,
             fold=None,
             teacher=None,
             **changes):
    """A row whose figures are all the same but for mAP."""
    figures = dict(dict.fromkeys(FIGURES, 0.5), mAP=mean_ap, temperature=1.25)
    number = f'seed{seed}' if fold is None else f'fold{fold}-seed{seed}'
    data = 'digits' if fold is None else 'bccd'
    return dict(
        dict(
            name=f'{data}/{block}/{arm}/{number}',
            block=block,
            data=data,
            head='focal' if block == 'F' else 'softmax',
            arm=arm,
            teacher=teacher,
            epochs=48,
            seed=seed,
            fold=fold,
            loss_weight=None,
            val=dict(figures),
            test=figures,
            seconds=1800,
            commit='0123abc'), **changes)


def make_arm(block, arm, mean_aps, first_seed=201, **changes):
    """Rows of an arm, one a seed."""
    return [
        make_row(block, arm, seed, mean_ap, **changes)
        for seed, mean_ap in enumerate(mean_aps, first_seed)
    ]


def two_blocks():
    """Eight seeds of block A and two seeds of five folds of block F."""
    random = np.random.default_rng(2)
    rows = []
    for arm, gain in (('baseline', 0.0), ('hard', 0.01), ('kd', 0.06),
                      ('tcal-t1', 0.06), ('tcal-t1.5', 0.09), ('tcal-t3',
                                                               0.06)):
        teacher = None if arm in ('baseline', 'hard') else 'U1'
        for seed in range(201, 209):
            rows.append(
                make_row(
                    'A',
                    arm,
                    seed,
                    0.25 + gain + random.normal(0, 0.002),
                    teacher=teacher))
    for arm in ('baseline', 'as-is', 'tcal-t1.5', 'platt', 'focal-posterior'):
        for fold in range(5):
            for seed in (1, 2):
                row = make_row('F', arm, seed, random.normal(0.3, 0.01), fold)
                row['test']['D-ECE'] = random.normal(0.1, 0.01)
                rows.append(row)
    return rows


def of_values(values):
    """The estimate of differences, one a seed."""
    return estimate({
        key_of(make_row(seed=seed)): value
        for seed, value in enumerate(values)
    })


def cells_of(markdown, label):
    """Cells of the first row of a table that begins with a label."""
    for line in markdown.split('\n'):
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if cells[0] == label:
            return cells
    raise AssertionError(f'{label!r} is in no row of:\n{markdown}')
