"""The analysis of the classifier twin, on rows that are made up."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression

from benchmarks.study.classifiers import estimates
from benchmarks.study.classifiers.analysis import NOTHING, tables
# yapf: disable
from benchmarks.study.classifiers.estimates import (Estimate, bootstrap, mean,
                                                    paired_t,
                                                    partial_r_squared,
                                                    r_squared,
                                                    r_squared_difference,
                                                    slope, slope_given)
# yapf: enable
from benchmarks.study.classifiers.figure import classifier_figure
from benchmarks.study.classifiers.findings import (interventions,
                                                   oracle_differences, primary,
                                                   teachers_of)
from benchmarks.study.classifiers.plan import (ARMS, HARD_ARM, PLAN,
                                               oracle_arm, student_name,
                                               teacher_name)
from benchmarks.study.classifiers.verdicts import (Condition, explanations,
                                                   verdict)

SEEDS = PLAN.student_seeds
FIGURES = ('ace', 'accuracy', 'nll', 'kl', 'non_target_variance', 'entropy')


@pytest.fixture
def few_resamples(monkeypatch):
    """Where an interval's ends are not what is tested."""
    monkeypatch.setattr(estimates, 'NUM_RESAMPLES', 500)


def student(unit, arm, seed, accuracy):
    figures = dict(accuracy=accuracy, noisy_accuracy=0.5, nll=1.0, ece=0.1)
    return dict(
        kind='student',
        name=student_name(unit, arm, seed),
        teacher=unit.name if unit.kind == 'teacher' else None,
        arm=arm,
        seed=seed,
        temperature=1.0,
        val=figures,
        test=figures)


def made_up(seed=0, ace_counts=0.0, gains=None, oracle=None):
    """Rows of the whole plan.

    Args:
        seed (int): Random seed.
        ace_counts (float): How far a student's accuracy follows ACE rather
            than the teacher's accuracy, in [0, 1].
        gains (Callable): Of an arm, a teacher's settings and the ACE that
            the arm removes.
        oracle (dict): Accuracy by temperature.
    """
    rng = np.random.default_rng(seed)
    rows = []
    gains = gains or (lambda arm, teacher, removed: 0.0)
    oracle = oracle or {}
    for unit in PLAN.units:
        if unit.kind == 'teacher':
            figures = {
                arm: {
                    name: rng.uniform(0.1, 0.2)
                    for name in FIGURES
                }
                for arm in ARMS
            }
            plain = figures['t1']
            base = 0.6 + (1 - ace_counts) * plain['accuracy'] - (
                ace_counts * plain['ace'])
            rows.append(
                dict(
                    kind='teacher',
                    name=teacher_name(unit),
                    teacher=unit.name,
                    fitted_temperature=rng.uniform(0.5, 2.5),
                    figures=figures,
                    **vars(unit.teacher)))
            for arm in ARMS:
                removed = plain['ace'] - figures[arm]['ace']
                gain = gains(arm, unit.teacher, removed)
                for place in SEEDS:
                    rows.append(
                        student(unit, arm, place,
                                base + gain + rng.normal(0, 0.001)))
        elif unit.kind == 'oracle':
            for temperature in PLAN.oracle_temperatures:
                for place in SEEDS:
                    rows.append(
                        student(
                            unit, oracle_arm(temperature), place,
                            oracle.get(temperature, 0.7) +
                            rng.normal(0, 0.002)))
        else:
            rows += [student(unit, HARD_ARM, place, 0.5) for place in SEEDS]
    return rows


pairs = st.integers(
    0, 1000).map(lambda seed: np.random.default_rng(seed).normal(size=(3, 12)))


@settings(max_examples=40, deadline=None)
@given(pairs)
def test_lines_are_those_of_scipy_and_scikit_learn(samples):
    x, y, z = samples
    line = stats.linregress(x, y)
    assert slope(x, y) == pytest.approx(line.slope)
    assert r_squared(x, y) == pytest.approx(line.rvalue**2)
    both = np.stack([x, z], axis=1)
    plane = LinearRegression().fit(both, y)
    assert slope_given(x, y, z) == pytest.approx(plane.coef_[0])
    alone = LinearRegression().fit(z[:, None], y).score(z[:, None], y)
    assert partial_r_squared(x, y, z) == pytest.approx(
        (plane.score(both, y) - alone) / (1 - alone))
    assert r_squared_difference(x, y,
                                z) == pytest.approx(line.rvalue**2 - alone)


@settings(max_examples=40, deadline=None)
@given(pairs, st.floats(0.5, 3), st.floats(-5, 5))
def test_r_squared_does_not_know_units(samples, factor, shift):
    x, y, z = samples
    moved = -factor * x + shift
    assert r_squared(moved, y) == pytest.approx(r_squared(x, y))
    assert partial_r_squared(moved, y,
                             z) == pytest.approx(partial_r_squared(x, y, z))
    assert slope(moved, y) == pytest.approx(-slope(x, y) / factor)


def test_statistics_of_resamples_are_those_of_each():
    drawn = np.random.default_rng(0).normal(size=(3, 5, 9))
    for statistic, count in ((slope, 2), (r_squared, 2), (slope_given, 3),
                             (partial_r_squared, 3), (mean, 1)):
        at_once = statistic(*drawn[:count])
        single = [statistic(*drawn[:count, place]) for place in range(5)]
        assert at_once == pytest.approx(np.array(single))


def test_the_interval_is_that_of_scipys_bootstrap():
    rng = np.random.default_rng(1)
    x = rng.normal(size=24)
    y = x + rng.normal(size=24)
    ours = bootstrap(r_squared, x, y)
    theirs = stats.bootstrap((x, y),
                             lambda a, b, axis: r_squared(a, b),
                             paired=True,
                             vectorized=True,
                             method='percentile',
                             n_resamples=10000,
                             random_state=2).confidence_interval
    assert ours.value == pytest.approx(r_squared(x, y))
    # Of a spread of about 0.3; each end has a Monte Carlo error of 0.005.
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.02)


def test_the_interval_by_hand(monkeypatch):
    """Means of resamples that are known beforehand."""

    class Known:

        def integers(self, high, size):
            assert (high, size) == (5, (10000, 5))
            return np.repeat(np.arange(10000)[:, None] % 5, 5, axis=1)

    monkeypatch.setattr(estimates.np.random, 'default_rng', lambda _: Known())
    found = bootstrap(mean, [0, 10, 20, 30, 40])
    assert found == Estimate(20, 0, 40)


def test_few_teachers_get_no_interval():
    found = bootstrap(mean, [1.0, 2.0, 6.0])
    assert found.value == 3 and math.isnan(found.low)
    assert found.sign == 0
    assert math.isnan(bootstrap(mean, []).value)
    assert paired_t([2.0]).sign == 0 and math.isnan(paired_t([]).value)


def test_paired_t_is_scipys():
    values = np.random.default_rng(0).normal(1, 1, size=10)
    result = stats.ttest_1samp(values, 0)
    interval = result.confidence_interval(0.95)
    assert paired_t(values) == pytest.approx((values.mean(), *interval))


@pytest.mark.parametrize(('ace_counts', 'answer'), [(1.0, 'yes'), (0.0, 'no'),
                                                    (0.5, 'not settled')])
def test_the_primary_verdict(ace_counts, answer):
    teachers = teachers_of(made_up(ace_counts=ace_counts))
    difference, found = primary(teachers)
    assert found == answer
    ace = [row['figures']['t1']['ace'] for row in teachers.rows]
    accuracy = [row['figures']['t1']['accuracy'] for row in teachers.rows]
    students = teachers.accuracy['t1']
    assert difference.value == pytest.approx(
        stats.linregress(ace, students).rvalue**2 -
        stats.linregress(accuracy, students).rvalue**2)


def test_a_student_that_rises_with_the_error_is_no_confirmation():
    """R^2 with ACE is near 1, but the line has the wrong sign."""
    teachers = teachers_of(made_up(ace_counts=1.0))
    teachers.accuracy['t1'] = -teachers.accuracy['t1']
    difference, answer = primary(teachers)
    assert difference.sign == 1 and answer == 'not settled'


def test_students_of_a_teacher_are_averaged():
    rows = made_up()
    name = PLAN.teachers[3].name
    own = [
        100 * row['test']['accuracy'] for row in rows
        if row['kind'] == 'student' and row['teacher'] == name
        and row['arm'] == 't3'
    ]
    teachers = teachers_of(rows)
    place = [row['teacher'] for row in teachers.rows].index(name)
    assert len(own) == 10
    assert teachers.accuracy['t3'][place] == pytest.approx(np.mean(own))


def test_interventions_find_what_was_put_in(few_resamples):

    def gains(arm, teacher, removed):
        if arm == 'fitted':
            return 0.4 * removed
        if arm == 't3':
            return 0.03 if teacher.data == 'seen' else 0.01
        return 0.0

    teachers = teachers_of(made_up(gains=gains))
    found = interventions(teachers)
    # 0.4 points of accuracy for each point of ACE.
    for name in ('slope over ACE', 'slope over ACE given log T'):
        assert found[name].value == pytest.approx(0.4, abs=0.02)
        assert found[name].sign == 1
    assert found['t3, seen'].value == pytest.approx(3, abs=0.05)
    assert found['t3, unseen'].value == pytest.approx(1, abs=0.05)
    assert found['t3, seen - unseen'].value == pytest.approx(2, abs=0.1)
    assert found['t3'].value == pytest.approx(2, abs=0.05)
    cold = [row['fitted_temperature'] < 1 for row in teachers.rows]
    assert found['sharpened'].value == pytest.approx(
        teachers.gain('fitted')[cold].mean())


def test_seen_and_unseen_teachers_pair_by_their_cell(few_resamples):
    """A gain that depends on the cell alone leaves nothing between them."""

    def gains(arm, teacher, removed):
        return (arm == 't3') * (teacher.epochs / 1000 + teacher.width / 5000)

    found = interventions(teachers_of(made_up(gains=gains)))
    assert found['t3, seen - unseen'].value == pytest.approx(0, abs=0.1)
    # The spread of the cells, 10 points, is in neither end.
    assert found['t3, seen - unseen'].high < 0.2


def test_oracle_differences_are_paired_and_corrected():
    rows = made_up(oracle={0.5: 0.695, 3.0: 0.68})
    found = oracle_differences(rows)
    assert list(found) == [0.5, 1.5, 3.0]
    values = {
        temperature:
        np.array([
            100 * row['test']['accuracy'] for row in rows
            if row.get('arm') == oracle_arm(temperature)
        ])
        for temperature in PLAN.oracle_temperatures
    }
    raw = {
        temperature: stats.ttest_rel(values[temperature], values[1.0]).pvalue
        for temperature in found
    }
    order = sorted(raw, key=raw.get)
    smallest = order[0]
    assert found[smallest][1] == pytest.approx(3 * raw[smallest])
    difference = values[3.0] - values[1.0]
    assert found[3.0][0] == pytest.approx(paired_t(difference))


@pytest.mark.parametrize(('gains', 'oracle', 'expected'), [
    (dict(fitted=lambda data, removed: 0.4 * removed), {
        0.5: 0.69,
        3.0: 0.69
    }, dict(calibration='holds', softness='contradicted')),
    (dict(t3=lambda data, removed: 0.02), {
        3.0: 0.72
    },
     dict(
         calibration='contradicted',
         softness='holds',
         memorisation='contradicted')),
    (dict(t3=lambda data, removed: 0.02 * (data == 'seen')), {},
     dict(calibration='not shown', softness='not shown',
          memorisation='holds')),
])
def test_explanations(gains, oracle, expected, few_resamples):

    def gain(arm, teacher, removed):
        if arm == 't1':
            return 0.0
        return gains.get(arm, lambda *_: 0.0)(teacher.data, removed)

    rows = made_up(seed=4, gains=gain, oracle=oracle)
    found = explanations(teachers_of(rows), rows)
    for name, answer in expected.items():
        assert verdict(found[name]) == answer, found[name]


def test_verdict_by_hand():
    states = {(1, 1): 'holds', (1, 0): 'not shown', (0, -1): 'contradicted'}
    for state, answer in states.items():
        assert verdict([Condition('', each) for each in state]) == answer


def test_tables_do_not_depend_on_the_order_of_rows(few_resamples):
    rows = made_up()
    shuffled = [
        rows[place]
        for place in np.random.default_rng(1).permutation(len(rows))
    ]
    assert tables(shuffled) == tables(rows)


def test_tables_name_what_is_complete(few_resamples):
    rows = made_up(ace_counts=1.0)
    found = tables(rows)
    assert found['classifiers'].startswith('**Yes**')
    assert '(24 of 24 teachers, 770 of 770 students)' in found['classifiers']
    assert len(found['classifiers_teachers'].splitlines()) == 2 + 24
    row = next(row for row in teachers_of(rows).rows)
    assert (f'| {row["teacher"]} ' in found['classifiers_teachers'])
    assert '| hard labels | 50.0 +- 0.0 |' in ' '.join(
        found['classifiers_oracle'].split())


@pytest.mark.parametrize('num_units', [0, 1, 2, 5])
def test_tables_and_figure_of_a_run_that_was_stopped(num_units, few_resamples):
    names = [unit.name for unit in PLAN.units[:num_units]]
    rows = [row for row in made_up() if row['name'].split('/')[1] in names]
    found = tables(rows)
    if num_units == 0:
        assert set(found.values()) == {NOTHING}
    assert not any('nan' in text for text in found.values())
    figure = classifier_figure(rows)
    figure.canvas.draw()


def test_the_figure_has_a_mark_for_each_teacher(few_resamples):
    rows = made_up()
    teachers = teachers_of(rows)
    over_ace, _, removed, oracle = classifier_figure(rows).axes
    marks = np.concatenate(
        [line.get_xydata() for line in over_ace.get_lines()])
    expected = np.stack(
        [100 * teachers.figure('ace'), teachers.accuracy['t1']], axis=1)
    np.testing.assert_allclose(
        np.sort(marks, axis=0), np.sort(expected, axis=0))
    labels = [text.get_text() for text in oracle.get_xticklabels()]
    assert labels[:2] == ['p*, T = 0.5', 'p*, T = 1']
    assert labels[-1] == 'hard labels'
