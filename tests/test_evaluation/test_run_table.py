"""The table of runs: what is read, and the differences."""
import json
import math

import pytest

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.evaluation.run_table import as_markdown, as_records, read_run


@pytest.fixture
def work_dir(tmp_path):
    """Write what mmengine leaves behind."""

    def make(name, tests=(), validations=()):
        folder = tmp_path / name
        for index, metrics in enumerate(tests):
            stamp = f'20260101_00000{index}'
            (folder / stamp).mkdir(parents=True)
            (folder / stamp / f'{stamp}.json').write_text(json.dumps(metrics))
        if validations:
            (folder / '20250101_000000' / 'vis_data').mkdir(parents=True)
            (folder / '20250101_000000' / 'vis_data' /
             'scalars.json').write_text('\n'.join(validations))
        folder.mkdir(exist_ok=True)
        return str(folder)

    return make


def metrics(mean_ap, **more):
    return {
        'coco/bbox_mAP': mean_ap,
        'coco/bbox_mAP_50': mean_ap + 0.2,
        'data_time': 0.1,
        **more
    }


def test_newest_test_is_read(work_dir):
    run = read_run(work_dir('run', tests=[metrics(0.1), metrics(0.4)]))
    assert run.name == 'run' and run.source == 'test'
    assert run.metrics == {'coco/bbox_mAP': 0.4, 'coco/bbox_mAP_50': 0.4 + 0.2}


def test_last_validation_where_there_is_no_test(work_dir):
    lines = [
        json.dumps(dict(metrics(0.1), step=1)),
        json.dumps(dict(loss=1.0, step=12)),
        json.dumps(dict(metrics(0.3), step=2)),
        '{"coco/bbox_mAP": 0.9, "ste',
    ]
    run = read_run(work_dir('run', validations=lines))
    assert run.source == 'val, step 2'
    assert run.metrics['coco/bbox_mAP'] == 0.3


def test_markdown_has_the_differences(work_dir):
    runs = [
        read_run(work_dir('baseline', [metrics(0.3, **{'calib/d_ece': 0.2})])),
        read_run(work_dir('tcal', [metrics(0.325, **{'calib/d_ece': 0.15})])),
        read_run(work_dir('old', [metrics(0.2)])),
    ]
    rows = [[cell.strip() for cell in line.split('|')[1:-1]]
            for line in as_markdown(runs).splitlines()]
    assert rows[0] == ['run', 'mAP', 'AP50', 'D-ECE', 'measured on']
    assert rows[2] == ['baseline', '30.0', '50.0', '20.00', 'test']
    assert rows[3] == [
        'tcal', '32.5 (+2.5)', '52.5 (+2.5)', '15.00 (-5.00)', 'test'
    ]
    assert rows[4] == ['old', '20.0 (-10.0)', '40.0 (-10.0)', 'n/a', 'test']


def test_undefined_metric_is_said(work_dir):
    runs = [
        read_run(work_dir('a', [metrics(0.3, **{'calib/d_ece': math.nan})])),
        read_run(work_dir('b', [metrics(0.3, **{'calib/d_ece': 0.1})])),
    ]
    lines = as_markdown(runs).splitlines()
    assert ' n/a ' in lines[2] and '10.00 (n/a)' in lines[3]


def test_records_recompute_the_table(work_dir):
    runs = [
        read_run(work_dir(name, [metrics(value)]))
        for name, value in (('a', 0.25), ('b', 0.5))
    ]
    records = as_records(runs, baseline=1)
    assert records[0]['difference']['coco/bbox_mAP'] == -0.25
    assert records[1]['difference']['coco/bbox_mAP'] == 0


def test_no_such_run(work_dir):
    with pytest.raises(MissingFileError, match="'gone' does not exist"):
        read_run('gone')
    with pytest.raises(InvalidValueError, match='no test or validation'):
        read_run(work_dir('empty'))


def test_truncated_test_metrics(work_dir, tmp_path):
    run = work_dir('run', tests=[metrics(0.1)])
    path = tmp_path / 'run' / '20260101_000000' / '20260101_000000.json'
    path.write_text(path.read_text()[:-9])
    with pytest.raises(InvalidValueError, match='test metrics .* cannot be'):
        read_run(run)


def test_command_writes_both_files(work_dir, tmp_path, monkeypatch, capsys):
    import runpy
    import sys
    dirs = [work_dir('a', [metrics(0.25)]), work_dir('b', [metrics(0.5)])]
    out = str(tmp_path / 'table')
    monkeypatch.setattr(
        sys, 'argv',
        ['compare_runs', *dirs, '--baseline', dirs[1], '--out', out])
    runpy.run_path('tools/analysis_tools/compare_runs.py', run_name='__main__')
    printed = capsys.readouterr().out
    with open(f'{out}.md') as file:
        assert file.read() == printed
    assert '25.0 (-25.0)' in printed
    with open(f'{out}.json') as file:
        assert [record['name'] for record in json.load(file)] == ['a', 'b']
