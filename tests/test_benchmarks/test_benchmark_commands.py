"""How the benchmarks are called, and what that of the evaluation says."""
import json
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.eval_calibration import __main__ as command
from benchmarks.eval_calibration import commands, implementations
from benchmarks.eval_calibration.generated_set import (SetSize,
                                                       make_annotations,
                                                       make_arrays,
                                                       make_results)

SIZE = SetSize(images=30, seed=1, classes=5, results_per_image=8)


@pytest.mark.parametrize('name', [
    'class_probabilities', 'eval_calibration', 'step_time',
    'teacher_calibration_hook'
])
def test_help_says_how_it_is_called(monkeypatch, capsys, name):
    # runpy warns of modules that it runs once more.
    monkeypatch.delitem(
        sys.modules, f'benchmarks.{name}.__main__', raising=False)
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f'benchmarks.{name}', run_name='__main__')
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(
        f'usage: python -m benchmarks.{name} ')


def test_made_up_set_follows_from_its_size_and_seed():
    first, again, other = (
        make_arrays(size) for size in (SIZE, SIZE, SIZE._replace(seed=2)))
    for column in first:
        np.testing.assert_array_equal(first[column], again[column])
    assert not np.array_equal(first['score'], other['score'])
    annotations = make_annotations(first, SIZE)
    assert len(annotations['images']) == 30
    assert len(annotations['categories']) == 5
    assert len(annotations['annotations']) == len(first['image'])
    assert len(make_results(first)) == 30 * 8


@pytest.mark.parametrize('name', ['tcal_det', 'tcal_det-arrays'])
def test_contestants_evaluate_the_whole_set(name):
    crowds = make_arrays(SIZE)['iscrowd']
    row = implementations.run_in_process(name, SIZE, repeats=1)
    # A crowd is not an object to be found.
    assert row['objects'] == (~crowds).sum()
    assert row['results'] == 30 * 8
    assert row['total'] == row['load'] + row['evaluate'] > 0
    assert row['memory'] >= row['memory_before'] > 0


def test_fastest_of_repeated_runs_counts(monkeypatch):
    answers = [
        f'a warning\n{{"total": {seconds}}}\n'.encode()
        for seconds in (3.0, 1.0, 2.0)
    ]

    def run(*args, **kwargs):
        return SimpleNamespace(stdout=answers.pop(0))

    monkeypatch.setattr(implementations.subprocess, 'run', run)
    assert implementations.run_in_process('tcal_det', SIZE,
                                          3) == dict(total=1.0)


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(
        sys, 'argv',
        ['eval_calibration', *'--images 20 --classes 3'.split(), *arguments])
    command.main()


def test_growth_of_the_evaluation(monkeypatch, tmp_path, capsys):
    out = tmp_path / 'times.json'
    run_main(monkeypatch, '--only-tcal-det', '--results-per-image', '5',
             '--growth', '10', '40', '--out', str(out))
    report = json.loads(out.read_text())
    assert report['comparison'] == report['commands'] == {}
    assert [(images, row['results'])
            for images, row in report['growth'].items()] == [('10', 50),
                                                             ('40', 200)]
    row = report['growth']['40']
    assert (f'| 40 | {row["objects"]} | 200 | {row["total"]:.2f} | '
            f'{1e6 * row["total"] / 200:.2f} | ') in capsys.readouterr().out


def test_commands_are_timed_on_files(monkeypatch, tmp_path, capsys):
    """From anywhere: what they evaluate is found in the checkout."""
    monkeypatch.chdir(tmp_path)
    titles = 'tcal-eval, without', 'json.load of both files'
    monkeypatch.setattr(commands, 'COMMANDS',
                        {title: commands.COMMANDS[title]
                         for title in titles})
    run_main(monkeypatch, '--commands', '--out', 'times.json')
    report = json.loads((tmp_path / 'times.json').read_text())
    assert tuple(report['commands']) == titles
    shown = capsys.readouterr().out
    for title, row in report['commands'].items():
        assert min(row.values()) > 0
        # hotcoco is the unit, and was not run.
        assert f'| {title} | {row["wall"]:.2f} | {row["cpu"]:.2f} | nan |' in (
            shown)


def test_a_command_that_fails_is_shown(monkeypatch):
    monkeypatch.setattr(commands, 'COMMANDS',
                        dict(broken=('json', 'sys.exit(len(sys.argv))')))
    with pytest.raises(SystemExit, match=r'failed:\nsys.exit\(len'):
        commands.run_commands(SIZE, repeats=1)


def test_impossible_sizes_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run_main(monkeypatch, '--results-per-image', '0')
    assert ended.value.code == 2
    assert '`--results-per-image` must be >= 1, but got 0' in (
        capsys.readouterr().err)
