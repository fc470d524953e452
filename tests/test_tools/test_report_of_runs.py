"""`--report` of the commands that run a detector."""
import json
import re

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config

from tcal_det.registry import MODELS

pytest.importorskip('jinja2')
pytest.importorskip('vl_convert')
CALIBRATE = ('--max-samples', '500')


def overall_of(page):
    """Figures that are embedded in a page."""
    found = re.search(
        r'<script[^>]*id="evaluations"[^>]*>(.*?)</script>', page, flags=re.S)
    evaluation, = json.loads(found.group(1)).values()
    return evaluation['overall'], evaluation['counts']


@pytest.fixture
def checkpoint(run_configs, tmp_path):
    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(run_configs['plain']).model)
    path = str(tmp_path / 'plain.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def test_page_of_a_test(run_configs, checkpoint, call_tool, tmp_path):
    cfg = Config.fromfile(run_configs['plain'])
    coco = cfg.test_evaluator
    cfg.test_evaluator = [
        coco,
        dict(
            type='tcal_det.DetectionCalibrationMetric', ann_file=coco.ann_file)
    ]
    cfg.dump(run_configs['plain'])
    out = tmp_path / 'pages' / 'test.html'
    status, error = call_tool('test.py', run_configs['plain'], checkpoint,
                              '--work-dir', str(tmp_path / 'run'), '--report',
                              str(out))
    assert status == 0, error
    overall, counts = overall_of(out.read_text())
    assert counts['images'] == 4 and counts['classes'] == 10
    logged, = (tmp_path / 'run').glob('*/*.json')
    metrics = json.loads(logged.read_text())
    for key in ('lrp_0', 'olrp'):
        assert overall[key] == pytest.approx(metrics[f'calib/{key}'])
    assert 'data:image/jpeg' in out.read_text()


@pytest.mark.parametrize(
    'page, message',
    [
        ('page.pdf', '`--report` must end in .html'),
        # The configs of these tests have a CocoMetric alone.
        ('page.html', 'needs a tcal_det.DetectionCalibrationMetric'),
    ])
def test_what_cannot_be_a_page(run_configs, checkpoint, call_tool, tmp_path,
                               monkeypatch, page, message):
    monkeypatch.chdir(tmp_path)
    status, error = call_tool('test.py',
                              run_configs['plain'], checkpoint, '--work-dir',
                              str(tmp_path / 'run'), '--report', page)
    assert status == 2
    assert message in error.splitlines()[-1] and 'Traceback' not in error
    assert not (tmp_path / page).exists()


def test_page_of_a_teacher(run_configs, call_tool, tmp_path, monkeypatch):
    # Its figures take as long as a training.
    monkeypatch.setattr('tcal_det.teachers.calibration.save_figure',
                        lambda figure, path: None)
    plain, distill = (
        Config.fromfile(run_configs[name]) for name in ('plain', 'distill'))
    source = distill.model.teacher
    teacher = Config.fromfile(source.config)
    teacher.merge_from_dict({
        f'{split}_dataloader': plain[f'{split}_dataloader']
        for split in ('train', 'val')
    })
    teacher.dump(source.config)
    out = tmp_path / 'teacher.html'
    status, error = call_tool('calibrate_teacher.py', source.config,
                              source.checkpoint, '--out',
                              str(tmp_path / 'calibration'), '--report',
                              str(out), *CALIBRATE)
    assert status == 0, error
    overall, counts = overall_of(out.read_text())
    assert counts['images'] == 4 and counts['objects'] > 4
    assert 0 <= overall['lrp_0'] <= 1
