"""tcal-report, in this process."""
import html
import json
import os.path as osp
import pickle
import sys

import numpy as np
import pytest

from tcal_det.cli import report as command
from tests.test_report.report_scenes import GOLDEN

GROUND_TRUTH = osp.join(GOLDEN, 'det_small_gt.json')
RESULTS = osp.join(GOLDEN, 'det_small_dt.json')
pytestmark = pytest.mark.filterwarnings('ignore:undefined')


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Exit status, stdout and stderr of the command."""

    def run(*arguments, out='page.html'):
        monkeypatch.setattr(
            sys, 'argv',
            ['tcal-report', *arguments, '--out',
             str(tmp_path / out)])
        status = 0
        try:
            command.main()
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def with_packages():
    pytest.importorskip('jinja2')
    pytest.importorskip('vl_convert')


@pytest.fixture
def without_library(monkeypatch):
    from tcal_det.report import page
    monkeypatch.setattr(page, 'chart_library', lambda: '')


def complaint(answer):
    status, _, stderr = answer
    lines = stderr.splitlines()
    assert status == 2 and len(lines) == 1, stderr
    assert lines[0].startswith('error: ')
    return lines[0]


def test_page_is_written(call, with_packages, without_library, tmp_path):
    out = osp.join('new', 'page.html')
    status, stdout, _ = call(
        GROUND_TRUTH,
        RESULTS,
        '--num-resamples',
        '40',
        '--title',
        'Mine',
        out=out)
    assert status == 0
    assert stdout == f'written: {tmp_path / out}\n'
    text = (tmp_path / out).read_text(encoding='utf-8')
    assert '<h1>Mine</h1>' in text and 'det_small_dt' in text


def test_names_of_results(call):
    assert command.result_names(['a/x.json', 'b/y.pkl'], None) == ['x', 'y']
    assert command.result_names(['a/x.json', 'b/x.json'],
                                None) == ['a/x.json', 'b/x.json']
    assert command.result_names(['a', 'b'], ['one', 'two']) == ['one', 'two']
    assert '--result-names' in complaint(call(GROUND_TRUTH, RESULTS, RESULTS))
    assert '2 name(s)' in complaint(
        call(GROUND_TRUTH, RESULTS, 'other.json', '--result-names', 'one'))


def test_page_must_be_html(call, tmp_path):
    assert '.html' in complaint(call(GROUND_TRUTH, RESULTS, out='page.json'))
    assert not (tmp_path / 'page.json').exists()


@pytest.mark.parametrize('arguments, word', [
    (('absent.json', RESULTS), 'absent.json'),
    ((GROUND_TRUTH, 'absent.json'), 'absent.json'),
    ((GROUND_TRUTH, RESULTS, '--images', 'absent'), '--images'),
    ((GROUND_TRUTH, RESULTS, '--num-resamples', '39'),
     '`--num-resamples` must be >= 40'),
    ((GROUND_TRUTH, RESULTS, '--num-resamples', '-1'),
     '`--num-resamples` must be >= 0'),
    ((GROUND_TRUTH, RESULTS, '--num-images', '-1'), 'num_images'),
    ((GROUND_TRUTH, RESULTS, '--classes', 'unicorn'), 'unicorn'),
])
def test_mistakes_are_one_line(call, with_packages, arguments, word, tmp_path):
    assert word in complaint(call(*arguments))
    assert not (tmp_path / 'page.html').exists()


def test_page_that_cannot_be_written(call, with_packages, without_library,
                                     tmp_path):
    (tmp_path / 'file').write_text('')
    message = complaint(
        call(GROUND_TRUTH, RESULTS, out=osp.join('file', 'page.html')))
    assert '--out' in message


def test_missing_package_is_said_before_work(call, monkeypatch):
    monkeypatch.setitem(sys.modules, 'vl_convert', None)
    pytest.importorskip('jinja2')
    assert 'pip install jinja2' in complaint(
        call('absent.json', 'absent.json'))


def test_warnings_of_the_data_are_on_the_page(call, with_packages,
                                              without_library, tmp_path):
    """Each with its file; without advice that the files may spoil."""
    with open(RESULTS, encoding='utf-8') as file:
        records = json.load(file)
    for record in records:
        x, y, width, height = record['bbox']
        record['bbox'] = [x, y, x + width, y + height]
    corners = tmp_path / 'corners.json'
    corners.write_text(json.dumps(records))
    status, _, stderr = call(GROUND_TRUTH, RESULTS, str(corners),
                             '--num-resamples', '0')
    assert status == 0
    doubt, = (
        line[len('warning: '):] for line in stderr.splitlines()
        if 'leave' in line)
    text = html.unescape((tmp_path / 'page.html').read_text(encoding='utf-8'))
    first, second = text.split('<article ')[1:]
    assert doubt in second and 'Check the files first' in second
    assert 'is expected to lower' not in second
    assert 'is certain to lower' not in second
    assert 'Check the files first' not in first
    assert 'to lower' in first


def test_a_note_leaves_the_advice(call, with_packages, without_library,
                                  tmp_path):
    """Results of fewer images say nothing against a recalibration."""
    ground_truth = osp.join(GOLDEN, 'det_ties_gt.json')
    with open(ground_truth, encoding='utf-8') as file:
        annotations = json.load(file)
    with open(osp.join(GOLDEN, 'det_ties_dt.json'), encoding='utf-8') as file:
        records = json.load(file)
    label_of = {
        category['id']: label
        for label, category in enumerate(annotations['categories'])
    }
    samples = []
    for image in annotations['images'][1:]:
        found = [one for one in records if one['image_id'] == image['id']]
        boxes = np.array([one['bbox'] for one in found]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        samples.append(
            dict(
                img_id=image['id'],
                ori_shape=(image['height'], image['width']),
                pred_instances=dict(
                    bboxes=boxes,
                    scores=np.array([one['score'] for one in found]),
                    labels=np.array(
                        [label_of[one['category_id']] for one in found],
                        dtype=int))))
    part = tmp_path / 'part.pkl'
    part.write_bytes(pickle.dumps(samples))
    status, _, stderr = call(ground_truth, str(part), '--num-resamples', '0')
    assert status == 0, stderr
    note, = (
        line[len('warning: '):] for line in stderr.splitlines()
        if 'of the images' in line or 'images of' in line)
    text = html.unescape((tmp_path / 'page.html').read_text(encoding='utf-8'))
    assert f'<strong>Note:</strong> {note}' in text
    assert 'Check the files first' not in text
    assert 'to lower' in text
