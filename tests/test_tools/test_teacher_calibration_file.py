"""From a teacher to a run that uses its calibration: no file is edited."""
import json
import os
from glob import glob

import pytest
from mmengine.config import Config

pytestmark = pytest.mark.slow


@pytest.fixture
def calibration_file(run_configs, call_tool, tmp_path, monkeypatch):
    """Calibrate the teacher of the configs; the path of the JSON file."""
    # Its figures take as long as the training.
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
    out = str(tmp_path / 'calibration')
    status, error = call_tool('calibrate_teacher.py', source.config,
                              source.checkpoint, '--out', out)
    assert status == 0, error
    return os.path.join(out, 'teacher_calibration.json')


@pytest.fixture
def train(run_configs, call_tool, tmp_path):
    """Train one epoch with a calibration file; status, error and log."""

    def run(load_from):
        cfg = Config.fromfile(run_configs['distill'])
        cfg.model.teacher.calibrator = dict(
            type='TemperatureScaling', load_from=load_from)
        cfg.custom_hooks = [
            dict(type='tcal_det.TeacherCalibrationHook', interval=2)
        ]
        path = str(tmp_path / 'with_file.py')
        cfg.dump(path)
        work_dir = str(tmp_path / 'run')
        status, error = call_tool('train.py', path, '--work-dir', work_dir,
                                  '--cfg-options', 'train_cfg.max_epochs=1',
                                  'default_hooks.logger.interval=2')
        run.work_dir = work_dir
        log = ''
        for name in glob(os.path.join(work_dir, '*', '*.log')):
            with open(name) as file:
                log += file.read()
        return status, error, log

    return run


def test_run_states_the_temperature_and_is_watched(calibration_file, train):
    with open(calibration_file) as file:
        content = json.load(file)
    status, error, log = train(calibration_file)
    assert status == 0, error
    assert ('calibrator: TemperatureScaling(temperature='
            f"{content['effective_temperature']}, cls_channels=11)") in log
    assert log.count('calibrated_teacher_ece_over: ') == 2
    scalars, = glob(os.path.join(train.work_dir, '*/vis_data/scalars.json'))
    with open(scalars) as file:
        rows = [json.loads(line) for line in file if 'loss_kd_cls' in line]
    assert len(rows) == 2
    for row in rows:
        for name in ('teacher', 'calibrated_teacher', 'student'):
            over, under = (
                row[f'{name}_ece_{part}'] for part in ('over', 'under'))
            assert row[f'{name}_ece'] == pytest.approx(over + under)
    image, = glob(os.path.join(train.work_dir, '*/vis_data/vis_image/*'))
    assert os.path.basename(image) == 'train_reliability_4.png'

    # The same file, had another teacher been calibrated.
    content['calibrator']['cls_channels'] = 81
    with open(calibration_file, 'w') as file:
        json.dump(content, file)
    status, error, _ = train(calibration_file)
    lines = [line for line in error.splitlines() if 'error: ' in line]
    assert status == 2 and len(lines) == 1
    assert 'was fitted for 81 columns' in lines[0]
    assert "teacher's head has 11" in lines[0]
