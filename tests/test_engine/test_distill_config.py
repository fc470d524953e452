"""The text of a distill config: what it means, and how it looks."""
import subprocess
import sys

import pytest

from tcal_det.engine.distill_config import (config_path, config_text,
                                            distill_name, is_main_process)

STYLE = ('{based_on_style: pep8, '
         'split_before_expression_after_opening_paren: true}')
LONG = 'configs/' + '/'.join(f'folder_{index}' for index in range(12)) + '.py'
LOSSES = dict(loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=1.0))
FORMS = {
    'short': (dict(config='a.py', checkpoint='auto', check=True), LOSSES),
    'no calibrator': (dict(config='a.py', calibrator=None,
                           check=True), LOSSES),
    'long paths': (dict(
        config=LONG,
        checkpoint='https://' + LONG,
        calibrator=dict(type='PlattScaling', load_from=LONG),
        check=True), LOSSES),
    'names': (dict(
        config='a.py',
        classes={
            'traffic light': 'it\'s "a" light \\',
            'stop sign': None,
            3: 'a name that takes some room in a line',
        },
        check=True), LOSSES),
    'long loss':
    (dict(config='a.py', check=True),
     dict(
         loss_kd_cls=dict(
             type='QualityFocalKDLoss', samples='foreground', loss_weight=1.0))
     ),
}


@pytest.mark.parametrize('form', FORMS)
def test_text_means_what_it_was_made_of(form, tmp_path):
    teacher, losses = FORMS[form]
    why = 'word ' * 40
    text = config_text('a/student.py', 'b/c/d.py', 'GFL',
                       dict(teacher=why, check=why, distill_losses=why),
                       teacher, losses)
    values = {}
    exec(text, values)
    assert values['_base_'] == '../../a/student.py'
    assert values['model'] == dict(
        type='tcal_det.CalibratedTeacherDistiller',
        student_type='GFL',
        teacher=teacher,
        distill_losses=losses)
    assert max(map(len, text.splitlines())) <= 79
    path = tmp_path / 'config.py'
    path.write_text(text)
    # As the configs of the repository are formatted.
    diff = subprocess.run(
        [sys.executable, '-m', 'yapf', '--diff', '--style', STYLE,
         str(path)],
        stdout=subprocess.PIPE,
        universal_newlines=True)
    assert (diff.returncode, diff.stdout) == (0, '')


@pytest.mark.parametrize('student, out, path', [
    ('student.py', None, 'student_distill-teacher.py'),
    ('a/student.py', None, 'a/student_distill-teacher.py'),
    ('mmdet::gfl/student.py', None, 'w/config/student_distill-teacher.py'),
    ('a/student.py', 'b/c.py', 'b/c.py'),
])
def test_place(student, out, path):
    teacher = 'mmdet::atss/teacher.py'
    assert config_path(student, teacher, 'w', out) == path
    assert distill_name(student, teacher) == 'student_distill-teacher'


@pytest.mark.parametrize('launcher, variable', [
    ('pytorch', 'RANK'),
    ('slurm', 'SLURM_PROCID'),
    ('mpi', 'OMPI_COMM_WORLD_RANK'),
])
def test_main_process(monkeypatch, launcher, variable):
    monkeypatch.setenv(variable, '1')
    assert not is_main_process(launcher)
    # A variable of a surrounding job is not a launcher.
    assert is_main_process('none')
    monkeypatch.setenv(variable, '0')
    assert is_main_process(launcher)
