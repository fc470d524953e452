"""Reading the study's results, and pairing them."""
import json

import numpy as np
import pytest

from benchmarks.study.rows import (KEYS, Key, append_rows, key_of, read_rows,
                                   rows_of, values_of)
from tcal_det.errors import InvalidValueError
from tests.study_rows import make_arm, make_row


@pytest.fixture
def write(tmp_path):

    def write_lines(*lines):
        path = tmp_path / 'results.jsonl'
        path.write_text(''.join(lines), encoding='utf-8')
        return str(path)

    return write_lines


def line(row):
    return json.dumps(row) + '\n'


def test_rows_come_in_the_order_of_the_file(write):
    rows = make_arm('A', 'kd', [0.3, 0.1, 0.2])
    assert read_rows(write(*map(line, rows))) == rows


def test_no_file_is_no_row(tmp_path):
    assert read_rows(str(tmp_path / 'absent.jsonl')) == []


def test_a_last_line_that_was_cut_is_named_with_its_remedy(write):
    whole = line(make_row(seed=201))
    path = write(whole, line(make_row(seed=202))[:60])
    with pytest.raises(
            InvalidValueError,
            match=r'results\.jsonl, line 2: .*last line.*delete it'):
        read_rows(path)


def test_a_last_line_without_its_break_would_swallow_the_next_row(write):
    path = write(line(make_row()), json.dumps(make_row(seed=202)))
    with pytest.raises(InvalidValueError, match='line 2: .*line break'):
        read_rows(path)


def test_a_broken_line_in_between_is_not_to_be_deleted(write):
    path = write('{"name": \n', line(make_row()))
    with pytest.raises(InvalidValueError, match='line 1: .*restore the line'):
        read_rows(path)


def test_a_name_that_is_there_twice_is_named_with_both_lines(write):
    row = make_row()
    path = write(line(row), line(make_row(seed=202)), line(row))
    with pytest.raises(
            InvalidValueError,
            match="line 3: .*'digits/A/baseline/seed201' is already in line "
            '1'):
        read_rows(path)


@pytest.mark.parametrize('text', ['[]\n', '3\n', '\n'])
def test_a_line_that_is_no_object_is_refused(write, text):
    with pytest.raises(InvalidValueError, match='line 1: must be one JSON'):
        read_rows(write(text))


def test_a_row_without_a_key_is_refused(write):
    row = make_row()
    del row['fold']
    with pytest.raises(InvalidValueError, match='line 1: .*lacks fold; '):
        read_rows(write(line(row)), KEYS)
    assert read_rows(write(line(row))) == [row]
    with pytest.raises(InvalidValueError, match='line 1: .*lacks name; '):
        read_rows(write('{"arm": "kd"}\n'))


def test_pairs_share_data_head_seed_and_fold():
    row = make_row('F', 'platt', seed=2, fold=4)
    assert key_of(row) == Key('bccd', 'focal', 2, 4)


def test_an_arm_of_another_block_is_another_arm():
    rows = [
        make_row('A', 'kd', 201),
        make_row('D', 'kd', 202),
        make_row('A', 'hard', 203)
    ]
    assert rows_of(rows, 'A', 'kd') == rows[:1]


def test_values_are_hundredths_of_a_split():
    row = make_row(mean_ap=0.25)
    row['val']['mAP'] = 0.125
    assert values_of([row], 'mAP') == {key_of(row): 25.0}
    assert values_of([row], 'mAP', 'val') == {key_of(row): 12.5}


@pytest.mark.parametrize('value', [None, float('nan')])
def test_a_figure_that_is_not_defined_is_left_out(value):
    rows = make_arm('A', 'kd', [value, 0.5])
    assert list(values_of(rows, 'mAP').values()) == [50.0]


def test_two_runs_of_one_key_are_refused():
    rows = [make_row(seed=201), make_row(seed=201, name='other')]
    with pytest.raises(InvalidValueError, match="'other' are both of Key"):
        values_of(rows, 'mAP')


def test_rows_are_appended_whole_or_not(tmp_path):
    path = str(tmp_path / 'results.jsonl')
    append_rows(path, [dict(name='a', figure=np.float64(0.5))])
    append_rows(path, [dict(name='b', figure=float('nan'))])
    assert read_rows(path) == [
        dict(name='a', figure=0.5),
        dict(name='b', figure=None)
    ]
    before = (tmp_path / 'results.jsonl').read_text()
    with pytest.raises(InvalidValueError, match="'a'"):
        append_rows(path, [dict(name='c'), dict(name='a')])
    assert (tmp_path / 'results.jsonl').read_text() == before
    assert [json.loads(line)['name']
            for line in before.splitlines()] == ['a', 'b']
