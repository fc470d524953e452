"""The table of runs: what is read, and the differences."""
import json
import math
from pathlib import Path

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


def test_calibration_in_the_work_dir_is_not_a_test(work_dir):
    run_dir = work_dir(
        'run', validations=[json.dumps(dict(metrics(0.3), step=2))])
    folder = Path(run_dir) / 'teacher_calibration'
    folder.mkdir()
    (folder / 'teacher_calibration.json').write_text('{"calibrator": {}}')
    assert read_run(run_dir).source == 'val, step 2'


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


def rows_of(table):
    return [[cell.strip() for cell in line.split('|')[1:-1]]
            for line in table.splitlines() if line.startswith('|')]


def test_run_of_voc(work_dir):
    """Its AP is another one than COCO's, and stands in a column of its own."""
    voc = {'pascal_voc/mAP': 0.45, 'pascal_voc/AP50': 0.45, 'calib/d_ece': 0.2}
    run = read_run(
        work_dir('voc', validations=[json.dumps(dict(voc, step=3))]))
    assert run.source == 'val, step 3' and run.metrics == voc
    coco = read_run(
        work_dir('coco', validations=[json.dumps(dict(metrics(.5), step=3))]))
    rows = rows_of(as_markdown([coco, run]))
    assert rows[0] == [
        'run', 'mAP', 'AP50', 'D-ECE', 'VOC mAP', 'VOC AP50', 'measured on'
    ]
    assert rows[3][:6] == [
        'voc', 'n/a', 'n/a', '20.00 (n/a)', '45.0 (n/a)', '45.0 (n/a)'
    ]


def test_validation_without_detections(work_dir):
    """COCO then measures nothing, and calibration what it can."""
    empty = '{"calib/d_ece": NaN, "calib/lrp_0": 1.0, "step": 1}'
    run = read_run(work_dir('run', validations=[empty]))
    assert run.source == 'val, step 1'
    header, _, row = rows_of(as_markdown([run]))
    assert header == ['run', 'D-ECE', 'LRP_0', 'measured on']
    assert row == ['run', 'n/a', '100.0', 'val, step 1']
    # It counts as the last one, too.
    line = json.dumps(dict(metrics(0.1), step=1))
    run = read_run(work_dir('two', validations=[line, empty]))
    assert 'coco/bbox_mAP' not in run.metrics


def test_training_steps_are_no_validations(work_dir):
    lines = [
        json.dumps(dict(metrics(0.1), step=1)),
        json.dumps({
            'lr': 1,
            'loss': 2.0,
            'my/value': 3,
            'step': 50
        })
    ]
    assert read_run(work_dir('run', validations=lines)).source == 'val, step 1'


def test_segmentation_has_a_column(work_dir):
    runs = [
        read_run(work_dir(name, [metrics(.3, **{'coco/segm_mAP': value})]))
        for name, value in (('a', .25), ('b', .375))
    ]
    rows = rows_of(as_markdown(runs))
    assert rows[0] == ['run', 'mAP', 'AP50', 'segm mAP', 'measured on']
    assert rows[2][3] == '25.0' and rows[3][3] == '37.5 (+12.5)'


@pytest.mark.parametrize('baseline', [0, 1])
def test_no_differences_between_val_and_test(work_dir, baseline):
    runs = [
        read_run(work_dir('tested', [metrics(.5)])),
        read_run(
            work_dir(
                'trained',
                validations=[json.dumps(dict(metrics(.25), step=1))])),
        read_run(work_dir('too', [metrics(.75)])),
    ]
    table = as_markdown(runs, baseline)
    cells = [row[1] for row in rows_of(table)[2:]]
    last = table.splitlines()[-1]
    records = as_records(runs, baseline)
    if baseline == 0:
        assert cells == ['50.0', '25.0', '75.0 (+25.0)']
        assert last == ('No differences for trained: measured on another '
                        'split than the baseline tested (test).')
        assert records[1]['difference'] is None
        assert records[2]['difference']['coco/bbox_mAP'] == .25
    else:
        assert cells == ['50.0', '25.0', '75.0']
        assert last.startswith('No differences for tested, too:')
        assert [one['difference'] is None
                for one in records] == [True, False, True]


def test_validations_of_different_steps_have_differences(work_dir):
    runs = [
        read_run(
            work_dir(
                str(step),
                validations=[json.dumps(dict(metrics(.25), step=step))]))
        for step in (3, 12)
    ]
    table = as_markdown(runs)
    assert '(+0.0)' in table and 'No differences' not in table


def test_unknown_metrics_are_said(work_dir):
    run = read_run(work_dir('run', [{'lvis/bbox_AP': 0.25, 'my/text': 'a'}]))
    assert as_markdown([run]).splitlines()[-1] == (
        "The table has no columns, as none of the metrics has one: "
        "['lvis/bbox_AP'].")


@pytest.mark.parametrize('value', [None, -1, -1.0, math.nan])
def test_undefined_values(work_dir, value):
    """COCO's mAP of no objects is -1, which is no number of per cent."""
    run = read_run(work_dir('run', [{'coco/bbox_mAP': value}]))
    assert math.isnan(run.metrics['coco/bbox_mAP'])
    assert rows_of(as_markdown([run]))[2] == ['run', 'n/a', 'test']


@pytest.mark.parametrize('kind', ['tests', 'validations'])
@pytest.mark.parametrize(
    'value', ['0.3', True, [0.3], {}, 30.0, -0.1, math.inf, 10**400])
@pytest.mark.parametrize(
    'key', ['coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'calib/lrp_0'])
def test_a_figure_that_cannot_be_one(work_dir, kind, value, key):
    record = {'step': 1, key: value}
    content = [record if kind == 'tests' else json.dumps(record)]
    with pytest.raises(
            InvalidValueError,
            match=rf'metrics .*\.json\W+`{key}` must be a number in \[0, 1'
    ) as caught:
        read_run(work_dir('run', **{kind: content}))
    assert 'tools/test.py' in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize('content', [[], 3, None, 'text', True])
def test_metrics_that_are_no_object(work_dir, content):
    with pytest.raises(InvalidValueError, match='test metrics .* one object'):
        read_run(work_dir('tested', tests=[content]))
    with pytest.raises(InvalidValueError, match='an object in each.*line 2'):
        read_run(
            work_dir(
                'trained',
                validations=[
                    json.dumps(dict(metrics(.1), step=1)),
                    json.dumps(content)
                ]))


@pytest.mark.parametrize('step', [None, '3', True, 1.5])
def test_step_that_is_none(work_dir, step):
    with pytest.raises(InvalidValueError, match='`step` must be a whole'):
        read_run(
            work_dir(
                'run', validations=[json.dumps(dict(metrics(.1), step=step))]))


def test_other_metrics_may_be_anything(work_dir):
    """They are not printed, and nobody else's to judge."""
    run = read_run(
        work_dir('run', [
            metrics(
                .1, **{
                    'my/text': 'a',
                    'my/list': [1],
                    'my/flag': True,
                    'my/huge': 10**400,
                    'my/number': 7
                })
        ]))
    assert set(
        run.metrics) == {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'my/number'}
    as_records([run])


def test_log_that_is_no_text(work_dir, tmp_path):
    run = work_dir('run', validations=['{}'])
    path = tmp_path / 'run/20250101_000000/vis_data/scalars.json'
    path.write_bytes(b'\xff\xfe\x00{')
    with pytest.raises(InvalidValueError, match='scalars.json.*cannot be'):
        read_run(run)


def test_folder_with_brackets(work_dir):
    assert read_run(work_dir('run[1]*', [metrics(.5)])).source == 'test'


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
