"""tools/analysis_tools/compare_runs.py shows calibration beside AP."""
import json
import re

import pytest

TOOL = 'analysis_tools/compare_runs.py'
COCO = {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_50': 0.8}


@pytest.fixture
def work_dir(tmp_path):

    def write(name, **metrics):
        session = tmp_path / name / '20250101_000000'
        session.mkdir(parents=True)
        metrics = {key.replace('__', '/'): v for key, v in metrics.items()}
        (session / f'{session.name}.json').write_text(
            json.dumps(dict(COCO, **metrics)))
        return str(tmp_path / name)

    return write


def cells(line):
    return [cell.strip() for cell in line.strip('| \n').split('|')]


def test_calibration_columns(call_tool, work_dir):
    runs = [
        work_dir(
            'plain',
            calib__d_ece=0.1234,
            calib__laece_0=0.25,
            calib__lrp_0=0.6),
        work_dir(
            'tcal', calib__d_ece=0.1, calib__laece_0=0.2, calib__lrp_0=0.55)
    ]
    status, stderr = call_tool(TOOL, *runs)
    assert status == 0, stderr
    header, _, plain, tcal = call_tool.output.splitlines()[-4:]
    assert cells(header)[:6] == [
        'run', 'mAP', 'AP50', 'D-ECE', 'LaECE_0', 'LRP_0'
    ]
    assert cells(plain)[3:6] == ['12.34', '25.00', '60.0']
    assert cells(tcal)[3:6] == [
        '10.00 (-2.34)', '20.00 (-5.00)', '55.0 (-5.0)'
    ]


def test_undefined_figures_are_not_zero(call_tool, work_dir):
    """A run without detections: NaN, which json writes as such."""
    runs = [
        work_dir('plain', calib__d_ece=0.1),
        work_dir('empty', calib__d_ece=float('nan'))
    ]
    status, stderr = call_tool(TOOL, *runs)
    assert status == 0, stderr
    assert 'n/a' in cells(call_tool.output.splitlines()[-1])


def test_runs_without_calibration(call_tool, work_dir):
    status, stderr = call_tool(TOOL, work_dir('plain'))
    assert status == 0, stderr
    assert 'D-ECE' not in call_tool.output


@pytest.mark.parametrize('content, message', [
    ('{"coco/bbox_mAP": "0.5"}', "`coco/bbox_mAP` must be .*'0.5'"),
    ('[0.5]', 'must hold one object'),
    ('{"coco/bbox_mAP"', 'cannot be read as JSON'),
])
def test_metrics_that_are_wrong_are_one_line(call_tool, work_dir, tmp_path,
                                             content, message):
    good, bad = work_dir('good'), work_dir('bad')
    path = next((tmp_path / 'bad').glob('*/*.json'))
    path.write_text(content)
    out = tmp_path / 'out'
    status, stderr = call_tool(TOOL, good, bad, '--out', str(out))
    line, = stderr.splitlines()
    assert status == 2 and re.search(message, line) and str(path) in line
    assert not (tmp_path / 'out.json').exists()


def test_a_test_and_a_validation(call_tool, work_dir, tmp_path):
    trained = tmp_path / 'trained' / '20250101_000000' / 'vis_data'
    trained.mkdir(parents=True)
    (trained / 'scalars.json').write_text(json.dumps(dict(COCO, step=2)))
    out = tmp_path / 'out'
    status, stderr = call_tool(TOOL, work_dir('tested'),
                               str(tmp_path / 'trained'), '--out', str(out))
    assert status == 0, stderr
    last = call_tool.output.splitlines()[-1]
    assert last.startswith('No differences for trained: measured on another')
    assert '(+0.0)' not in call_tool.output
    with open(f'{out}.json') as file:
        assert json.load(file)[1]['difference'] is None
