"""The tables of the study, by other means."""
import re

import numpy as np
import pytest
from scipy import stats

from benchmarks.study import plan, report
from benchmarks.study.contrasts import PRIMARY
from benchmarks.study.markdown import NOT_MEASURED
from benchmarks.study.tables import (arms_table, contrast_tables, focal_table,
                                     power_table, primary_table, runs_table,
                                     teachers_table)
from tests.study_rows import cells_of, make_arm, make_row, two_blocks


@pytest.fixture
def rows():
    return two_blocks()


def test_primary_table_against_scipy(rows):
    kd, paper = (
        np.array([
            100 * row['test']['mAP'] for row in rows
            if (row['block'], row['arm']) == ('A', arm)
        ]) for arm in ('kd', 'tcal-t1.5'))
    cells = cells_of(primary_table(rows), 'T = 1.5 - KD')
    low, high = stats.t.interval(0.95, 7, (paper - kd).mean(),
                                 stats.sem(paper - kd))
    assert cells[2] == (f'{(paper - kd).mean():+.2f} [{low:+.2f}, '
                        f'{high:+.2f}]')
    assert cells[4] == f'{(paper - kd).std(ddof=1):.2f}'
    flips = stats.permutation_test((paper - kd, ),
                                   np.mean,
                                   permutation_type='samples',
                                   n_resamples=np.inf)
    assert cells[7] == f'{flips.pvalue:.3f}'


def test_every_column_of_the_tests_has_its_own_quantity():
    """Differences 1, 2, 3 on test and 4, 5, 6 on val; the others are none."""
    rows = make_arm('A', 'tcal-t1.5', [0.31, 0.32, 0.33])
    for row, gain in zip(rows, (0.04, 0.05, 0.06)):
        row['val']['mAP'] = 0.30 + gain
    rows += make_arm('A', 'kd', [0.30] * 3)
    cells = cells_of(primary_table(rows), 'T = 1.5 - KD')
    # Half-widths: t of 2 degrees of freedom, 4.302653, by the root of 3.
    assert cells[2] == '+2.00 [-0.48, +4.48]'
    assert cells[3] == '+5.00 [+2.52, +7.48]'
    plain = 2 * stats.t.sf(2 * np.sqrt(3), 2)
    assert cells[4:7] == ['1.00', f'{plain:.3f}', f'{3 * plain:.3f}']
    assert cells[7] == f'{2 / 8:.3f}'
    # One-sided, of a difference of 0.7.
    assert cells[8] == f'{stats.t.sf((0.7 - 2) * np.sqrt(3), 2):.3f}'


def test_arms_have_means_and_deviations_over_runs():
    rows = make_arm('F', 'platt', [0.25, 0.25])
    rows[0]['test'].update({'D-ECE': 0.1, 'temperature': 1.0})
    rows[1]['test'].update({'D-ECE': 0.2, 'temperature': 1.5})
    text = arms_table([*rows, make_row('T', 'teacher')])
    # 10 and 20 are 7.07 away from their mean in the root mean square over n-1.
    line = next(line for line in text.split('\n') if '| Platt' in line)
    assert line.split('|')[3].strip() == '2'
    assert '15.0 ± 7.1' in line and '1.25 ± 0.35' in line
    assert 'teacher ' not in text


def test_contrasts_without_runs_are_named(rows):
    text = contrast_tables(rows, [PRIMARY[0]])
    assert text.count('| T = 1.5 - KD') == 3
    rows = [row for row in rows if row['arm'] != 'kd']
    assert contrast_tables(
        rows, [PRIMARY[0]]) == ('Not measured yet: T = 1.5 - KD (A).')


def test_both_measures_of_the_focal_family_are_tested(rows):
    assert focal_table(rows).count('| Platt - raw teacher ') == 5


def test_power_table_by_the_plans_numbers():
    # Differences with mean 0 and sd 1.5 over 8 seeds: see the plan's table.
    values = 0.25 + 0.015 * np.array([-1, 1] * 4) * np.sqrt(7 / 8)
    rows = make_arm('A', 'tcal-t1.5', values) + make_arm('A', 'kd', [0.25] * 8)
    cells = cells_of(power_table(rows), 'T = 1.5 - KD (A)')
    assert cells[1:4] == ['8 seeds', '1.50', '1.7']
    assert cells[6:] == ['39', '20', '8']


def test_folds_have_no_number_of_seeds(rows):
    cells = cells_of(power_table(rows), 'Platt - raw teacher (F)')
    assert cells[1] == '5 folds' and cells[6:] == ['-', '-', '-']


def test_runs_are_counted_beside_the_plan():
    names = [run.name for run in plan.BLOCKS['W'].runs]
    rows = [
        make_row(name=names[0], seconds=5400),
        make_row(name='extra', seconds=1800)
    ]
    text = runs_table(rows, dict(W=plan.BLOCKS['W']))
    cells = cells_of(text, 'W')
    assert cells[2:] == ['16', '1', '1.5']
    assert 'Not in the plan: extra.' in text and '`0123abc`' in text


def test_teachers_have_their_calibration():
    row = make_row(
        'T',
        'teacher',
        11,
        0.6,
        teacher='U1',
        calibration=dict(
            fitted='T = 1.17964', val=dict(ece=0.012, over=0.01, under=0.002)))
    cells = cells_of(teachers_table([row]), 'U1')
    assert cells[2:] == [
        'T = 1.180', '60.0', '60.0', '1.20', '1.00', '0.20', '-', '-', '-'
    ]


@pytest.mark.parametrize('num_seeds', [0, 1, 2])
def test_few_runs_leave_no_nan(rows, num_seeds):
    rows = [
        row for row in rows
        if row['seed'] < 201 + num_seeds and (row['fold'] or 0) < num_seeds
    ]
    if num_seeds == 0:
        rows = []
    blocks = report.make_blocks(rows, [])
    assert all(blocks.values())
    for name, text in blocks.items():
        assert not re.search(r'\b(nan|inf|None)\b', text), name
    if num_seeds == 0:
        assert blocks['arms'] == blocks['power'] == NOT_MEASURED
    if num_seeds == 1:
        assert '(n = 1)' in blocks['answers']
