"""The runner of the classifier twin: whole units, resumed at any point."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from benchmarks.study.classifiers import run, units
from benchmarks.study.classifiers.networks import Networks
from benchmarks.study.classifiers.plan import (PLAN, Teacher, Unit, row_names,
                                               student_name)
from benchmarks.study.rows import read_rows
from tcal_det.errors import InvalidValueError

TEACHERS = (Teacher(64, 1, 0.0, 'seen',
                    9401), Teacher(64, 1, 0.1, 'unseen', 9402))
TINY = replace(
    PLAN,
    teachers=TEACHERS,
    student_seeds=(9301, 9302),
    oracle_temperatures=(1.0, 3.0),
    crops_seed=9000,
    student_crops=50,
    teacher_crops=100,
    val_crops=60,
    test_crops=40,
    student_width=8,
    student_epochs=2)
# These tell when and with what a row was made.
ORIGIN = ('unit_cpu_seconds', 'started', 'commit', 'stack', 'cpu')


@pytest.fixture(scope='module')
def crops():
    return units.make_all_crops(TINY)


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch, crops):
    monkeypatch.setattr(run, 'make_all_crops', lambda plan: crops)


def content(path):
    return [{
        key: value
        for key, value in row.items() if key not in ORIGIN
    } for row in read_rows(str(path))]


@pytest.fixture(scope='module')
def uninterrupted(crops, tmp_path_factory):
    path = tmp_path_factory.mktemp('whole') / 'results.jsonl'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, 'make_all_crops', lambda plan: crops)
        run.make_missing(TINY, str(path))
    return path


def test_the_plan_is_that_of_the_preregistration():
    assert len({teacher.name for teacher in PLAN.teachers}) == 24
    seeds = [teacher.seed for teacher in PLAN.teachers]
    assert seeds == list(range(401, 425))
    assert PLAN.student_seeds == tuple(range(301, 311))
    names = [name for unit in PLAN.units for name in row_names(unit, PLAN)]
    assert len(set(names)) == len(names) == 770 + 24
    assert PLAN.num_students == 770
    for key in ('width', 'epochs', 'label_smoothing', 'data'):
        values = [getattr(teacher, key) for teacher in PLAN.teachers]
        counts = {values.count(value) for value in set(values)}
        assert counts == {24 // len(set(values))}


def test_a_row_for_each_teacher_and_student(uninterrupted):
    rows = content(uninterrupted)
    assert {row['name']
            for row in rows} == {
                name
                for unit in TINY.units
                for name in row_names(unit, TINY)
            }
    assert sum(row['kind'] == 'teacher' for row in rows) == 2
    assert TINY.num_students == sum(row['kind'] == 'student' for row in rows)


def test_a_resumed_run_is_the_uninterrupted_one(uninterrupted, tmp_path,
                                                monkeypatch):
    path = tmp_path / 'results.jsonl'
    made = []

    def stopped_at_the_third(unit, *others):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(unit)
        return units.make_unit(unit, *others)

    monkeypatch.setattr(run, 'make_unit', stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run.make_missing(TINY, str(path))
    assert {row['name']
            for row in content(path)} == {
                name
                for unit in TINY.units[:2]
                for name in row_names(unit, TINY)
            }
    monkeypatch.setattr(run, 'make_unit', units.make_unit)
    run.make_missing(TINY, str(path))
    assert content(path) == content(uninterrupted)


def test_nothing_is_made_twice(uninterrupted, monkeypatch, capsys):
    before = uninterrupted.read_bytes()
    monkeypatch.delattr(run, 'make_unit')
    run.make_missing(TINY, str(uninterrupted))
    assert capsys.readouterr().out == 'nothing is left\n'
    assert uninterrupted.read_bytes() == before


def test_no_unit_is_begun_after_the_time(tmp_path, monkeypatch, capsys):
    clock = iter([0, 30, 61, 62])
    monkeypatch.setattr(run.time, 'monotonic', lambda: next(clock))
    path = tmp_path / 'results.jsonl'
    run.make_missing(TINY, str(path), minutes=1)
    assert len(run.missing_units(TINY, read_rows(str(path)))) == 3
    assert 'time is up: 3 units are left' in capsys.readouterr().out


def test_half_a_unit_is_refused(uninterrupted):
    rows = read_rows(str(uninterrupted))
    with pytest.raises(InvalidValueError, match='all .* rows of|or none'):
        run.missing_units(TINY, rows[:-1])


def test_a_student_of_a_unit_is_that_of_its_teacher_at_t_3(
        uninterrupted, crops):
    """Made again by hand, alone, from the teacher's logits."""
    teacher = TEACHERS[1]
    logits, = units.train_teacher(teacher, TINY,
                                  crops).logits(crops['student'].pixels)
    student = Networks(TINY.student_width,
                       [9302]).train(crops['student'].pixels,
                                     softmax(logits / 3, axis=1)[None],
                                     TINY.student_epochs, TINY.student_rate)
    name = student_name(Unit('teacher', teacher), 't3', 9302)
    row, = (row for row in content(uninterrupted) if row['name'] == name)
    for split in ('val', 'test'):
        log_probs = np.log(
            softmax(student.logits(crops[split].pixels)[0], axis=1))
        nll = -(crops[split].posterior * log_probs).sum(axis=1).mean()
        assert row[split]['nll'] == pytest.approx(nll, abs=1e-5)


def test_a_seen_teacher_has_the_students_crops_an_unseen_one_none(crops):
    student = crops['student'].pixels
    assert (crops['seen'].pixels[:len(student)] == student).all()
    assert (
        crops['seen'].labels[:len(student)] == crops['student'].labels).all()
    others = {row.tobytes() for row in crops['unseen'].pixels}
    assert not others & {row.tobytes() for row in student}


def test_a_teacher_is_trained_on_the_crops_of_its_data(crops):
    """Its own crops it knows by heart, which a long training shows."""
    for data, other in (('seen', 'unseen'), ('unseen', 'seen')):
        teacher = Teacher(64, 150, 0.0, data, 9403)
        networks = units.train_teacher(teacher, TINY, crops)
        right = {
            name: (networks.logits(crops[name].pixels)[0].argmax(
                axis=1) == crops[name].labels).mean()
            for name in (data, other)
        }
        assert right[data] > 0.9 > 0.5 > right[other]


def test_smoothed_labels_by_hand():
    expected = np.full((1, 10), 0.01)
    expected[0, 4] = 0.91
    assert units.smoothed(np.array([4]), 0.1) == pytest.approx(expected)
    assert (units.smoothed(np.array([4]), 0.0) == np.eye(10)[[4]]).all()
