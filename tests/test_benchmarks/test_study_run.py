"""The study's runner, with trainings that only pretend."""
import json
import signal
import sys
from dataclasses import replace

import pytest

from benchmarks.study import plan
from benchmarks.study.run import Scheduler, missing_runs
from tcal_det.errors import InvalidValueError

# Writes the checkpoints of a teacher, and a row whose mAP is the seed's.
PRETEND = """
import json, os, sys
name = sys.argv[1]
folder = 'work_dirs/study/' + name
with open('order.txt', 'a') as file:
    file.write(name + '\\n')
if 'hard' in name:
    sys.exit('diverged')
for epoch in (4, 12):
    open(f'{folder}/epoch_{epoch}.pth', 'w').close()
row = dict(name=name, val={}, test=dict(mAP=0.25), seconds=1.0)
with open(folder + '/row.json', 'w') as file:
    json.dump(row, file)
"""
RESULTS = 'results.jsonl'


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('benchmarks.study.run.POLL_SECONDS', 0.02)


def first_round():
    return [run for run in plan.in_order('A') if run.round == 1]


def work(runs, jobs=1, until=float('inf')):
    scheduler = Scheduler(runs, jobs, RESULTS, (sys.executable, '-c', PRETEND))
    scheduler.work(until)
    return scheduler


def rows():
    with open(RESULTS, encoding='utf-8') as file:
        return [json.loads(line) for line in file]


def order():
    with open('order.txt', encoding='utf-8') as file:
        return file.read().split()


def test_all_runs_are_made_in_order_and_a_failure_stops_no_other(capsys):
    runs = first_round()
    scheduler = work(runs)
    assert order() == [run.name for run in runs]
    assert [row['name'] for row in rows()
            ] == [name for name in order() if 'hard' not in name]
    assert scheduler.failed == ['digits/A/hard/seed201']
    out = capsys.readouterr().out
    assert f'[{len(runs)}/{len(runs)}]' in out
    assert 'mAP 25.0 in 1 s' in out
    assert 'hard/seed201: failed, see work_dirs/study' in out


def test_students_wait_for_their_teacher():
    runs = first_round()
    teacher, rest = runs[0], runs[1:]
    assert teacher.arm == 'teacher'
    work([*rest, teacher])
    made = order()
    for run in rest:
        if run.needs:
            assert made.index(run.name) > made.index(teacher.name)
    assert made[0] == 'digits/A/baseline/seed201'


def test_a_student_without_teacher_is_not_made_and_nothing_hangs():
    student = next(run for run in first_round() if run.needs)
    scheduler = work([student])
    assert scheduler.waiting == [student]


def test_no_run_begins_after_the_time_is_over():
    work(first_round(), until=0)
    with pytest.raises(FileNotFoundError):
        order()


def test_two_at_once():
    runs = [run for run in first_round() if run.arm != 'hard']
    work(runs, jobs=2)
    assert {row['name'] for row in rows()} == {run.name for run in runs}


def test_what_has_a_row_is_not_made_again():
    runs = [run for run in first_round() if run.arm != 'hard']
    work(runs)
    missing = missing_runs('A', RESULTS)
    assert not {run.name for run in missing} & {run.name for run in runs}
    # Its files are here.
    assert all(run.name != 'digits/teachers/U1' for run in missing)
    assert any(run.name == 'digits/teachers/U2' for run in missing)


def test_teachers_are_made_again_where_their_files_are_gone(capsys):
    teacher = first_round()[0]
    known = dict(name=teacher.name, val={}, test=dict(mAP=0.25))
    with open(RESULTS, 'w', encoding='utf-8') as file:
        file.write(json.dumps(known) + '\n')
    assert teacher in missing_runs('A', RESULTS)
    work([teacher])
    assert ', as in its row' in capsys.readouterr().out
    assert len(rows()) == 1

    with open(RESULTS, 'w', encoding='utf-8') as file:
        file.write(json.dumps(dict(known, test=dict(mAP=0.26))) + '\n')
    scheduler = work([teacher])
    assert 'NOT as in its row' in capsys.readouterr().out
    # No student may learn from it.
    assert scheduler.failed == [teacher.name]
    assert work([first_round()[3]]).waiting


def test_teachers_that_no_missing_run_needs_are_left_out():
    runs = [run for run in plan.in_order('B') if run.block != 'T']
    with open(RESULTS, 'w', encoding='utf-8') as file:
        file.writelines(json.dumps(dict(name=run.name)) + '\n' for run in runs)
    assert missing_runs('B', RESULTS) == []


@pytest.mark.parametrize('blocks', ['', 'AZ'])
def test_unknown_blocks_are_named(blocks):
    with pytest.raises(InvalidValueError, match='letters among'):
        missing_runs(blocks, RESULTS)


def test_an_interrupt_ends_what_runs(monkeypatch):
    run = replace(first_round()[1], needs=())
    scheduler = Scheduler(
        [run], 1, RESULTS,
        (sys.executable, '-c', 'import time; time.sleep(60)'))

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr('benchmarks.study.run.time.sleep', interrupt)
    with pytest.raises(KeyboardInterrupt):
        scheduler.work(float('inf'))
    child, = scheduler.children
    assert child.poll() == -signal.SIGTERM
