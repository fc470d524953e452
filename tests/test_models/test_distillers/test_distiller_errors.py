"""Each mistake of the user's gets one line: argument, allowed, given."""
import os
import socket
from unittest import mock
from urllib.error import URLError

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.registry import MODELS


@pytest.mark.parametrize('temperature, error', [
    (0, InvalidValueError),
    (-1.5, InvalidValueError),
    (float('nan'), InvalidValueError),
    (float('inf'), InvalidValueError),
    ('1.5', InvalidTypeError),
    (True, InvalidTypeError),
])
def test_temperature(distiller_cfg, temperature, error):
    with pytest.raises(error, match=r'`temperature` must be .*\(0, inf\)'):
        MODELS.build(distiller_cfg(temperature=temperature))


@pytest.mark.parametrize('weight', [-1, float('nan')])
def test_loss_weight(distiller_cfg, weight):
    losses = dict(loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=weight))
    with pytest.raises(
            InvalidValueError, match=r'`loss_weight` must be in \[0, inf\)'):
        MODELS.build(distiller_cfg(losses=losses))


def test_loss_name_that_nobody_sums(distiller_cfg):
    losses = dict(kd=dict(type='LogitKLDivLoss'))
    with pytest.raises(InvalidValueError, match="begin with `loss_`.*'kd'"):
        MODELS.build(distiller_cfg(losses=losses))


def test_loss_name_of_the_student(distiller_cfg, training_step):
    losses = dict(loss_cls=dict(type='LogitKLDivLoss'))
    model = MODELS.build(distiller_cfg(losses=losses))
    with pytest.raises(InvalidValueError, match="own losses.*'loss_cls'"):
        training_step(model)


@pytest.mark.parametrize('student_type', ['FasterRCNNN', 'ResNet', None])
def test_unknown_student_type(distiller_cfg, student_type):
    cfg = distiller_cfg()
    cfg.student_type = student_type
    with pytest.raises(
            InvalidValueError, match='`student_type` must name a registered'):
        MODELS.build(cfg)


def test_missing_student_type(distiller_cfg):
    cfg = distiller_cfg()
    del cfg['student_type']
    with pytest.raises(
            InvalidValueError, match='`student_type` must name.*None'):
        MODELS.build(cfg)


def test_student_that_proposes_only(distiller_cfg):
    model = Config.fromfile('configs/_base_/models/'
                            'faster-rcnn_r18-half_fpn64.py').model
    cfg = distiller_cfg()
    rpn = dict(
        type=cfg.type,
        student_type='RPN',
        teacher=cfg.teacher,
        distill_losses=cfg.distill_losses,
        backbone=model.backbone,
        neck=model.neck,
        rpn_head=model.rpn_head,
        train_cfg=model.train_cfg,
        test_cfg=model.test_cfg)
    with pytest.raises(
            InvalidTypeError,
            match='the student RPN has the `bbox_head` RPNHead, which '
            'proposes boxes and does not distinguish classes'):
        MODELS.build(rpn)


ZOO_STUDENTS = [
    ('centernet/centernet_r18_8xb16-crop512-140e_coco.py',
     'the student CenterNet has the `bbox_head` CenterNetHead, which scores '
     'heat maps'),
    ('cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
     'the student CornerNet has the `bbox_head` CornerHead, which scores '
     'corners, which do not belong to a box before they are grouped'),
    ('solo/solo_r50_fpn_1x_coco.py',
     'the student SOLO has neither an RoI head .* nor a dense head .*: '
     'choose another student'),
]
# Built fast; the heads are what matters.
SMALL_BACKBONES = dict(
    ResNet=dict(depth=18),
    HourglassNet=dict(
        num_stacks=1,
        downsample_times=1,
        stage_channels=[256, 256],
        stage_blocks=[1, 1]))


@pytest.mark.parametrize('name, message', ZOO_STUDENTS)
def test_refusal_names_the_detector_as_the_user_does(name, message):
    """And says where the documentation tells which heads are read."""
    cfg = get_config(f'mmdet::{name}').model
    cfg.backbone.init_cfg = None
    cfg.backbone.update(SMALL_BACKBONES[cfg.backbone.type])
    cfg.update(
        type='tcal_det.CalibratedTeacherDistiller', student_type=cfg.type)
    with pytest.raises(
            InvalidTypeError,
            match=f'{message}.*docs/reference/methods.md, "Which heads"'):
        MODELS.build(cfg)
    with open('docs/reference/methods.md', encoding='utf-8') as file:
        assert '## Which heads' in file.read()


def test_bbox_head_that_classifies_nothing(distiller_cfg):
    cfg = distiller_cfg()
    cfg.roi_head.bbox_head.with_cls = False
    with pytest.raises(
            InvalidTypeError,
            match='Shared2FCBBoxHead, which does not classify'):
        MODELS.build(cfg)


def test_softmax_loss_on_a_sigmoid_head(distiller_cfg):
    cfg = distiller_cfg()
    cfg.roi_head.bbox_head.loss_cls.use_sigmoid = True
    with pytest.raises(
            InvalidValueError,
            match='LogitKLDivLoss is made for softmax heads, but the student '
            'FasterRCNN classifies with sigmoid: choose a loss'):
        MODELS.build(cfg)


@pytest.mark.parametrize('teacher', [None, 'faster.pth'])
def test_teacher_is_no_dict(distiller_cfg, teacher):
    cfg = distiller_cfg()
    cfg.teacher = teacher
    with pytest.raises(InvalidTypeError, match='`teacher` must be a dict'):
        MODELS.build(cfg)


def test_teacher_with_an_unknown_key(distiller_cfg):
    cfg = distiller_cfg()
    cfg.teacher.weights = 'teacher.pth'
    with pytest.raises(InvalidValueError, match="'weights'"):
        MODELS.build(cfg)


def init(cfg):
    model = MODELS.build(cfg)
    model.init_weights()


@pytest.mark.parametrize('calibrator', [
    dict(type='PlattScaling', scale=1.0, bias=0.0),
    dict(type='TemperatureScaling', temperature=2.0, activation='sigmoid'),
])
def test_calibrator_for_another_kind_of_head(distiller_cfg, calibrator):
    cfg = distiller_cfg()
    cfg.teacher.calibrator = calibrator
    with pytest.raises(
            InvalidValueError, match='for softmax heads.* is for sigmoid'):
        init(cfg)


def test_teacher_config_missing(distiller_cfg):
    with pytest.raises(
            MissingFileError, match="`teacher.config` 'gone.py' does not"):
        init(distiller_cfg(teacher=dict(config='gone.py', checkpoint='x')))


def test_teacher_config_without_model(distiller_cfg):
    teacher = dict(config=dict(data_root='data'), checkpoint='x.pth')
    with pytest.raises(
            InvalidValueError, match=r"key `model`.*only \['data_root'\]"):
        init(distiller_cfg(teacher=teacher))


def test_auto_checkpoint_of_a_local_config(distiller_cfg, teacher_files):
    teacher = dict(teacher_files(), checkpoint='auto')
    with pytest.raises(InvalidValueError, match="'auto'` needs an 'mmdet::'"):
        init(distiller_cfg(teacher=teacher))


def test_teacher_checkpoint_missing(distiller_cfg, teacher_files):
    teacher = dict(teacher_files(), checkpoint='gone.pth')
    with pytest.raises(
            MissingFileError, match="teacher checkpoint 'gone.pth' does not"):
        init(distiller_cfg(teacher=teacher))


@pytest.mark.parametrize('reason', [
    URLError(socket.gaierror(-2, 'Name or service not known')),
    ConnectionResetError('Connection reset by peer'),
    socket.timeout('timed out'),
])
def test_teacher_that_cannot_be_downloaded(distiller_cfg, monkeypatch,
                                           tmp_path, reason):
    """Not damaged: there is no internet."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr('torch.hub.urlopen', mock.Mock(side_effect=reason))
    cfg = distiller_cfg(
        teacher=dict(
            config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
            checkpoint='auto'),
        num_classes=80)
    with pytest.raises(MissingFileError) as info:
        init(cfg)
    message = str(info.value)
    assert message.startswith("teacher checkpoint 'https://download.openmmlab")
    assert f'could not be downloaded ({reason})' in message
    assert 'elsewhere, and set `teacher.checkpoint`' in message
    assert 'to a path, a URL' in message
    assert 'damaged' not in message


def test_teacher_checkpoint_truncated(distiller_cfg, teacher_files):
    teacher = teacher_files()
    size = os.path.getsize(teacher['checkpoint'])
    with open(teacher['checkpoint'], 'r+b') as file:
        file.truncate(size // 2)
    with pytest.raises(InvalidValueError, match='cannot be read, it is dam'):
        init(distiller_cfg(teacher=teacher))


def test_checkpoint_silently_not_loaded__fgd_35(distiller_cfg, teacher_files):
    teacher = teacher_files()
    state = torch.load(teacher['checkpoint'])['state_dict']
    kept = dict(list(state.items())[5:])
    torch.save(
        dict(state_dict=dict(kept, extra=torch.zeros(1))),
        teacher['checkpoint'])
    first_three = ', '.join(list(state)[:3])
    with pytest.raises(InvalidValueError) as info:
        init(distiller_cfg(teacher=teacher))
    assert f'5 keys ({first_three}, ...) missing' in str(info.value)
    assert '1 keys (extra) unexpected' in str(info.value)


def test_teacher_checkpoint_of_another_architecture(distiller_cfg,
                                                    teacher_files):
    wide = teacher_files(name='wide', width=16)
    teacher = dict(teacher_files(), checkpoint=wide['checkpoint'])
    with pytest.raises(
            InvalidValueError,
            match=r'backbone.conv1.weight \(16, .*instead of \(12, '):
        init(distiller_cfg(teacher=teacher))


def test_teacher_with_another_number_of_classes(distiller_cfg, teacher_files):
    teacher = teacher_files(num_classes=7)
    with pytest.raises(InvalidValueError) as info:
        init(distiller_cfg(teacher=teacher))
    message = str(info.value)
    assert 'teacher FasterRCNN has 7 and the student FasterRCNN 3' in message
    assert '`model.roi_head.bbox_head.num_classes`' in message


WRONG_PARTS = [
    ('TemperatureScaling', InvalidTypeError, "key `type`.*'Temperature"),
    (1.5, InvalidTypeError, 'key `type`.*got 1.5'),
    (dict(temperature=1.5), InvalidTypeError, 'key `type`'),
    (dict(type='TemperatureScaling', temprature=1.5), InvalidValueError,
     r"TemperatureScaling takes \(temperature.*got.*temprature"),
    (dict(type='TemperatureScaling', num_classes=4), InvalidValueError,
     r'takes \(.*cls_channels.*got.*num_classes'),
]


@pytest.mark.parametrize('calibrator, error, message', WRONG_PARTS)
def test_misspelt_calibrator(distiller_cfg, calibrator, error, message):
    cfg = distiller_cfg()
    cfg.teacher.calibrator = calibrator
    with pytest.raises(error, match=f'`teacher.calibrator` .*{message}'):
        MODELS.build(cfg)


@pytest.mark.parametrize('loss, error, message', [
    ('LogitKLDivLoss', InvalidTypeError, "key `type`.*'LogitKLDivLoss'"),
    (dict(type='LogitKLDivLoss', T=2), InvalidValueError,
     r"LogitKLDivLoss takes \(.*temperature.*got {'T': 2}"),
])
def test_misspelt_loss(distiller_cfg, loss, error, message):
    cfg = distiller_cfg(losses=dict(loss_kd_cls=loss))
    with pytest.raises(
            error, match=f'`distill_losses.loss_kd_cls` .*{message}'):
        MODELS.build(cfg)


@pytest.mark.parametrize('content', [
    'model = undefined_name',
    "_base_ = 'mmdett::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'",
    "_base_ = './base.py'\nmodel = {{_base_.nothing}}",
])
def test_teacher_config_that_fails(distiller_cfg, tmp_path, content):
    (tmp_path / 'base.py').write_text('')
    path = tmp_path / 'failing.py'
    path.write_text(content)
    teacher = dict(config=str(path), checkpoint='x.pth')
    with pytest.raises(
            InvalidValueError, match='`teacher.config` .*cannot be read'):
        init(distiller_cfg(teacher=teacher))


def test_head_whose_rows_cannot_be_paired(distiller_cfg):
    """CrowdDet's, that predicts two objects for each RoI."""
    cfg = distiller_cfg()
    cfg.roi_head.bbox_head.update(type='MultiInstanceBBoxHead', num_instance=2)
    with pytest.raises(
            InvalidTypeError,
            match='MultiInstanceBBoxHead, which predicts a set of objects .*'
            'cannot be paired'):
        MODELS.build(cfg)


@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_preprocessor_that_is_not_one_of_images(distiller_cfg, teacher_files,
                                                role):
    teacher = teacher_files()
    cfg = distiller_cfg(teacher=teacher)
    if role == 'student':
        del cfg['data_preprocessor']
    else:
        own = Config.fromfile(teacher['config'])
        del own.model['data_preprocessor']
        own.dump(teacher['config'])
    with pytest.raises(
            InvalidTypeError, match=f'the {role} must have an ImgData'):
        init(cfg)
