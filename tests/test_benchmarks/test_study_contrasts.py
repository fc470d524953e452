"""What the study compares, the blind look, and the mixed model."""
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from benchmarks.study import blind_spread, data, plan
from benchmarks.study.contrasts import (FOCAL, INTERACTION, PRIMARY, SECONDARY,
                                        TEST_TO_TRAIN, Contrast, Side,
                                        arm_name, spread_of)
from benchmarks.study.mixed_model import fit_mixed_model
from tcal_det.errors import InvalidValueError
from tests.study_rows import make_arm, make_row

ALL = PRIMARY + FOCAL + SECONDARY
PLANNED = [
    run for name, block in plan.BLOCKS.items() if name != 'T'
    for run in block.runs
]
fractions = st.integers(0, 1000).map(lambda value: value / 1000)


def sides_of(contrast):
    return (contrast.side, contrast.reference, *(contrast.change or ()))


def test_every_side_is_in_the_plan():
    planned = {(run.block, run.arm) for run in PLANNED}
    compared = {side[:2] for contrast in ALL for side in sides_of(contrast)}
    assert compared == planned


def test_every_contrast_has_pairs_once_the_plan_is_made():
    rows = [
        make_row(
            run.block, run.arm, run.seed, fold=run.fold, teacher=run.teacher)
        for run in PLANNED
    ]
    counts = {contrast: len(contrast.differences(rows)) for contrast in ALL}
    assert min(counts.values()) >= 3
    assert [counts[contrast] for contrast in PRIMARY] == [42, 12, 12]
    assert [counts[contrast] for contrast in FOCAL] == [10, 10, 10]
    assert counts[INTERACTION] == 8


def test_share_of_test_images_is_that_of_the_folds():
    """Of all but one fold, whose test part has an image less."""
    images = [dict(id=number) for number in range(364)]
    folds = data.split_in_folds(
        [dict(images=images, annotations=[], categories=[])])
    shares = [
        len(parts['test']['images']) /
        (len(parts['teacher']['images']) + plan.BCCD_STUDENT_IMAGES)
        for parts in folds
    ]
    assert np.median(shares) == pytest.approx(TEST_TO_TRAIN)
    assert shares == pytest.approx([TEST_TO_TRAIN] * 5, rel=0.02)


@pytest.mark.parametrize(('arm', 'name'), [('tcal-t1.5', 'T = 1.5'),
                                           ('kd', 'KD'),
                                           ('kd-w4', 'KD, weight 4'),
                                           ('new', 'new')])
def test_names_of_arms(arm, name):
    assert arm_name(arm) == name


def test_a_primary_contrast_by_hand():
    rows = [
        *make_arm('A', 'tcal-t1.5', [0.30, 0.34]),
        *make_arm('A', 'kd', [0.29, 0.31]),
        # Neither may count: another block, and a seed without a partner.
        make_row('D', 'kd', 201, 0.9),
        make_row('A', 'kd', 203, 0.9)
    ]
    found = PRIMARY[0].estimate(rows)
    assert PRIMARY[0].label == 'T = 1.5 - KD'
    assert (found.count, found.mean) == pytest.approx((2, 2.0))
    assert found.sd == pytest.approx(math.sqrt(2))


def test_the_interaction_by_hand():
    rows = [
        *make_arm('B', 'tcal-t3', [0.30, 0.30]),
        *make_arm('B', 'tcal-t1', [0.25, 0.27]),
        *make_arm('A', 'tcal-t3', [0.31, 0.29, 0.9]),
        *make_arm('A', 'tcal-t1', [0.30, 0.30, 0.1])
    ]
    # 5 - 1 and 3 - (-1); the third seed has no seen teacher.
    differences = INTERACTION.differences(rows)
    assert list(differences.values()) == pytest.approx([4.0, 4.0])


def differences_by_label(rows):
    return {
        contrast.label: list(contrast.differences(rows).values())
        for contrast in SECONDARY
    }


def test_a_contrast_of_one_teacher_has_its_seeds_only():
    rows = [
        make_row('A', 'tcal-t1', 201, 0.30, teacher='U1'),
        make_row('A', 'tcal-t1', 202, 0.40, teacher='U2'),
        *make_arm('A', 'hard', [0.20, 0.25])
    ]
    labels = differences_by_label(rows)
    assert labels['T = 1 - hard labels, U1 only'] == pytest.approx([10.0])
    assert labels['T = 1 - hard labels, U2 only'] == pytest.approx([15.0])


def test_a_contrast_of_one_seed_has_its_folds_only():
    rows = [
        make_row('F', arm, seed, 0.3 + gain * seed, fold=0)
        for arm, gain in (('as-is', 0.0), ('platt', 0.05)) for seed in (1, 2)
    ]
    labels = differences_by_label(rows)
    assert labels['Platt - raw teacher, seed 1 only'] == pytest.approx([5.0])
    assert labels['Platt - raw teacher, seed 2 only'] == pytest.approx([10.0])


def test_s1_is_compared_with_each_teacher():
    rows = [
        *make_arm('B', 'tcal-t1', [0.30, 0.30], teacher='S1'),
        make_row('A', 'tcal-t1', 201, 0.35, teacher='U1'),
        make_row('A', 'tcal-t1', 202, 0.32, teacher='U2')
    ]
    labels = differences_by_label(rows)
    assert labels['seen - U1, T = 1'] == pytest.approx([-5.0])
    assert labels['seen - U2, T = 1'] == pytest.approx([-2.0])


def test_val_and_other_figures_are_compared_alike():
    rows = make_arm('A', 'kd', [0.2, 0.2]) + make_arm('A', 'hard', [0.2, 0.2])
    rows[0]['val']['D-ECE'] = 0.6
    contrast = Contrast('KD - hard', Side('A', 'kd'), Side('A', 'hard'))
    values = contrast.differences(rows, 'D-ECE', 'val').values()
    assert list(values) == pytest.approx([10.0, 0.0])


def test_spread_by_hand():
    rows = [
        *make_arm('A', 'kd', [0.30, 0.32]),
        *make_arm('A', 'hard', [0.20, 0.20]),
        *make_arm('A', 'baseline', [0.25, 0.25]),
        make_row('A', 'tcal-t1', 201, 0.9)
    ]
    spread = spread_of(rows, 'A')
    # Two pairs of arms have differences 2 apart, one none; T = 1 has one run.
    assert spread.sd == pytest.approx(math.sqrt((2 + 2 + 0) / 3))
    assert (spread.pairs_of_arms, spread.freedom) == (3, 3)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(fractions, fractions, fractions), min_size=3, max_size=8),
    st.permutations(['baseline', 'kd', 'hard']),
    st.tuples(fractions, fractions, fractions))
def test_spread_is_blind_to_names_and_means(values, names, shifts):
    plain, other = [], []
    for seed, triple in enumerate(values):
        for arm, new, value, shift in zip(('baseline', 'kd', 'hard'), names,
                                          triple, shifts):
            plain.append(make_row('A', arm, seed, value))
            other.append(make_row('A', new, seed, value + shift))
    assert spread_of(other, 'A') == pytest.approx(spread_of(plain, 'A'))


def write_rows(path, rows):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return str(path)


def test_the_blind_look_tells_no_arm_and_no_mean(tmp_path, monkeypatch,
                                                 capsys):

    def look(gain):
        rows = [
            *make_arm('A', 'kd', [0.30 + gain, 0.33 + gain] * 5),
            *make_arm('A', 'hard', [0.20] * 10)
        ]
        path = write_rows(tmp_path / 'results.jsonl', rows)
        monkeypatch.setattr(sys, 'argv', ['blind_spread', '--results', path])
        blind_spread.main()
        return capsys.readouterr().out

    text = look(0.0)
    assert text == look(0.25)
    assert 'differences 1.58 mAP x 100, above 1.4' in text
    assert not any(arm in text for arm in ('kd', 'KD', 'hard'))


def test_the_blind_look_needs_ten_seeds_of_all_arms(tmp_path, monkeypatch):
    rows = [
        *make_arm('A', 'kd', [0.30, 0.33] * 5),
        *make_arm('A', 'hard', [0.20] * 9)
    ]
    path = write_rows(tmp_path / 'results.jsonl', rows)
    monkeypatch.setattr(sys, 'argv', ['blind_spread', '--results', path])
    with pytest.raises(InvalidValueError, match='has 9: make more runs'):
        blind_spread.main()


def balanced_rows(num_seeds=12, teachers=('U1', )):
    random = np.random.default_rng(5)
    rows = []
    for seed in range(num_seeds):
        level = random.normal(0.3, 0.05)
        teacher = teachers[seed % len(teachers)]
        for arm, gain in (('baseline', 0), ('kd', 0.02), ('tcal-t1', 0.04)):
            rows.append(
                make_row(
                    'A',
                    arm,
                    seed,
                    level + gain + random.normal(0, 0.01),
                    teacher=None if arm == 'baseline' else teacher))
    return rows


def test_the_mixed_model_of_complete_seeds_is_a_two_way_analysis():
    """The effect is the mean paired difference; its error that of ANOVA."""
    rows = balanced_rows()
    model = fit_mixed_model(rows)
    table = 100 * np.array([row['test']['mAP'] for row in rows]).reshape(12, 3)
    residuals = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    variance = (residuals**2).sum() / (11 * 2)
    half = stats.norm.ppf(0.975) * math.sqrt(2 * variance / 12)
    for arm, column in (('kd', 1), ('tcal-t1', 2)):
        gain = (table[:, column] - table[:, 0]).mean()
        assert model.arms[arm] == pytest.approx(
            (gain, gain - half, gain + half), rel=1e-3)
    assert model.residual_sd == pytest.approx(math.sqrt(variance), rel=1e-3)
    between = 3 * table.mean(1).var(ddof=1)
    assert model.seed_sd == pytest.approx(
        math.sqrt((between - variance) / 3), rel=1e-2)
    assert model.teachers == {} and model.problem is None


def test_the_mixed_model_finds_the_effect_of_a_teacher():
    rows = balanced_rows(40, ('U1', 'U2'))
    for row in rows:
        if row['teacher'] == 'U2':
            row['test']['mAP'] += 0.03
    effect = fit_mixed_model(rows).teachers['U2']
    assert effect.low < 3.0 < effect.high
    assert effect.low > 0


@pytest.mark.parametrize(
    ('rows', 'problem'),
    [([], 'no run of `baseline`'),
     (make_arm('A', 'kd', [0.1, 0.2, 0.3]), 'no run of `baseline`'),
     (balanced_rows(2), 'fewer than three seeds'),
     (make_arm('A', 'baseline', [0.1, 0.2]) + make_arm('A', 'kd', [0.1], 203),
      '3 runs for 2 effects'),
     ([
         *make_arm('A', 'baseline', [0.1, 0.2, 0.3]),
         *make_arm('A', 'kd', [0.1, 0.2, 0.3], teacher='U1'),
         *make_arm('A', 'early', [0.1, 0.2, 0.3], teacher='U2')
     ], 'cannot be told apart')])
def test_what_cannot_be_fitted_says_why(rows, problem):
    model = fit_mixed_model(rows)
    assert problem in model.problem
    assert model.arms == {} and model.count == len(rows)


def test_a_fit_that_fails_or_does_not_converge_says_so(monkeypatch):

    class Unfinished:
        converged = False

    monkeypatch.setattr(MixedLM, 'fit', lambda self: Unfinished())
    assert fit_mixed_model(
        balanced_rows()).problem == ('the fit did not converge')

    def fail(self):
        raise np.linalg.LinAlgError('Singular matrix')

    monkeypatch.setattr(MixedLM, 'fit', fail)
    assert 'Singular matrix' in fit_mixed_model(balanced_rows()).problem
