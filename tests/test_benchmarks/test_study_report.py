"""From the study's results to its document: every number by other means."""
import json
import math
import os.path as osp
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks.study import report
from benchmarks.study.comparisons import (contrasts, gradient_entries,
                                          main_entries)
from benchmarks.study.drawing import bar_ends
from benchmarks.study.estimates import (Correlation, correlation, holm,
                                        least_detectable, mean_of,
                                        paired_difference, pooled_std, power)
from benchmarks.study.markdown import NOT_MEASURED, fill_blocks
from benchmarks.study.plan import CHECKPOINTS, FRESH_TEACHER, TEACHER_OF
from benchmarks.study.rows import Row, by_seed
from benchmarks.study.selection import best_weight, grid_scores, is_at_edge
from benchmarks.study.teacher_points import (correlate_with_d_ece, scopes,
                                             taught_points)
from tcal_det.errors import InvalidValueError, MissingFileError

TEACHER = FRESH_TEACHER
EMPTY = dict(runs=[], teachers=[], gradient_scales=[])


def make_run(stage,
             method,
             seed=1,
             mean_ap=0.2,
             temperature=None,
             weight=None,
             **changes):
    figures = {
        'mAP': mean_ap,
        'AP50': mean_ap + 0.2,
        'AP75': mean_ap / 2,
        'D-ECE': 0.05,
        'D-ECE over': 0.04,
        'D-ECE under': 0.01,
        'LaECE_0': 0.1,
        'LRP_0': 0.9
    }
    return dict(
        dict(
            name=f'{stage}/{method}/{temperature}/{weight}/seed{seed}',
            stage=stage,
            method=method,
            temperature=temperature,
            fitted=False,
            loss_weight=weight,
            teacher=weight and TEACHER_OF.get(stage, TEACHER),
            seed=seed,
            config='benchmarks/study/configs/student.py',
            overrides={},
            commit='0123abc',
            stack=dict(python='3.11.7', torch='2.1.2'),
            status='finished',
            error=None,
            wall_time_s=3600,
            attempts=1,
            val=figures,
            test=figures), **changes)


def make_teacher(name=TEACHER, temperature=1.0, ece=0.03, val_map=0.6):
    return dict(
        name=name,
        epoch=int(name.rpartition('_e')[2]),
        temperature=temperature,
        val_mAP=val_map,
        ece=ece,
        over=ece,
        under=0.0,
        ace=ece / 2,
        nll=0.3 + ece,
        brier=0.2,
        fitted_temperature=1.234,
        num_samples=100)


def failed(run):
    """It got far enough to have figures, which must not count."""
    return dict(
        run,
        status='failed',
        error='train.py ended with 1:\nno memory',
        val=dict(run['val'], mAP=0.99),
        test=dict(run['test'], mAP=0.99))


@pytest.fixture
def results():
    """Three seeds of each method, each stage begun."""
    runs = [
        make_run('teachers', 'teacher', 0, 0.6),
        make_run(
            'setting',
            'baseline',
            0,
            overrides=dict(
                model=dict(type='x', teacher=dict(config='y')),
                train_cfg=dict(max_epochs=8)),
            test=None),
        make_run('grid', 'baseline', 0, 0.1, test=None)
    ]
    values = {
        ('kd', None, 1.0): (0.2, 0.2, 0.3),
        ('tcal', 1.0, 4.0): (0.1, 0.2, 0.2),
        ('tcal', 1.5, 4.0): (0.1, 0.2, 0.3),
        ('wttm', None, 4.0): (0.1, 0.2, 0.3),
        ('dkd', None, 4.0): (0.1, 0.2, 0.3),
        ('dkd', 1.5, 4.0): (0.2, 0.4, 0.3)
    }
    for (method, temperature, weight), maps in values.items():
        runs += [
            make_run('grid', method, 0, value, temperature, grid_weight)
            for grid_weight, value in zip((1.0, 4.0), maps)
        ]
        runs += [
            make_run('seeds', method, seed, value, temperature, weight)
            for seed, value in enumerate(maps, start=1)
        ]
    runs += [make_run('seeds', 'baseline', seed, 0.1) for seed in (1, 2, 3)]
    runs += [
        dict(run, stage='bccd', teacher=run['teacher'] and TEACHER_OF['bccd'])
        for run in runs if run['stage'] == 'seeds'
    ]
    runs += [
        dict(
            run,
            stage='confirmation',
            seed=run['seed'] + 5,
            teacher=run['teacher'] and TEACHER) for run in runs
        if run['stage'] == 'seeds' and run['method'] in ('baseline', 'tcal')
    ]
    runs += [
        make_run('bccd', 'tcal', seed, value, temperature, 16.0)
        for temperature, value in ((1.0, 0.4), (3.0, 0.5)) for seed in (1, 2)
    ]
    runs.append(make_run('gradient', 'tcal', 6, 0.3, 1.0, 8.0))
    # Of all of them 6 is the only common seed.
    runs += [
        make_run(
            'copies', 'tcal', seed, value, temperature, 4.0, teacher=name)
        for name, temperature, value, seeds in ((TEACHER, 0.5, 0.1, (6, 7)),
                                                (CHECKPOINTS[0], 1.0, 0.05,
                                                 (6, 8)), (CHECKPOINTS[1], 1.0,
                                                           0.15, (6, 8)))
        for seed in seeds
    ]
    # Of an earlier plan, with another teacher.
    runs += [
        make_run('copies', 'tcal', seed, 0.9, 1.0, 4.0, teacher='r18-half_e2')
        for seed in (1, 7)
    ]
    return dict(
        runs=runs,
        teachers=[
            make_teacher(),
            make_teacher(temperature=0.5, ece=0.08),
            make_teacher(temperature=1.5, ece=0.02),
            # Of no student.
            make_teacher(temperature=7.0, ece=0.5),
            make_teacher(CHECKPOINTS[0], None, 0.05, 0.2),
            make_teacher(CHECKPOINTS[1], ece=0.04, val_map=0.4),
            make_teacher('r18-half_e2', ece=0.9)
        ],
        gradient_scales=[
            dict(
                method=method,
                temperature=temperature,
                fitted=False,
                rms_gradient=rms_gradient)
            for method, temperature, rms_gradient in (('tcal', 1.0, 0.01),
                                                      ('tcal', 1.5, 0.0201),
                                                      ('kd', None, 0.01))
        ])


def cells(table, label):
    """The cells of the row that begins with a label."""
    for line in table.split('\n'):
        row = [cell.strip() for cell in line.strip('|').split('|')]
        if row[0] == label:
            return row[1:]
    raise AssertionError(f'no row {label!r} in\n{table}')


class TestEstimates:

    def test_mean_by_hand(self):
        estimate = mean_of([1, 2, 3, 4, 5])
        assert (estimate.count, estimate.mean) == (5, 3)
        assert estimate.std == pytest.approx(math.sqrt(2.5))
        # t(0.975, 4 degrees of freedom) = 2.776445, standard error sqrt(0.5)
        half = 2.776445 * math.sqrt(0.5)
        assert estimate.low == pytest.approx(3 - half, abs=1e-5)
        assert estimate.high == pytest.approx(3 + half, abs=1e-5)
        expected = stats.ttest_1samp([1, 2, 3, 4, 5], 0).pvalue
        assert estimate.p_value == pytest.approx(expected)

    def test_too_few_values_are_no_estimate(self):
        assert math.isnan(mean_of([]).mean)
        assert mean_of([2.0]).mean == 2
        assert math.isnan(mean_of([2.0]).std)
        assert math.isnan(mean_of([2.0]).low)

    def test_no_spread_allows_no_test(self):
        # 0.3 - 0.2 and 0.2 - 0.1 are not the same float.
        estimate = mean_of([0.3 - 0.2, 0.2 - 0.1, 0.1])
        assert estimate.mean == pytest.approx(0.1)
        assert math.isnan(estimate.low) and math.isnan(estimate.high)
        assert math.isnan(estimate.p_value)
        # Nor has it a bar in a figure.
        assert bar_ends(estimate) == pytest.approx((10, 10))

    def test_differences_are_paired_by_seed(self):
        values = {1: 0.3, 2: 0.5, 3: 0.4, 8: 9.0}
        reference = {3: 0.3, 2: 0.2, 1: 0.1, 9: 0.0}
        estimate = paired_difference(values, reference)
        # 0.2, 0.3, 0.1
        assert estimate.count == 3
        assert estimate.mean == pytest.approx(0.2)
        assert estimate.std == pytest.approx(0.1)
        assert estimate.p_value == pytest.approx(
            stats.ttest_rel([0.3, 0.5, 0.4], [0.1, 0.2, 0.3]).pvalue)

    def test_holm_by_hand(self):
        # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04 is not below that.
        assert holm([0.01, 0.04, 0.03,
                     0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.6, 0.7]) == pytest.approx([1, 1])

    def test_holm_counts_tests_only(self):
        adjusted = holm([float('nan'), 0.01, 0.02])
        assert math.isnan(adjusted[0])
        assert adjusted[1:] == pytest.approx([0.02, 0.02])

    def test_pooled_deviation_by_hand(self):
        # Sums of squares 2 and 8 over 2 + 4 degrees of freedom; what has one
        # value has none of them.
        samples = [mean_of([1, 2, 3]), mean_of([0, 2, 2, 2, 4]), mean_of([9])]
        assert pooled_std(samples) == pytest.approx(math.sqrt(10 / 6))
        assert math.isnan(pooled_std([mean_of([9])]))
        assert pooled_std([mean_of([1, 3]), mean_of([5,
                                                     5])]) == pytest.approx(1)

    # Of a paired t-test, as sample size tables have it: 34 pairs are the
    # first to find half a standard deviation with a power of 0.8.
    @pytest.mark.parametrize(('difference', 'std', 'count', 'expected'),
                             [(0.5, 1.0, 34, 0.8078), (0.5, 1.0, 33, 0.7954),
                              (1.0, 2.0, 34, 0.8078), (0.0, 3.0, 7, 0.05)])
    def test_power_of_published_tables(self, difference, std, count, expected):
        assert power(difference, std, count) == pytest.approx(
            expected, abs=1e-4)
        assert power(-difference, std, count) == pytest.approx(
            expected, abs=1e-4)

    def test_power_by_simulation(self):
        values = np.random.default_rng(3).normal(1.77, 3.5, (20000, 5))
        found = stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05
        # Binomial: standard deviation 0.0025.
        assert abs(power(1.77, 3.5, 5) - found.mean()) < 0.01

    @pytest.mark.parametrize('count', [2, 5, 10, 100])
    def test_least_detectable_difference_has_its_power(self, count):
        least = least_detectable(2.5, count)
        assert power(least, 2.5, count) == pytest.approx(0.8, abs=1e-6)
        assert power(0.9 * least, 2.5, count) < 0.8

    def test_no_power_without_spread(self):
        for count, std in ((1, 1.0), (5, 0.0), (5, float('nan'))):
            assert math.isnan(power(1.0, std, count))
            assert math.isnan(least_detectable(std, count))

    def test_correlation_by_hand(self):
        x, y = [0, 1, 2, 3], [1, 3, 2, 5]
        fit = correlation(x, y)
        # Sums of products about the means: 5.5, 5 and 8.75.
        assert fit.r2 == pytest.approx(5.5**2 / (5 * 8.75))
        assert fit.p_value == pytest.approx(stats.linregress(x, y).pvalue)
        # Fisher: tanh(artanh(r) +- 1.959964 / sqrt(4 - 3)). The interval of r
        # holds 0, so that of its square begins there.
        low, high = (
            math.tanh(math.atanh(fit.r) + sign * 1.959964) for sign in (-1, 1))
        assert fit.r_interval == pytest.approx((low, high), abs=1e-6)
        assert low < 0
        assert fit.r2_interval == pytest.approx((0, high**2), abs=1e-6)

    @pytest.mark.parametrize('r_interval, expected',
                             [((0.5, 0.8), (0.25, 0.64)),
                              ((-0.8, -0.5), (0.25, 0.64)),
                              ((-0.8, 0.1), (0.0, 0.64))])
    def test_interval_of_the_square(self, r_interval, expected):
        fit = Correlation(9, 0.0, r_interval, 0.5)
        assert fit.r2_interval == pytest.approx(expected)

    def test_interval_of_correlation_covers_the_truth(self):
        rng = np.random.default_rng(5)
        covered = 0
        for _ in range(400):
            x = rng.normal(size=7)
            y = 0.75 * x + math.sqrt(1 - 0.75**2) * rng.normal(size=7)
            low, high = correlation(x, y).r_interval
            covered += low <= 0.75 <= high
        # Binomial: 380, standard deviation 4.4.
        assert abs(covered - 380) < 18

    def test_falling_line(self):
        fit = correlation([1, 2, 3, 4], [4, 3, 2, 1])
        assert fit.r == pytest.approx(-1)
        assert fit.r_interval == pytest.approx((-1, -1))

    @pytest.mark.parametrize('x, y', [([1, 2], [1, 2]), ([], []),
                                      ([1, 1, 1], [1, 2, 3]),
                                      ([0.3 - 0.2, 0.2 - 0.1, 0.1], [1, 2, 3]),
                                      ([1, 2, float('nan')], [1, 2, 3])])
    def test_undefined_correlation(self, x, y):
        fit = correlation(x, y)
        assert math.isnan(fit.r) and math.isnan(fit.p_value)
        assert all(map(math.isnan, fit.r2_interval))


def weight_of(runs, *row):
    """Which weight the grid chooses for a method."""
    return best_weight(grid_scores(runs, Row(*row)))


class TestSelection:

    def test_best_mean_on_val_wins(self):
        runs = [
            make_run('grid', 'tcal', seed, value, 1.5, weight)
            for weight, values in ((1.0, (0.1, 0.1)), (4.0, (0.2, 0.25)),
                                   (16.0, (0.3, 0.1)))
            for seed, value in enumerate(values)
        ]
        assert weight_of(runs, 'tcal', 1.5) == 4

    def test_smaller_weight_wins_a_tie(self):
        runs = [
            make_run('grid', 'kd', 0, 0.2, None, weight)
            for weight in (16.0, 1.0, 4.0)
        ]
        assert weight_of(runs, 'kd') == 1

    def test_only_finished_runs_of_the_grid_on_val_count(self):
        best = make_run('grid', 'kd', 0, 0.9, None, 16.0)
        runs = [
            make_run('grid', 'kd', 0, 0.2, None, 1.0),
            make_run('grid', 'kd', 0, 0.1, None, 4.0, test=best['test']),
            failed(best),
            dict(best, status='interrupted'),
            dict(best, stage='seeds'),
            dict(best, val=None),
        ]
        assert weight_of(runs, 'kd') == 1

    def test_rows_are_told_apart(self):
        runs = [
            make_run('grid', 'tcal', 0, 0.2, 1.2, 1.0),
            make_run('grid', 'tcal', 0, 0.1, 1.2, 4.0, fitted=True)
        ]
        assert weight_of(runs, 'tcal', 1.2) == 1
        assert weight_of(runs, 'tcal', 1.2, True) == 4
        assert weight_of(runs, 'tcal', 1.5) is None
        assert weight_of(runs, 'dkd', 1.2) is None

    def test_no_calibrator_is_a_temperature_of_1(self):
        runs = [make_run('grid', 'tcal', 0, 0.2, None, 4.0)]
        assert weight_of(runs, 'tcal', 1.0) == 4

    def test_edge_of_the_grid(self):
        scores = {1.0: 0.1, 4.0: 0.2, 16.0: 0.1}
        assert is_at_edge(scores, 1.0) and is_at_edge(scores, 16.0)
        assert not is_at_edge(scores, 4.0)

    def test_grid_table_marks_choice_and_edge(self):
        runs = [
            make_run('grid', 'kd', 0, value, None, weight)
            for weight, value in ((1.0, 0.2), (4.0, 0.3), (16.0, 0.1))
        ] + [
            make_run('grid', 'dkd', 0, value, None, weight)
            for weight, value in ((1.0, 0.2), (16.0, 0.3))
        ]
        table = report.TABLES['grid'](dict(EMPTY, runs=runs))
        assert cells(table, 'KD') == ['20.0', '**30.0**', '10.0']
        assert cells(table, 'DKD') == ['20.0', 'n/a', '**30.0**\\*']
        assert grid_scores(runs, Row('dkd')) == {1.0: 0.2, 16.0: 0.3}

    def test_grid_table_says_how_far_the_chosen_fall(self):
        runs = [
            make_run('grid', 'kd', 0, value, None, weight)
            for weight, value in ((4.0, 0.3), (16.0, 0.2))
        ]
        runs += [make_run('grid', 'dkd', 0, 0.3, None, 4.0)]
        runs += [make_run('grid', 'baseline', 0, 0.1)]
        # On val: 0.25, and 0.4 at a weight that was not chosen.
        runs += [
            make_run(
                'seeds', 'kd', seed, value, None, 4.0, test=dict(mAP=0.9))
            for seed, value in ((1, 0.2), (2, 0.3))
        ]
        runs += [make_run('seeds', 'kd', 1, 0.4, None, 16.0)]
        runs += [make_run('seeds', 'dkd', 1, 0.1, None, 4.0)]
        table = report.TABLES['grid'](dict(EMPTY, runs=runs))
        assert 'chosen cells fall by 12.5 on average (5.0 to 20.0).' in table
        runs += [make_run('seeds', 'baseline', 1, 0.08)]
        table = report.TABLES['grid'](dict(EMPTY, runs=runs))
        assert '(5.0 to 20.0), the baseline by 2.0.' in table


class TestMethods:

    def test_main_table_by_hand(self, results):
        table = report.TABLES['main'](results)
        # 10, 20, 30: standard deviation 10; minus 10 each. Half the interval
        # is 4.302653 x 10 / sqrt(3) = 24.84.
        row = cells(table, 'TCal, T = 1.5')
        assert row[:3] == ['4', '3', '20.0 ± 10.0']
        assert row[5] == '5.00 ± 0.00'
        assert row[7] == '90.0 ± 0.0'
        assert row[-1] == '+10.00 [-14.84, +34.84]'
        assert cells(table, 'Baseline')[-1] == ''

    def test_another_teacher_does_not_count(self, results):
        before = main_entries(results)
        results['runs'].append(
            make_run('seeds', 'kd', 1, 0.9, None, 1.0, teacher='another_e12'))
        assert main_entries(results) == before

    def test_rows_are_ordered_from_simple_to_involved(self, results):
        assert [entry.row.label for entry in main_entries(results)] == [
            'Baseline', 'KD', 'TCal, T = 1', 'TCal, T = 1.5', 'WTTM', 'DKD',
            'DKD, T = 1.5'
        ]

    def test_fitted_row_says_so(self):
        assert Row('tcal', 1.2345, True).label == 'TCal, fitted T = 1.23'

    def test_differences_name_the_weights_of_a_method_that_has_several(self):
        runs = [
            make_run('bccd', 'tcal', seed, value, temperature, weight)
            for temperature, weight, value in ((1.0, 4.0, 0.1),
                                               (1.0, 16.0, 0.2), (1.5, 16.0,
                                                                  0.4))
            for seed in (1, 2)
        ]
        table = report.TABLES['bccd-differences'](dict(EMPTY, runs=runs))
        for weight, difference in ((4, '+30.00'), (16, '+20.00')):
            # Twice the same: no spread, no interval.
            row = cells(table,
                        f'TCal, T = 1.5 vs. TCal, T = 1 (weight {weight})')
            assert row[1] == difference
        assert table.count(' vs. ') == 2

    def test_differences(self, results):
        pairs = [(entry.row.label, other.row.label)
                 for entry, other in contrasts(main_entries(results))]
        assert pairs == [('TCal, T = 1.5', 'TCal, T = 1'),
                         ('TCal, T = 1.5', 'KD'), ('WTTM', 'TCal, T = 1.5'),
                         ('DKD, T = 1.5', 'DKD')]
        table = report.TABLES['differences'](results)
        row = cells(table, 'DKD, T = 1.5 vs. DKD')
        # 10, 20, 0
        p_value = stats.ttest_1samp([0.1, 0.2, 0.0], 0).pvalue
        assert row[:3] == ['3', '+10.00 [-14.84, +34.84]', f'{p_value:.3f}']
        # The smallest of three tests; WTTM is the same as TCal, no test.
        others = [
            stats.ttest_1samp(values, 0).pvalue
            for values in ([0.0, 0.0, 0.1], [-0.1, 0.0, 0.0])
        ]
        assert p_value < min(others)
        assert row[3] == f'{3 * p_value:.3f}'
        assert cells(table, 'WTTM vs. TCal, T = 1.5')[2:4] == ['n/a', 'n/a']

    def test_fitted_temperature_is_compared_with_none(self, results):
        results['runs'] += [
            make_run('seeds', 'tcal', seed, 0.3, 1.2, 4.0, fitted=True)
            for seed in (1, 2)
        ]
        row = cells(report.TABLES['differences'](results),
                    'TCal, fitted T = 1.2 vs. TCal, T = 1')
        assert row[0] == '2'

    def test_equal_gradient_is_that_of_the_papers_method(self, results):
        # 4 x 0.0201 is nearly 8 x 0.01; half of it, and KD's 0.01, is not.
        entries = gradient_entries(results)
        assert [(entry.row.label, entry.weight, len(entry.runs))
                for entry in entries] == [('Baseline', None, 3),
                                          ('TCal, T = 1', 8.0, 1),
                                          ('TCal, T = 1.5', 4.0, 3)]
        table = report.TABLES['gradient'](results)
        assert cells(table, 'TCal, T = 1')[:4] == ['8', '0.08', '1', '30.0']
        assert cells(table, 'TCal, T = 1.5')[-2:] == [
            '+10.00 [-14.84, +34.84]', '-20.00'
        ]

    def test_equal_gradient_has_no_seeds_that_copies_lack(self, results):
        before = gradient_entries(results)
        results['runs'].append(
            make_run('confirmation', 'tcal', 15, 0.9, 1.5, 4.0))
        assert gradient_entries(results) == before

    def test_fitted_temperatures_pull_as_that_of_the_first_teacher(self):
        scales = [
            dict(
                method='tcal',
                temperature=temperature,
                fitted=fitted,
                rms_gradient=0.1)
            for temperature, fitted in ((1.5, False), (1.2, True))
        ]
        runs = [
            make_run(
                'copies', 'tcal', 6, 0.1, temperature, 4.0, fitted=fitted)
            for temperature, fitted in ((1.5, False), (1.3, True), (1.3,
                                                                    False))
        ]
        entries = gradient_entries(
            dict(EMPTY, runs=runs, gradient_scales=scales))
        assert [entry.row for entry in entries
                ] == [Row('tcal', 1.5),
                      Row('tcal', 1.3, True)]

    def test_setting_shows_what_was_changed(self, results):
        table = report.TABLES['setting'](results)
        row = cells(table, 'setting/baseline/None/None/seed0')
        assert row[2] == '`train_cfg.max_epochs=8`'
        assert cells(table, 'seeds/baseline, 3 seeds')[4] == '10.0 ± 0.0'

    @pytest.mark.parametrize('stage', ['grid', 'seeds', 'gradient', 'copies'])
    def test_runs_without_a_result_are_counted_and_never_averaged(
            self, results, stage):
        before = {name: make(results) for name, make in report.TABLES.items()}
        run = next(run for run in results['runs']
                   if run['stage'] == stage and run['method'] == 'tcal')
        results['runs'] += [
            failed(dict(run, seed=2, name='bad')),
            dict(failed(run), status='interrupted', error=None, name='cut')
        ]
        after = {name: make(results) for name, make in report.TABLES.items()}
        for name in set(after) - {'runs'}:
            assert after[name] == before[name]
        counts = [int(count) for count in cells(after['runs'], stage)[:3]]
        assert counts[1:] == [1, 1]
        assert counts[0] == sum(run['stage'] == stage
                                for run in results['runs']) - 2
        assert '- failed: `bad`: train.py ended with 1: no memory' in after[
            'runs']
        assert '- interrupted: `cut`\n' in after['runs'] + '\n'

    def test_repeats_count_in_hours_and_nowhere_else(self, results):
        before = {name: make(results) for name, make in report.TABLES.items()}
        run = results['runs'][0]
        run['repeats'] = [
            dict(
                started=1.0,
                status='finished',
                test=dict(mAP=0.125),
                commit='beef',
                wall_time_s=7200.0)
        ]
        after = {name: make(results) for name, make in report.TABLES.items()}
        for name in set(after) - {'runs'}:
            assert after[name] == before[name]
        count = len(results['runs'])
        assert cells(after['runs'], 'all')[-1] == f'{count + 2}.0'
        assert (f'`{run["name"]}` (test mAP '
                f'{100 * run["test"]["mAP"]:.1f}): finished, test mAP 12.5, '
                'commit `beef`') in after['runs']

    def test_runs_table_names_commits_and_stacks(self, results):
        count = len(results['runs'])
        table = report.TABLES['runs'](results)
        assert cells(table, 'all') == [str(count), '0', '0', '0', f'{count}.0']
        assert f'`0123abc` ({count} runs)' in table
        assert f'python 3.11.7, torch 2.1.2 ({count} runs)' in table

    def test_runs_table_says_what_is_not_known(self, results):
        runs = [
            make_run('copies', 'tcal', seed, 0.1, 1.0, 4.0, started=started)
            for seed, started in ((1, 1.5), (2, None), (3, None))
        ]
        runs[0]['attempts'] = 2
        table = report.TABLES['runs'](dict(EMPTY, runs=runs))
        assert 'Start not recorded: 2 of 3 runs (2 of `copies`).' in table
        assert 'not recorded: 1 of 3 runs (1 of `copies`).' in table

    def test_runs_of_an_earlier_plan_are_listed(self, results):
        runs = [
            make_run('confirmation', 'tcal', 6, 0.1, 1.0, 16.0, teacher=name)
            for name in (TEACHER, 'r18-half_e12')
        ]
        runs += [make_run('confirmation', 'baseline', 6, 0.2)]
        runs += [
            make_run('copies', 'tcal', 1, 0.3, 1.0, 16.0, teacher=name)
            for name in (CHECKPOINTS[0], 'r18-half_e4')
        ]
        runs += [dict(runs[-1], name='cut', status='interrupted')]
        table = report.TABLES['unplanned'](dict(EMPTY, runs=runs))
        rows = [line.split('|')[1:] for line in table.split('\n')[2:4]]
        assert [(row[2].strip(), row[4].strip())
                for row in rows] == [('r18-half_e12', '10.0'),
                                     ('r18-half_e4', '30.0')]
        assert table.count('`') == 4

    def test_seed_that_was_run_twice_is_one_seed(self):
        runs = [
            make_run('seeds', 'kd', seed, value)
            for seed, value in ((2, 0.1), (1, 0.2), (2, 0.3))
        ]
        assert by_seed(runs, 'test', 'mAP') == {1: 0.2, 2: 0.2}

    def test_undefined_figure_is_left_out(self, results):
        for run in results['runs']:
            if run['stage'] == 'seeds' and run['method'] == 'kd':
                run['test'] = dict(run['test'], **{'D-ECE': None})
        row = cells(report.TABLES['main'](results), 'KD')
        assert row[5] == 'n/a'
        assert row[2] == '23.3 ± 5.8'


class TestTeachers:

    def test_students_differ_in_nothing_but_the_teacher(self, results):
        points = taught_points(results)
        assert [(point.label, point.student('mAP').count)
                for point in points] == [('r18-half-s1_e2', 1),
                                         ('r18-half-s1_e4', 1),
                                         ('r18-half-s1_e12, T = 0.5', 1),
                                         ('r18-half-s1_e12', 1),
                                         ('r18-half-s1_e12, T = 1.5', 1)]
        # 0.2 at seed 7, and 0.3 at seed 8, do not count.
        assert points[-1].student('mAP').mean == pytest.approx(0.1)

    def test_students_are_compared_with_those_of_one_teacher(self, results):
        for run in results['runs']:
            # 0.1 of the teacher as it is, at every seed.
            if run['stage'] == 'confirmation' and run['temperature'] == 1.0:
                run['test'] = dict(run['test'], mAP=0.1)
        results['runs'] += [
            make_run('copies', 'tcal', seed, value, 1.0, 4.0, teacher=name)
            for name in (TEACHER, CHECKPOINTS[0], CHECKPOINTS[1])
            for seed, value in ((9, 0.1),
                                (10, 0.1 + 0.1 * (name == CHECKPOINTS[0])))
        ]
        # Leave the teachers that have the seeds 9 and 10.
        results['runs'] = [
            run for run in results['runs']
            if run['stage'] not in ('confirmation',
                                    'copies') or run['seed'] in (9, 10)
        ]
        table = report.TABLES['teacher-differences'](results)
        # 0 and 10: half the interval is 12.706205 x 5.
        row = cells(table, CHECKPOINTS[0])
        assert row[:2] == ['2', '+5.00 [-58.53, +68.53]']
        p_value = stats.ttest_1samp([0.0, 0.1], 0).pvalue
        # The other row has no spread, so no test.
        assert row[2] == f'{p_value:.3f}'
        assert cells(table, CHECKPOINTS[1])[1:3] == ['+0.00', 'n/a']
        assert TEACHER not in [
            line.split('|')[1].strip() for line in table.split('\n')
            if line.startswith('|')
        ]

    def test_table_says_how_uncertain_the_means_are(self, results):
        spreads = {1.0: (0.1, 0.2, 0.3), 1.5: (0.3, 0.5, 0.7)}
        spreads[0.5] = (0.1, 0.5, 0.9)
        results['runs'] = [
            make_run('confirmation', 'tcal', seed, value, temperature, 4.0)
            for temperature, values in spreads.items()
            for seed, value in enumerate(values, start=6)
        ]
        # 4.302653 x 10 / sqrt(3), twice and four times that.
        assert ('reach 24.8 to 99.4 to either side (median 49.7); the means '
                'span 30.0.') in report.TABLES['teachers'](
                    results)

    def test_scopes(self, results):
        assert {
            name: [point.label for point in points]
            for name, points in scopes(taught_points(results)[:4])
        } == {
            'all': [
                'r18-half-s1_e2', 'r18-half-s1_e4', 'r18-half-s1_e12, T = 0.5',
                'r18-half-s1_e12'
            ],
            'different checkpoints':
            ['r18-half-s1_e2', 'r18-half-s1_e4', 'r18-half-s1_e12'],
            'copies of r18-half-s1_e12':
            ['r18-half-s1_e12, T = 0.5', 'r18-half-s1_e12']
        }

    def test_r2_by_scipy(self, results):
        table = report.TABLES['r2'](results)
        rows = [[cell.strip() for cell in line.strip('|').split('|')]
                for line in table.split('\n') if line.startswith('|')]
        row = next(row for row in rows
                   if row[:2] == ['different checkpoints', 'ECE'])
        fit = stats.linregress([0.05, 0.04, 0.03], [0.05, 0.15, 0.1])
        assert row[2:5] == ['3', 'falling', f'{fit.rvalue**2:.2f}']
        assert row[6] == f'{fit.pvalue:.3f}'
        # Copies have the mAP of the teacher that they are made of.
        copies = next(row for row in rows
                      if row[:2] == [f'copies of {TEACHER}', 'mAP'])
        assert copies[3:] == ['n/a'] * 4

    def test_signed_miscalibration(self, results):
        results['teachers'][0].update(over=0.01, under=0.04)
        point = next(
            point for point in taught_points(results)
            if point.label == TEACHER)
        assert point.figure('miscalibration') == pytest.approx(-0.03)
        assert point.student_miscalibration().mean == pytest.approx(0.03)

    def test_inheritance_by_scipy(self, results):
        for run in results['runs']:
            if run['stage'] == 'copies':
                # D-ECE rises with mAP, its sign is that of under-confidence.
                value = run['test']['mAP']
                run['test'] = dict(
                    run['test'], **{
                        'D-ECE': value,
                        'D-ECE over': 0.0,
                        'D-ECE under': value
                    })
        points = scopes(taught_points(results))[0][1]
        x = [point.figure('miscalibration') for point in points]
        d_ece = [0.05, 0.15, 0.1, 0.05, 0.05]
        signed = [-0.05, -0.15, -0.1, 0.03, 0.03]
        for is_signed, y in ((False, d_ece), (True, signed)):
            fit = correlate_with_d_ece(points, 'miscalibration', is_signed)
            assert fit.r == pytest.approx(stats.pearsonr(x, y)[0])

    def test_teachers_without_students_are_shown_as_they_are(self, results):
        results['runs'] = []
        table = report.TABLES['teachers'](results)
        assert cells(table, TEACHER)[-3:] == ['0', 'n/a', 'n/a']
        assert 'T = 0.5' not in table and 'r18-half_e2' not in table
        assert report.TABLES['r2'](results) == NOT_MEASURED


class TestHeadlines:

    @staticmethod
    def row(table, label, data):
        for line in table.split('\n'):
            row = [cell.strip() for cell in line.strip('|').split('|')]
            if row[:2] == [label, data]:
                return row[2:]
        raise AssertionError(f'no row {label!r} of {data} in\n{table}')

    def test_same_weight_teacher_and_seeds(self):
        runs = [
            make_run('bccd', 'tcal', seed, value, temperature, 16.0)
            for temperature, values in ((1.0, (0.1, 0.2, 0.3)), (3.0, (0.2,
                                                                       0.4)))
            for seed, value in enumerate(values, start=1)
        ]
        for run in runs:
            run['val'] = dict(run['val'], mAP=0.5)
            if run['temperature'] == 3.0:
                run['test'] = dict(run['test'], LRP_0=0.95)
        # None of these is of the comparison.
        runs += [
            make_run('bccd', 'tcal', 1, 0.9, 3.0, 4.0),
            make_run('bccd', 'tcal', 3, 0.9, 3.0, 16.0, teacher='another'),
            make_run('bccd', 'tcal', 3, 0.9, 3.0, 16.0, fitted=True),
            make_run('seeds', 'tcal', 3, 0.9, 3.0, 16.0),
            failed(make_run('bccd', 'tcal', 3, 0.9, 3.0, 16.0)),
        ]
        results = dict(EMPTY, runs=runs)
        row = self.row(report.TABLES['headlines'](results), 'T = 3 vs. T = 1',
                       'BCCD')
        # 10 and 20: standard deviation 7.07, half the interval 12.706205 x 5.
        assert row == [
            '2', '+15.00 [-48.53, +78.53]', '+0.00', '7.07', '+0.00', '+0.00',
            '+5.0'
        ]
        assert self.row(report.TABLES['short'](results), 'T = 3 vs. T = 1',
                        'BCCD') == [*row[:3], row[-1]]

    def test_halves_of_the_fresh_seeds(self):
        runs = [
            make_run('confirmation', 'tcal', seed, value, temperature, 16.0)
            for seed in range(6, 16)
            for temperature, value in ((1.0, 0.1), (3.0,
                                                    0.2 if seed < 11 else 0.4))
        ]
        table = report.TABLES['headlines'](dict(EMPTY, runs=runs))
        halves = ('The same, its first five seeds',
                  'The same, its last five seeds')
        assert self.row(table, 'T = 3 vs. T = 1', 'digits')[0] == '10'
        assert [self.row(table, label, 'digits')[:2]
                for label in halves] == [['5', '+10.00'], ['5', '+30.00']]

    def test_power_table_by_hand(self):
        runs = [
            make_run('bccd', 'tcal', seed, value, temperature, 4.0)
            for temperature, values in ((1.0, (0.1, 0.1,
                                               0.1)), (1.5, (0.1, 0.2, 0.3)),
                                        (3.0, (0.1, 0.1, 0.4)))
            for seed, value in enumerate(values, start=1)
        ]
        table = report.TABLES['power'](dict(EMPTY, runs=runs))
        # Variances 100 and 300 of three differences each.
        std = math.sqrt(200)
        row = cells(table, 'BCCD')
        assert row[:3] == ['2', '3', f'{std:.2f}']
        assert float(row[3]) == pytest.approx(
            least_detectable(std, 3), abs=0.05)
        assert row[4:] == [
            f'{100 * power(gain, std, 3):.0f} %' for gain in (0.68, 1.77)
        ]
        assert 'first comparison' not in table


class TestBlocks:
    TEXTS = dict(main='| new |', runs='none')

    def test_only_blocks_change(self):
        text = ('# Title\r\n<!-- study:main -->old\n\n<!-- /study:main -->'
                '  between\t\n<!--study:runs--><!--/study:runs--> end')
        expected = ('# Title\r\n<!-- study:main -->\n\n| new |\n\n'
                    '<!-- /study:main -->  between\t\n<!--study:runs-->\n\n'
                    'none\n\n<!--/study:runs--> end')
        assert fill_blocks(text, self.TEXTS, 'doc.md') == expected
        assert fill_blocks(expected, self.TEXTS, 'doc.md') == expected

    def test_text_without_blocks(self):
        assert fill_blocks('no marks\n', self.TEXTS, 'doc.md') == 'no marks\n'

    @pytest.mark.parametrize('text, message', [
        ('\n<!-- study:mian --><!-- /study:mian -->',
         'line 2.*main, runs.*study:mian'),
        ('<!-- study:main table -->', 'study:main table'),
        ('<!-- study:main -->\nold', 'no `<!-- /study:main -->`'),
        ('<!-- study:main --><!-- study:runs --><!-- /study:runs -->',
         '`<!-- /study:main -->` must come first'),
        ('<!-- study:main --><!-- /study:runs -->', 'must come first'),
        ('<!-- /study:main -->', 'no block is open'),
    ])
    def test_user_errors(self, text, message):
        with pytest.raises(InvalidValueError, match=message):
            fill_blocks(text, self.TEXTS, 'doc.md')


class TestReport:

    @pytest.fixture
    def arguments(self, tmp_path, monkeypatch):
        """Call the command with files of its own."""
        paths = dict(
            results=tmp_path / 'results.json',
            doc=tmp_path / 'study.md',
            readme=tmp_path / 'README.md',
            images=tmp_path / 'images')
        blocks = (f'<!-- study:{name} -->\n<!-- /study:{name} -->\n'
                  for name in report.TABLES)
        paths['doc'].write_text('# Study\n' + ''.join(blocks))
        paths['readme'].write_text('# README\n')
        monkeypatch.setattr(
            sys, 'argv', ['report.py'] +
            [f'--{name}={path}' for name, path in paths.items()])
        return paths

    def test_whole_study(self, arguments, results):
        arguments['results'].write_text(json.dumps(results))
        report.main()
        text = arguments['doc'].read_text()
        for make in report.TABLES.values():
            assert f'\n\n{make(results)}\n\n' in text
        assert NOT_MEASURED not in text
        assert arguments['readme'].read_text() == '# README\n'
        assert sorted(path.name
                      for path in arguments['images'].iterdir()) == sorted(
                          f'study_{name}.png' for name in report.FIGURES)

    def test_nothing_was_run_yet(self, arguments):
        arguments['results'].write_text('{"runs": []}')
        report.main()
        text = arguments['doc'].read_text()
        assert text.count(NOT_MEASURED) == len(report.TABLES)
        assert len(list(arguments['images'].iterdir())) == len(report.FIGURES)

    @pytest.mark.parametrize(
        ('stage', 'measured'),
        [('setting', {'setting'}), ('teachers', {'setting'}),
         ('grid', {'grid'}),
         ('seeds', {'setting', 'main', 'differences', 'power'}),
         ('confirmation', {
             'confirmation-main', 'confirmation-differences', 'gradient', 'r2',
             'inheritance', 'teacher-differences', 'power'
         }), ('gradient', set()),
         ('copies', {'r2', 'inheritance', 'unplanned'}),
         ('bccd',
          {'bccd-main', 'bccd-differences', 'headlines', 'short', 'power'})])
    def test_one_stage_alone(self, results, stage, measured):
        for gradients in ([], results['gradient_scales']):
            part = dict(
                results,
                runs=[run for run in results['runs'] if run['stage'] == stage],
                gradient_scales=gradients)
            made = {
                name
                for name, make in report.TABLES.items()
                if make(part) != NOT_MEASURED
            }
            # Teachers have figures of their own.
            expected = measured | {'runs', 'teachers'}
            assert made == (expected if gradients else expected - {'gradient'})
            for draw in report.FIGURES.values():
                draw(part)

    @pytest.mark.parametrize('name', ['main', 'confirmation', 'bccd'])
    def test_lrp_stands_beside_d_ece(self, results, name):
        axes = report.FIGURES[name](results).axes
        assert [panel.get_xlabel() for panel in axes] == [
            'mAP on test (%)', 'D-ECE on test (%)', 'LRP_0 on test (%)'
        ]

    def test_figures_are_deterministic(self, results):
        figures = [
            report.FIGURES['inheritance'](results).canvas for _ in range(2)
        ]
        for canvas in figures:
            canvas.draw()
        assert np.array_equal(*(canvas.buffer_rgba() for canvas in figures))

    def test_bad_document_leaves_all_files_as_they_were(
            self, arguments, results):
        arguments['results'].write_text(json.dumps(results))
        arguments['readme'].write_text('<!-- study:main -->')
        before = arguments['doc'].read_text()
        with pytest.raises(InvalidValueError, match='README.md'):
            report.main()
        assert arguments['doc'].read_text() == before
        assert not arguments['images'].exists()

    @pytest.mark.parametrize('text, message', [('{', 'is not: '),
                                               ('[]', 'with `runs`')])
    def test_results_that_are_none(self, tmp_path, text, message):
        path = tmp_path / 'results.json'
        path.write_text(text)
        with pytest.raises(InvalidValueError, match=message):
            report.read_results(str(path))

    def test_missing_results(self, tmp_path):
        with pytest.raises(MissingFileError, match='`--results`'):
            report.read_results(str(tmp_path / 'results.json'))

    def test_script_prints_one_line_about_a_mistake(self, tmp_path):
        process = subprocess.run(
            [sys.executable, report.__file__, '--results', 'missing.json'],
            cwd=str(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True)
        assert process.returncode == 2
        assert process.stderr == (
            'error: `--results` must be a file, but missing.json does not '
            'exist\n')


RESULTS = osp.join(report.REPOSITORY, 'benchmarks/study/results.json')


@pytest.mark.skipif(
    not osp.isfile(RESULTS), reason='the study has no results yet')
@pytest.mark.parametrize('document', ['docs/study.md', 'README.md'])
def test_documents_say_what_the_results_say(document):
    results = report.read_results(RESULTS)
    texts = {name: make(results) for name, make in report.TABLES.items()}
    with open(
            osp.join(report.REPOSITORY, document), encoding='utf-8',
            newline='') as file:
        text = file.read()
    assert fill_blocks(text, texts, document) == text
