"""What ``--resume`` decides before there is a Runner."""
import os
import os.path as osp

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config

from tcal_det.engine.resuming import (check_same_checkpoint,
                                      distillation_changes, resume)
from tcal_det.engine.training import leave_process_group
from tcal_det.engine.training_state import TrainingState
from tcal_det.errors import InvalidValueError, MissingFileError
from tests.processes import run_ranks


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
            optimizer=dict(state={}),
            message_hub=dict(log_scalars={}, runtime_info={},
                             resumed_keys={})), str(path))
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
        with pytest.raises(InvalidValueError, match='finds no complete check'):
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
        with pytest.raises(InvalidValueError, match='it is damaged'):
            resume(cfg, path)
        assert 'resume' not in cfg and 'load_from' not in cfg

    def test_another_distillation(self, tmp_path):
        path = save(tmp_path / 'epoch_1.pth')
        cfg = config(distiller(2.0, 0.5), work_dir=str(tmp_path))
        begin = f'`--resume` changes the distillation of {path!r}: model.'
        assert resume(cfg, 'auto') == [
            f'{begin}teacher.calibrator.temperature: 1.5 -> 2.0',
            f'{begin}distill_losses.loss_kd_cls.loss_weight: 1.0 -> 0.5'
        ]
        assert cfg.load_from == path


class TestDistillationChanges:

    @staticmethod
    def changes(old, new):
        """The part of each line that tells what has changed."""
        lines = distillation_changes(
            TrainingState('x.pth',
                          Config(dict(model=old)).pretty_text),
            Config(dict(model=new)).pretty_text)
        begin = "`--resume` changes the distillation of 'x.pth': "
        assert all(line.startswith(begin) for line in lines)
        return [line[len(begin):] for line in lines]

    def test_none(self):
        assert self.changes(distiller(), distiller()) == []
        assert self.changes(
            dict(distiller(), backbone=dict(depth=50)), distiller()) == []

    def test_lists_and_tuples_are_the_same(self):
        assert self.changes(
            dict(teacher=dict(a=[1, (2, 3)])),
            dict(teacher=dict(a=(1.0, [2, 3])))) == []
        assert self.changes(
            dict(teacher=dict(a=[1, (2, 3)])),
            dict(teacher=dict(a=(1.0,
                                 [2, 4])))) == ['model.teacher.a.1.1: 3 -> 4']

    def test_keys_that_come_and_go(self):
        old = dict(type='FasterRCNN')
        new = dict(old, teacher=dict(config='t.py'), distill_losses=dict())
        assert self.changes(old, new) == [
            "model.teacher: absent -> {'config': 't.py'}",
            'model.distill_losses: absent -> {}'
        ]
        assert self.changes(new, old) == [
            "model.teacher: {'config': 't.py'} -> absent",
            'model.distill_losses: {} -> absent'
        ]
        assert self.changes(dict(teacher=dict(a=1)),
                            dict(teacher=dict(b=1))) == [
                                'model.teacher.a: 1 -> absent',
                                'model.teacher.b: absent -> 1'
                            ]

    def test_long_values_are_shortened(self):
        line, = self.changes(
            dict(teacher=dict(config='t' * 500)), dict(teacher=None))
        assert len(line) < 150 and line.endswith('... -> None')

    @pytest.mark.parametrize('text', [
        'model = open({!r}, "w")', 'model = 3', 'model = "text"', 'model = ('
    ])
    def test_a_text_that_cannot_be_compared(self, tmp_path, text):
        trap = tmp_path / 'trap'
        line, = distillation_changes(
            TrainingState('x.pth', text.format(str(trap))), '')
        assert "distillation of 'x.pth' is unknown" in line
        assert not trap.exists()

    def test_keys_that_are_no_names(self):
        state = TrainingState('x.pth', 'model = dict(teacher={1: 2, "a": 3})')
        assert [
            line.rpartition(': ')[2] for line in distillation_changes(
                state, 'model = dict(teacher=dict(a=4))')
        ] == ['2 -> absent', '3 -> 4']


def disagree(rank, meeting_point):
    dist.init_process_group(
        'gloo', init_method=f'file://{meeting_point}', rank=rank, world_size=2)
    check_same_checkpoint(Config(dict(load_from='a.pth')))
    check_same_checkpoint(Config(dict()))
    with pytest.raises(InvalidValueError, match=r"finds \[None, 'a.pth'\]"):
        check_same_checkpoint(Config(dict(load_from=[None, 'a.pth'][rank])))
    # Else gloo may abort a process that has succeeded.
    leave_process_group()


@pytest.mark.slow
def test_processes_that_disagree_all_stop(tmp_path):
    run_ranks(disagree, str(tmp_path / 'meet'))
