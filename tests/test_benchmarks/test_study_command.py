"""run.py, with runs that are finished as soon as they are begun."""
import json
import sys

import pytest

from benchmarks.study import plan, run
from benchmarks.study.run_folder import REPOSITORY
from benchmarks.study.runner import StudyRunner
from tcal_det.fileio import write_json_atomically


class InstantRunner(StudyRunner):
    """Writes results without training, the better the heavier the loss.

    Attributes:
        made (list[str]): Names of the runs, in their order.
        bad_weights (set[float]): Loss weights at which runs fail.
    """
    made, bad_weights = [], set()

    def execute(self, runs, after_each):
        results = run.read_results()
        rows = []
        for planned in runs:
            is_bad = planned.loss_weight in self.bad_weights
            rows.append(
                dict(
                    json.loads(json.dumps(vars(planned))),
                    status='failed' if is_bad else 'finished',
                    error='loss is nan' if is_bad else None,
                    val=dict(mAP=(planned.loss_weight or 0) / 100),
                    test=dict(mAP=0.5)))
        self.made += [row['name'] for row in rows]
        results['runs'] += rows
        write_json_atomically(run.RESULTS, results)
        return [row for row in rows if row['status'] == 'failed']


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command; returns the names of the runs that it made."""
    monkeypatch.setattr(run, 'RESULTS', str(tmp_path / 'results.json'))
    visited = []
    monkeypatch.setattr(run.os, 'chdir', visited.append)
    monkeypatch.setattr(run, 'StudyRunner', InstantRunner)
    monkeypatch.setattr(run, 'measure_losses', lambda _: None)
    monkeypatch.setattr(run, 'measure_teachers', lambda _: None)
    monkeypatch.setattr(plan, 'FOLDER', str(tmp_path / 'runs'))
    # The data set exists.
    monkeypatch.setitem(plan.DATA, 'out', str(tmp_path))
    teachers = [dict(name=plan.TEACHER, fitted_temperature=1.25)]
    write_json_atomically(run.RESULTS,
                          dict(runs=[], teachers=teachers, gradient_scales=[]))

    def call(*arguments):
        InstantRunner.made = []
        monkeypatch.setattr(sys, 'argv', ['run.py', *arguments])
        run.main()
        # All paths of the study are from the root.
        assert visited.pop() == REPOSITORY
        return InstantRunner.made

    return call


def test_the_grid_grows_and_the_next_stage_uses_it(call):
    made = call('--stage', 'grid', 'seeds')
    # The best weight was at the edge, 16, so that 64 was tried, too.
    assert 'grid/kd_w64/seed0' in made
    assert 'seeds/kd_w64/seed1' in made
    assert not any(name.startswith('grid/') for name in made[-55:])


def test_no_stage_builds_on_an_incomplete_one(call, monkeypatch, capsys):
    monkeypatch.setattr(InstantRunner, 'bad_weights', {16.0})
    with pytest.raises(SystemExit, match='stage `grid` is not complete'):
        call('--stage', 'grid', 'seeds')
    assert InstantRunner.made
    assert not any(name.startswith('seeds/') for name in InstantRunner.made)
    assert 'failed: grid/kd_w16/seed0: loss is nan' in capsys.readouterr().err


def test_what_another_process_wrote_meanwhile_is_kept(call):
    before = run.read_results()
    run.add('teachers', [dict(name='theirs')])
    run.add('teachers', [dict(name='ours')])
    names = [teacher['name'] for teacher in run.read_results()['teachers']]
    assert names == [before['teachers'][0]['name'], 'theirs', 'ours']


def test_only_missing_makes_what_the_results_lack(call):
    assert call('--stage', 'grid')
    assert call('--stage', 'grid', '--only-missing') == []
    found = run.read_results()
    gone = found['runs'].pop()
    write_json_atomically(run.RESULTS, found)
    assert call('--stage', 'grid', '--only-missing') == [gone['name']]


def test_only_missing_makes_teachers_even_so(call):
    everything = call('--stage', 'teachers')
    assert len(everything) == len(plan.TEACHERS)
    assert call('--stage', 'teachers', '--only-missing') == everything
