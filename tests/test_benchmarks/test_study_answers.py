"""The rule of the answers, and the Markdown around them."""
import re

import numpy as np
import pytest
from scipy import stats

from benchmarks.study.answers import (QUESTIONS, answers_table, error_verdict,
                                      short_list, verdict)
from benchmarks.study.contrasts import FOCAL, PRIMARY
from benchmarks.study.markdown import (change, fill_blocks, number, p_value,
                                       table)
from tcal_det.errors import InvalidValueError
from tests.study_rows import cells_of, make_arm, of_values, two_blocks


@pytest.fixture
def rows():
    return two_blocks()


# Markdown


def test_cells():
    assert number(-0.001) == '0.00'
    assert number(float('nan')) == '-'
    assert p_value(0.0004) == '< 0.001' and p_value(0.0126) == '0.013'
    assert change(of_values([])) == '-'
    assert change(of_values([1.25])) == '+1.25 (n = 1)'
    assert change(of_values([1.0, 3.0])) == '+2.00 [-10.71, +14.71]'


def test_a_table_is_aligned_and_keeps_its_columns():
    assert table(['a', 'n'], [['x|y', '10']]) == ('| a    |  n |\n'
                                                  '|------|---:|\n'
                                                  '| x\\|y | 10 |')


DOCUMENT = 'Before\n<!-- study:a -->\nold\n<!-- /study:a -->\nafter\r\n'


def test_blocks_are_filled_and_the_rest_stays():
    filled = fill_blocks(DOCUMENT, dict(a='new'), 'x.md')
    assert filled == ('Before\n<!-- study:a -->\n\nnew\n\n<!-- /study:a -->\n'
                      'after\r\n')
    assert fill_blocks(filled, dict(a='new'), 'x.md') == filled


@pytest.mark.parametrize(('text', 'message'), [
    ('\n<!-- study:b -->\n<!-- /study:b -->',
     "x.md, line 2: a block must be one of a, c, but got 'b'"),
    ('<!-- study:a -->\n', 'x.md, line 1: block `study:a` must be closed'),
    ('<!-- study:a -->\n\n<!-- study:c -->\n<!-- /study:c -->',
     'x.md, line 1: block `study:a` must be closed'),
    ('<!-- study:a -->\n<!-- /study:c -->', 'line 1: block `study:a` must'),
    ('\n\n<!-- /study:a -->', 'line 3: .* but no block is open'),
])
def test_marks_without_a_partner_are_named(text, message):
    with pytest.raises(InvalidValueError, match=message):
        fill_blocks(text, dict(a='', c=''), 'x.md')


# Answers


@pytest.mark.parametrize(('values', 'p', 'answer'), [
    ([3.0, 3.5, 2.5, 3.1], 0.01, 'yes'),
    ([-3.0, -3.5, -2.5, -3.1], 0.01, 'no, worse'),
    ([0.3, 0.31, 0.29, 0.3, 0.32], 0.01, 'yes, by less than 0.7'),
    ([0.01, -0.02, 0.02, 0.0, -0.01], 0.9, 'equivalent within 0.7'),
    ([1.0], float('nan'), 'not settled (n = 1)'),
    ([], float('nan'), 'not measured yet'),
])
def test_the_rule_of_answers(values, p, answer):
    assert verdict(of_values(values), p) == answer


def test_what_is_not_settled_has_its_power():
    """Sd 2 of four differences: powers by simulation."""
    values = np.array([3.0, -1.0, 3.0, -1.0]) * np.sqrt(3) / 2
    experiments = np.random.default_rng(0).normal(0, 2, (40_000, 4))
    found = [
        np.mean(
            stats.ttest_1samp(experiments + gain, 0, axis=1).pvalue < 0.05)
        for gain in (0.7, 1.77)
    ]
    answer = verdict(of_values(values), 0.4)
    stated = re.fullmatch(
        r'not settled \(power for 0\.7: (\d+) %, 1\.77: (\d+) %\)', answer)
    assert [int(share) for share in stated.groups()
            ] == pytest.approx([100 * share for share in found], abs=1.5)


def test_a_calibration_error_is_better_when_lower():
    lower = of_values([-2.0, -2.1, -1.9])
    assert error_verdict(lower, 0.01) == 'yes'
    assert error_verdict(lower, 0.2) == 'not settled'
    assert error_verdict(of_values([2.0, 2.1, 1.9]), 0.01) == 'no, worse'
    assert error_verdict(of_values([2.0]), 0.01) == 'not settled (n = 1)'


def test_families_are_corrected_and_secondary_questions_are_not(rows):
    rows = [row for row in rows if row['arm'] != 'hard']
    first, last = QUESTIONS[0], QUESTIONS[-1]
    plain = first.contrast.estimate(rows).p_value
    # The smallest of three, one of which has no runs.
    assert first.p_value(rows, 'mAP') == pytest.approx(3 * plain)
    rows += make_arm('B', 'tcal-t1', [0.31, 0.32, 0.34])
    assert last.p_value(rows, 'mAP') == last.contrast.estimate(rows).p_value


def test_focal_questions_are_corrected_in_both_measures(rows):
    question = next(item for item in QUESTIONS if item.family == FOCAL)
    for figure in ('mAP', 'D-ECE'):
        plain = [item.estimate(rows, figure).p_value for item in FOCAL]
        expected = sorted(plain).index(plain[0])
        # Holm by its definition, over the p values that are not larger.
        corrected = max(
            min(1, (3 - rank) * p)
            for rank, p in enumerate(sorted(plain)[:expected + 1]))
        assert question.p_value(rows, figure) == pytest.approx(corrected)


def test_answers_of_known_differences(rows):
    cells = cells_of(
        answers_table(rows), '**Is TCal (T = 1.5) better than KD?**')
    assert cells[2:5] == ['yes', 'not settled (n = 8)', '8 seeds']
    found = PRIMARY[0].estimate(rows)
    assert cells[5] == change(found) and 2.5 < found.mean < 3.5
    assert '5 folds' in answers_table(rows)


def test_readme_gets_a_line_for_each_question_with_runs(rows):
    lines = short_list(rows).split('\n')
    assert len(lines) == 6
    assert lines[0].startswith(
        '- Is TCal (T = 1.5) better than KD? (softmax, digits) **Yes.** mAP +')
    assert lines[-1] == (
        '- Not answered yet, too few runs: Is TCal (T = 1.5) better than KD? '
        '(softmax, blood cells) Is a teacher (T = 1) that has seen the '
        "student's images better? (softmax, digits)")


def test_readme_marks_secondary_verdicts(rows):
    rows = rows + make_arm('B', 'tcal-t1', [0.1, 0.11, 0.09])
    lines = short_list(rows).split('\n')
    seen, = (line for line in lines if 'that has seen' in line)
    assert '**No, worse.**' in seen and seen.endswith(' seeds (secondary).')
    assert sum('(secondary)' in line for line in lines) == 1


def test_questions_without_runs_share_a_line():
    line, = short_list([]).split('\n')
    assert line.startswith(
        '- Not answered yet, too few runs: Is TCal (T = 1.5) better')
    assert line.count('?') == 7
