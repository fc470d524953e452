"""Feature losses through the commands: resumed, published, refused."""
import glob

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tests.state_comparison import assert_same_state

LOSSES = dict(
    loss_pkd=dict(type='PKDLoss'),
    loss_mgd=dict(type='MGDLoss', student_channels=[16] * 5),
    loss_fgd=dict(type='FGDLoss', student_channels=[16] * 5),
    loss_dpk=dict(type='DPKLoss', student_channels=[16] * 5),
    loss_flow=dict(type='InformationFlowLoss', levels=[-1], num_samples=4))


@pytest.fixture
def feature_config(run_configs, tmp_path):
    """Path of the distill config with feature losses."""

    def write(edit=None):
        cfg = Config.fromfile(run_configs['distill'])
        cfg.model.distill_losses.update(LOSSES)
        cfg.train_cfg.update(max_epochs=2, val_interval=2)
        cfg.default_hooks.checkpoint.max_keep_ckpts = -1
        if edit is not None:
            edit(cfg.model)
        path = str(tmp_path / 'features.py')
        cfg.dump(path)
        return path

    return write


@pytest.mark.slow
def test_resumed_run_has_the_weights_of_a_whole_one(call_tool, feature_config,
                                                    run_configs, tmp_path,
                                                    load_state):
    """And the draws; what learns stays out of the published student."""
    config, whole = feature_config(), tmp_path / 'whole'
    status, stderr = call_tool('train.py', config, '--work-dir', str(whole))
    assert status == 0, stderr
    status, stderr = call_tool('train.py', config, '--work-dir',
                               str(tmp_path / 'resumed'), '--resume',
                               str(whole / 'epoch_1.pth'))
    assert status == 0, stderr
    first, expected, resumed = (
        load_state(str(path))
        for path in (whole / 'epoch_1.pth', whole / 'epoch_2.pth',
                     tmp_path / 'resumed/epoch_2.pth'))
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_same_state(resumed[key], expected[key])
    prefix = 'distill_losses.loss_'
    for key in ('mgd.generators.0.0.weight', 'dpk.decoders.0.0.weight',
                'dpk.similarity', 'fgd.student_contexts.0.conv_mask.weight'):
        assert not torch.equal(first['state_dict'][prefix + key],
                               expected['state_dict'][prefix + key]), key
    # Four steps of five levels, and of one.
    for key, draws in (('mgd', 20), ('dpk', 20), ('flow', 4)):
        key = f'{prefix}{key}.random_stream.draws'
        assert first['state_dict'][key] == draws
        assert expected['state_dict'][key] == 2 * draws

    status, stderr = call_tool('model_converters/publish_student.py',
                               str(whole / 'epoch_2.pth'),
                               str(tmp_path / 'student.pth'))
    assert status == 0, stderr
    published, = glob.glob(str(tmp_path / 'student-*.pth'))
    plain = MODELS.build(Config.fromfile(run_configs['plain']).model)
    plain.load_state_dict(load_state(published)['state_dict'], strict=True)


def one_level(level):

    def edit(model):
        model.neck.update(start_level=level, end_level=level, num_outs=1)
        model.rpn_head.anchor_generator.strides = [4 * 2**level]
        model.roi_head.bbox_roi_extractor.featmap_strides = [4 * 2**level]
        model.distill_losses = dict(loss_pkd=dict(type='PKDLoss'))

    return edit


def of_other_channels(model):
    model.distill_losses = dict(
        loss_mgd=dict(
            type='MGDLoss',
            student_channels=[16] * 5,
            teacher_channels=[24] * 5))


def of_a_head(model):
    model.distill_losses = dict(loss_pkd=dict(type='PKDLoss', features='head'))


@pytest.mark.parametrize('edit, teacher_edit, words', [
    (one_level(0), one_level(3),
     'the student FasterRCNN has 2x16x16x16 and the teacher FasterRCNN has '
     '2x16x2x2: choose another teacher'),
    (of_other_channels, None,
     'MGDLoss cannot compare the neck of the student FasterRCNN and of the '
     'teacher FasterRCNN'),
    (of_a_head, None, '`features` must be'),
])
def test_mistakes_are_one_line(call_tool, feature_config, tmp_path, edit,
                               teacher_edit, words):
    config = feature_config(edit)
    if teacher_edit is not None:
        cfg = Config.fromfile(config)
        teacher = Config.fromfile(cfg.model.teacher.config)
        teacher_edit(teacher.model)
        teacher.model.pop('distill_losses')
        teacher.dump(cfg.model.teacher.config)
        torch.save(
            dict(state_dict=MODELS.build(teacher.model).state_dict()),
            cfg.model.teacher.checkpoint)
    status, stderr = call_tool('train.py', config, '--work-dir',
                               str(tmp_path / 'run'))
    lines = [
        line for line in stderr.splitlines() if line.startswith('error: ')
    ]
    assert status == 2 and 'Traceback' not in stderr
    assert len(lines) == 1 and words in lines[0], lines
