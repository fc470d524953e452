"""What ``--resume`` decides before there is a Runner."""
import os
import os.path as osp
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from tcal_det.engine.resuming import distillation_changes, resume
from tcal_det.errors import InvalidValueError, MissingFileError

DISAGREEING = """
import sys
import torch.distributed as dist
from mmengine.config import Config
from tcal_det.engine.resuming import check_same_checkpoint
from tcal_det.errors import InvalidValueError
rank, meeting_point = int(sys.argv[1]), sys.argv[2]
dist.init_process_group('gloo', init_method=f'file://{meeting_point}',
                        rank=rank, world_size=2)
check_same_checkpoint(Config(dict(load_from='a.pth')))
check_same_checkpoint(Config(dict()))
try:
    check_same_checkpoint(Config(dict(load_from=[None, 'a.pth'][rank])))
except InvalidValueError as error:
    assert "finds [None, 'a.pth']" in str(error), error
else:
    raise AssertionError('refuses nothing')
"""


def config(model=None, **options):
    return Config(dict(model=model or distiller(), **options))


def distiller(temperature=1.5, loss_weight=1.0):
    return dict(
        type='tcal_det.CalibratedTeacherDistiller',
        backbone=dict(depth=18),
        teacher=dict(
            config='teacher.py',
            calibrator=dict(
                type='TemperatureScaling', temperature=temperature)),
        distill_losses=dict(
            loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=loss_weight)))


def save(path, model=None):
    torch.save(
        dict(
            meta=dict(epoch=1, iter=4, cfg=config(model).pretty_text),
            state_dict={},
            optimizer={},
            message_hub={}), str(path))
    return str(path)


class TestResume:

    def test_whole_checkpoint(self, tmp_path):
        path = save(tmp_path / 'epoch_1.pth')
        cfg = config(work_dir=str(tmp_path), load_from='begin.pth')
        assert resume(cfg, 'auto') == []
        assert cfg.resume is True and cfg.load_from == path
        cfg = config(work_dir=str(tmp_path / 'new'))
        assert resume(cfg, path) == []
        assert cfg.resume is True and cfg.load_from == path

    def test_first_launch_begins_with_the_weights_of_the_config(
            self, tmp_path):
        cfg = config(work_dir=str(tmp_path), load_from='begin.pth')
        note, = resume(cfg, 'auto')
        assert 'training starts from the beginning' in note
        assert not cfg.get('resume') and cfg.load_from == 'begin.pth'

    def test_newer_ones_are_damaged(self, tmp_path):
        path = save(tmp_path / 'epoch_1.pth')
        (tmp_path / 'epoch_2.pth').write_text('')
        note, = resume(config(work_dir=str(tmp_path)), 'auto')
        assert 'epoch_2.pth' in note
        assert note.endswith(f'resuming from {path!r}')

    def test_all_are_damaged(self, tmp_path):
        (tmp_path / 'epoch_1.pth').write_text('')
        cfg = config(work_dir=str(tmp_path))
        with pytest.raises(InvalidValueError, match='finds no whole check'):
            resume(cfg, 'auto')

    def test_files_that_a_user_names(self, tmp_path):
        cfg = config(work_dir=str(tmp_path))
        with pytest.raises(
                MissingFileError,
                match="`--resume` 'gone.pth' does not exist; give "):
            resume(cfg, 'gone.pth')
        torch.save(
            dict(meta={}, state_dict={}), str(tmp_path / 'published.pth'))
        with pytest.raises(
                InvalidValueError,
                match='no `optimizer`.*train from weights alone with'):
            resume(cfg, str(tmp_path / 'published.pth'))
        path = save(tmp_path / 'epoch_1.pth')
        os.truncate(path, osp.getsize(path) // 2)
        with pytest.raises(InvalidValueError, match='is damaged'):
            resume(cfg, path)
        assert 'resume' not in cfg and 'load_from' not in cfg

    def test_another_distillation(self, tmp_path):
        path = save(tmp_path / 'epoch_1.pth')
        cfg = config(distiller(2.0, 0.5), work_dir=str(tmp_path))
        begin = f'`--resume` changes the distillation of {path!r}: model.'
        assert resume(cfg, 'auto') == [
            f'{begin}distill_losses.loss_kd_cls.loss_weight: 1.0 -> 0.5',
            f'{begin}teacher.calibrator.temperature: 1.5 -> 2.0'
        ]
        assert cfg.load_from == path


class TestDistillationChanges:

    @staticmethod
    def changes(old, new):
        return distillation_changes(
            Config(dict(model=old)).pretty_text,
            Config(dict(model=new)).pretty_text)

    def test_none(self):
        assert self.changes(distiller(), distiller()) == []
        assert self.changes(
            dict(distiller(), backbone=dict(depth=50)), distiller()) == []

    def test_formatting_is_not_a_change(self):
        text = 'model = dict(teacher=dict(a=[1, 2], b={"c.d": 1}))'
        same = ('x = 1\nmodel = {\n"teacher": {"a": (1, 2),\n '
                '"b": dict({"c.d": 1.0})}}')
        assert distillation_changes(text, same) == []

    def test_keys_that_come_and_go(self):
        old = dict(type='FasterRCNN')
        new = dict(old, teacher=dict(config='t.py'), distill_losses=dict())
        assert self.changes(old, new) == [
            'model.distill_losses: absent -> {}',
            "model.teacher: absent -> {'config': 't.py'}"
        ]
        assert self.changes(new, old) == [
            'model.distill_losses: {} -> absent',
            "model.teacher: {'config': 't.py'} -> absent"
        ]

    def test_long_values_are_shortened(self):
        line, = self.changes(
            dict(teacher=dict(config='t' * 500)), dict(teacher=None))
        assert len(line) < 150 and line.endswith('... -> None')

    def test_names_that_only_a_program_knows(self):
        old = dict(teacher=dict(a=float('inf'), b=float('nan'), c=-1e-5))
        new = dict(teacher=dict(a=float('-inf'), b=float('nan'), c=-1e-5))
        assert self.changes(old, new) == ["model.teacher.a: 'inf' -> '-inf'"]

    def test_new_style_config(self):
        """A class in it is written as a text."""
        old = 'model = dict(teacher=dict(type="mmdet.models.FasterRCNN"))'
        assert distillation_changes(old, old.replace('Faster', 'Mask')) == [
            "model.teacher.type: 'mmdet.models.FasterRCNN' -> "
            "'mmdet.models.MaskRCNN'"
        ]

    @pytest.mark.parametrize('text', [
        '', 'model = dict(', '\0', 'model = 3', 'other = dict(teacher=1)',
        'model = dict(teacher=' + '(' * 5000,
        'model = dict(teacher=' + '-' * 100000 + '1)'
    ])
    def test_text_that_says_nothing(self, text):
        assert distillation_changes(text, 'model = dict(teacher=1)') == []
        assert distillation_changes('model = dict(teacher=1)', text) == []

    def test_nothing_in_it_is_run(self, tmp_path):
        trap = tmp_path / 'trap'
        text = (f'open({str(trap)!r}, "w")\nmodel = dict(teacher='
                f'open({str(trap)!r}, "w"), distill_losses=dict('
                f'**open({str(trap)!r}, "w")))')
        assert len(distillation_changes(text, 'model = dict(teacher=1)')) == 2
        assert not trap.exists()


@pytest.mark.slow
def test_processes_that_disagree_all_stop(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', DISAGREEING, rank,
             str(tmp_path / 'meet')],
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True) for rank in '01'
    ]
    try:
        for process in processes:
            output = process.communicate(timeout=60)[0]
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
