"""The tables of docs/evidence/study.md, from the rows of the results."""
import re
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from .answers import count_text, family_p_values, verdict
from .contrasts import (FOCAL, FOCAL_OTHERS, FOCAL_SEEDS, LARGEST_GAIN, MARGIN,
                        PRIMARY, SOFTMAX_REAL, Contrast, arm_name)
from .markdown import NOT_MEASURED, change, number, p_value, percent, table
from .mixed_model import fit_mixed_model
from .rows import ACCURACY, CHOSEN_ERRORS, FIGURES, RAW_ERRORS, Row
from .statistics import (NAN, equivalence_p, has_folds, least_detectable,
                         pairs_needed, power, sign_flip_p)

Blocks = Mapping[str, Any]
_UNIT = 'On test x 100, with 95 % intervals'
_SUFFIX_NOTE = (
    '`T` after a figure: after one temperature fitted on val; `thr`: '
    'at score thresholds chosen on val.')


def tests_table(rows: Sequence[Row], family: Sequence[Contrast],
                figure: str) -> str:
    """All tests of a family of contrasts."""
    adjusted = family_p_values(family, rows, figure)
    cells = []
    for contrast, corrected in zip(family, adjusted):
        estimated = contrast.estimate(rows, figure)
        cells.append([
            contrast.label,
            count_text(contrast, rows),
            change(estimated),
            change(contrast.estimate(rows, figure, 'val')),
            number(estimated.sd),
            p_value(estimated.p_value),
            p_value(corrected),
            p_value(sign_flip_p(contrast.differences(rows, figure)))
        ])
        if figure == 'mAP':
            cells[-1] += [
                p_value(equivalence_p(estimated, MARGIN)),
                verdict(estimated, corrected)
            ]
    heading = [
        'contrast', 'n', figure, f'{figure} on val', 'sd', 'p', 'p, Holm',
        'p, sign flips'
    ]
    if figure == 'mAP':
        heading += [f'p, TOST {MARGIN}', 'better?']
    return table(heading, cells)


def primary_table(rows: Sequence[Row]) -> str:
    """The primary contrasts, and the mixed model of the same runs."""
    return '\n\n'.join([
        tests_table(rows, PRIMARY, 'mAP'),
        f'{_UNIT}, paired by seed. Sd: of the paired differences. Sign flips: '
        'exact up to 16 pairs, else 99,999 random ones.',
        mixed_model_text(rows)
    ])


def mixed_model_text(rows: Sequence[Row]) -> str:
    """Effects of the mixed model of block A, or why none was fitted."""
    model = fit_mixed_model([row for row in rows if row['block'] == 'A'])
    beginning = (f'Mixed model `mAP ~ arm + teacher + (1 | seed)` of '
                 f'{model.count} runs')
    if model.problem:
        return f'{beginning}: not fitted, as {model.problem}.'
    effects = [(f'{arm_name(arm)} - {arm_name("baseline")}', effect)
               for arm, effect in model.arms.items()]
    effects += [(f'teacher {name}', effect)
                for name, effect in model.teachers.items()]
    texts = (f'{label} {number(effect.value, 2, "+")} '
             f'[{number(effect.low, 2, "+")}, {number(effect.high, 2, "+")}]'
             for label, effect in effects)
    return (f'{beginning}: {"; ".join(texts)}. Standard deviation over seeds '
            f'{number(model.seed_sd)}, of what is left '
            f'{number(model.residual_sd)}.')


def contrast_tables(rows: Sequence[Row], contrasts: Sequence[Contrast]) -> str:
    """All figures of contrasts, in three tables; what has no run is named."""
    measured = [
        contrast for contrast in contrasts if contrast.estimate(rows).count
    ]
    parts = []
    for figures in (ACCURACY, RAW_ERRORS, CHOSEN_ERRORS) if measured else ():
        parts.append(
            table(['contrast', 'block', 'n', *figures], [[
                contrast.label, contrast.side.block,
                count_text(contrast, rows),
                *(change(contrast.estimate(rows, figure))
                  for figure in figures)
            ] for contrast in measured], 2))
    if measured:
        parts.append(f'{_UNIT}, not corrected for their number. All but mAP, '
                     f'AP50 and AP75 are better when lower. {_SUFFIX_NOTE}')
    absent = [
        f'{contrast.label} ({contrast.side.block})' for contrast in contrasts
        if contrast not in measured
    ]
    if absent:
        parts.append(f'Not measured yet: {"; ".join(absent)}.')
    return '\n\n'.join(parts)


def focal_table(rows: Sequence[Row]) -> str:
    """The family of the focal head, and all figures of its contrasts."""
    return '\n\n'.join([
        tests_table(rows, FOCAL, 'mAP'),
        tests_table(rows, FOCAL, 'D-ECE'),
        contrast_tables(rows, FOCAL + FOCAL_OTHERS + FOCAL_SEEDS)
    ])


def arms_table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation of every arm."""
    groups: Dict[tuple, List[Row]] = {}
    for row in rows:
        if row['block'] != 'T':
            groups.setdefault((row['block'], row['arm']), []).append(row)
    if not groups:
        return NOT_MEASURED
    cells = [[
        block,
        arm_name(arm),
        str(len(groups[block, arm])), *(_spread(groups[block, arm], figure)
                                        for figure in FIGURES),
        _spread(groups[block, arm], 'temperature', 1)
    ] for block, arm in sorted(groups)]
    heading = ['block', 'arm', 'runs', *FIGURES, 'temperature']
    return table(heading, cells, 2) + (
        '\n\nMean ± standard deviation over runs, on test x 100; the '
        f'temperature is the one fitted to the student on val. {_SUFFIX_NOTE}')


def _spread(rows: Sequence[Row], figure: str, scale: float = 100.0) -> str:
    values = [row['test'].get(figure) for row in rows]
    values = [scale * value for value in values if value is not None]
    if not values:
        return number(NAN)
    decimals = 1 if scale == 100.0 else 2
    cell = number(float(np.mean(values)), decimals)
    if len(values) > 1:
        cell += f' ± {number(float(np.std(values, ddof=1)), decimals)}'
    return cell


def power_table(rows: Sequence[Row]) -> str:
    """Which differences in mAP the runs could show, and what others need."""
    cells = []
    for contrast in PRIMARY + FOCAL + SOFTMAX_REAL[:3]:
        estimated = contrast.estimate(rows)
        if not estimated.sd > 0:
            continue
        is_seeds = not has_folds(contrast.differences(rows))
        cells.append([
            f'{contrast.label} ({contrast.side.block})',
            count_text(contrast, rows),
            number(estimated.sd),
            number(least_detectable(estimated.error, estimated.count - 1), 1),
            *(percent(power(gain, estimated.error, estimated.count - 1))
              for gain in (MARGIN, LARGEST_GAIN)),
            *(number(pairs_needed(gain, estimated.sd) if is_seeds else NAN, 0)
              for gain in (MARGIN, 1.0, LARGEST_GAIN))
        ])
    if not cells:
        return NOT_MEASURED
    heading = [
        'contrast', 'n', 'sd', 'least difference', f'power for {MARGIN}',
        f'for {LARGEST_GAIN}', f'seeds for {MARGIN}', 'for 1.0',
        f'for {LARGEST_GAIN}'
    ]
    return table(heading, cells) + (
        '\n\nmAP x 100. Least difference: the true one that is found with a '
        'chance of 80 % (two-sided t test at 5 %, one test). Seeds: how many '
        'that takes at this standard deviation.')


def runs_table(rows: Sequence[Row], blocks: Blocks) -> str:
    """What was planned and made, how long it took and by which code."""
    by_name = {row['name']: row for row in rows}
    planned = set()
    cells = []
    for letter, block in blocks.items():
        names = [run.name for run in block.runs]
        planned.update(names)
        made = [by_name[name] for name in names if name in by_name]
        cells.append([
            letter, block.title,
            str(len(names)),
            str(len(made)),
            number(_hours(made), 1)
        ])
    parts = [
        table([
            'block', 'question', 'runs planned', 'complete', 'hours of a core'
        ], cells, 2),
        f'{len(planned & set(by_name))} of {len(planned)} runs are complete.'
    ]
    unplanned = sorted(set(by_name) - planned)
    if unplanned:
        remainder = f' and {len(unplanned) - 3} more' if len(
            unplanned) > 3 else ''
        parts.append(
            f'Not in the plan: {", ".join(unplanned[:3])}{remainder}.')
    if rows:
        commits = sorted({row['commit'] for row in rows})
        parts.append('Commits: ' + ', '.join(f'`{commit}`'
                                             for commit in commits) + '.')
    return '\n\n'.join(parts)


def _hours(rows: Sequence[Row]) -> float:
    return sum(row['seconds'] for row in rows) / 3600


def teachers_table(rows: Sequence[Row]) -> str:
    """Accuracy and calibration of the teachers."""
    teachers = sorted((row for row in rows if row['block'] == 'T'),
                      key=lambda row: row['name'])
    if not teachers:
        return NOT_MEASURED
    cells = []
    for row in teachers:
        found = row.get('calibration', {})
        cells.append([
            row['teacher'], row['data'],
            _rounded(str(found.get('fitted', ''))),
            number(100 * row['val']['mAP'], 1),
            number(100 * row['test']['mAP'], 1),
            *(number(100 * found.get(split, {}).get(key, NAN))
              for split in ('val', 'student')
              for key in ('ece', 'over', 'under'))
        ])
    heading = [
        'teacher', 'data', 'calibrator fitted on val', 'mAP, val', 'mAP, test',
        'ECE, val', 'over', 'under', 'ECE, student\'s images', 'over', 'under'
    ]
    return table(heading, cells, 3) + (
        '\n\nx 100. ECE of the head on its samples, in its over- and '
        'under-confident parts.')


def _rounded(text: str) -> str:
    """Three decimals of each number in a text."""
    return re.sub(r'\d+\.\d{4,}', lambda match: f'{float(match[0]):.3f}', text)
