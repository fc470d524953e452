"""The commands on teachers with sigmoid heads, from config to JSON file."""
import json
import math
import os
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub

from tcal_det.engine.hooks.teacher_calibration_hook import \
    TeacherCalibrationHook
from tcal_det.evaluation.functional import calibration_error
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS
from tcal_det.teachers import calibration as teacher_calibration

TOOLS = os.path.join(os.path.dirname(__file__), '../../tools')
ANCHORS = dict(
    type='AnchorGenerator', ratios=[1.0], strides=[4, 8, 16, 32, 64])
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
ASSIGNER = dict(type='ATSSAssigner', topk=9)
HEADS = dict(
    RetinaNet=dict(
        type='RetinaHead',
        stacked_convs=1,
        anchor_generator=dict(
            ANCHORS, octave_base_scale=4, scales_per_octave=1),
        loss_cls=FOCAL),
    GFL=dict(
        type='GFLHead',
        stacked_convs=1,
        anchor_generator=dict(
            ANCHORS, octave_base_scale=8, scales_per_octave=1),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0),
        loss_bbox=dict(type='GIoULoss'),
        reg_max=8),
    PAA=dict(
        type='PAAHead',
        stacked_convs=1,
        anchor_generator=dict(
            ANCHORS, octave_base_scale=8, scales_per_octave=1),
        loss_cls=FOCAL,
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True)))


@pytest.fixture
def sigmoid_files(calibration_files):
    """Config and checkpoint of a tiny dense teacher on the small data set."""

    def make(kind):
        config, checkpoint = calibration_files()
        cfg = Config.fromfile(config)
        model = cfg.model
        model.type = kind
        for key in ('rpn_head', 'roi_head'):
            model.pop(key)
        model.bbox_head = dict(
            HEADS[kind],
            num_classes=3,
            in_channels=model.neck.out_channels,
            feat_channels=32)
        assigner = ASSIGNER
        if kind != 'GFL':
            assigner = dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0)
        model.train_cfg = dict(
            assigner=assigner, allowed_border=-1, pos_weight=-1, debug=False)
        model.test_cfg = dict(
            nms_pre=100,
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.6),
            max_per_img=20)
        torch.manual_seed(0)
        detector = MMDET_MODELS.build(model)
        for name, parameter in detector.bbox_head.named_parameters():
            # Scores on both sides of the threshold.
            if name in ('retina_cls.weight', 'gfl_cls.weight'):
                parameter.data.normal_(0, 0.3)
            if name in ('retina_cls.bias', 'gfl_cls.bias'):
                parameter.data.fill_(-3)
        cfg.dump(config)
        torch.save(dict(state_dict=detector.state_dict()), checkpoint)
        return config, checkpoint

    return make


@pytest.fixture
def run_tool(monkeypatch):
    """Run a command as the shell would, in this process."""

    def run(name, *arguments):
        monkeypatch.setattr(teacher_calibration, 'save_figure',
                            lambda figure, path: None)
        path = os.path.join(TOOLS, name)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        runpy.run_path(path, run_name='__main__')

    return run


def error_of(run_tool, capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        run_tool(*arguments)
    assert caught.value.code == 2
    error, = (
        line for line in capsys.readouterr().err.splitlines()
        if line.startswith('error: '))
    return error


@pytest.mark.parametrize('kind, calibrator, targets',
                         [('RetinaNet', None, '0 or 1'),
                          ('RetinaNet', 'FocalPosterior', '0 or 1'),
                          ('GFL', None, 'IoU')])
def test_end_to_end(sigmoid_files, run_tool, tmp_path, kind, calibrator,
                    targets, capsys):
    out = tmp_path / 'out'
    chosen = [] if calibrator is None else ['--calibrator', calibrator]
    run_tool('calibrate_teacher.py', *sigmoid_files(kind), '--out', out,
             '--softening', '1.5', *chosen)
    path = str(out / 'teacher_calibration.json')
    with open(path) as file:
        content = json.load(file)
    fitted = content['calibrator']
    assert fitted['type'] == (calibrator or 'PlattScaling')
    samples = content['samples']
    assert samples['targets'] == targets
    # 128 x 192 pixels, strides 4 to 64, 3 classes, 6 images.
    cells = sum(-(-128 // stride) * -(-192 // stride)
                for stride in (4, 8, 16, 32, 64))
    weightless = 6 * 3 * cells - samples['num_seen']
    assert 0 <= weightless < 600
    assert weightless % 3 == 0
    assert 0 < samples['num_scored_seen'] < samples['num_seen']
    assert fitted['base_rate'] == pytest.approx(samples['sum_targets'] /
                                                samples['num_seen'])
    assert content['before']['scored']['num_samples'] == (
        samples['num_scored_used'])
    assert 'fitted to scored ' in capsys.readouterr().out
    loaded = MODELS.build(
        dict(type=fitted['type'], load_from=path, _scope_='tcal_det'))
    loaded.check_cls_channels(3)
    assert loaded(torch.randn(2, 3)).isfinite().all()


@pytest.mark.parametrize('kind, extra, messages', [
    ('PAA', (), ('PAA', 'assigns classes by its own scores')),
    ('GFL', ('--calibrator', 'FocalPosterior'),
     ('QualityFocalLoss', '--calibrator PlattScaling')),
    ('GFL', ('--calibrator', 'VectorScaling'), ('VectorScaling', 'GFL')),
    ('GFL', ('--calibrator', 'TemperatureScaling', '--objective', 'ece'),
     ('`objective`', 'GFL')),
    ('RetinaNet', ('--max-samples', str(10**15)), ('`max_samples`', 'pairs')),
])
def test_a_mistake_is_one_line_and_status_2(sigmoid_files, run_tool, tmp_path,
                                            capsys, kind, extra, messages):
    out = tmp_path / 'out'
    error = error_of(run_tool, capsys, 'calibrate_teacher.py',
                     *sigmoid_files(kind), '--out', out, *extra)
    assert all(message in error for message in messages)
    assert not (out / 'teacher_calibration.json').exists()


def test_sigmoid_calibrator_for_a_softmax_head(calibration_files, run_tool,
                                               tmp_path, capsys):
    error = error_of(run_tool, capsys, 'calibrate_teacher.py',
                     *calibration_files(), '--out', tmp_path / 'out',
                     '--calibrator', 'PlattScaling')
    assert 'PlattScaling' in error and 'softmax head' in error
    assert 'FasterRCNN' in error


def test_ranking(sigmoid_files, run_tool, tmp_path):
    config, checkpoint = sigmoid_files('RetinaNet')
    copy = checkpoint.replace('.pth', '_x3.pth')
    state = torch.load(checkpoint)
    for name in ('weight', 'bias'):
        state['state_dict'][f'bbox_head.retina_cls.{name}'] *= 3
    torch.save(state, copy)
    run_tool('analysis_tools/rank_teachers.py', '--teacher', 'as-is', config,
             checkpoint, '--teacher', 'x3', config, copy, '--out',
             tmp_path / 'out', '--num-resamples', 20)
    with open(tmp_path / 'out.json') as file:
        content = json.load(file)
    assert {one['name'] for one in content['teachers']} == {'as-is', 'x3'}
    assert set(content['recommendation']) >= {'scale', 'bias'}


def test_teachers_of_two_activations_are_not_ranked(calibration_files,
                                                    sigmoid_files, run_tool,
                                                    tmp_path, capsys):
    softmax = []
    for path in calibration_files():
        copy = str(tmp_path / f'softmax{os.path.splitext(path)[1]}')
        os.rename(path, copy)
        softmax.append(copy)
    error = error_of(run_tool, capsys, 'analysis_tools/rank_teachers.py',
                     '--teacher', 'a', *softmax, '--teacher', 'b',
                     *sigmoid_files('RetinaNet'), '--out', tmp_path / 'out')
    assert "'a': 'softmax over RoIs', 'b': 'sigmoid over priors'" in error
    assert 'tcal-eval' in error


@pytest.mark.parametrize('kind', ['RetinaNet', 'GFL'])
def test_hook_logs_the_scored_pairs_of_all_levels(sigmoid_files, training_step,
                                                  kind):
    """The student is its own teacher, and a bias halves its odds."""
    config, checkpoint = sigmoid_files(kind)
    model = Config.fromfile(config).model
    model.backbone.norm_eval = True
    model.update(
        type='tcal_det.CalibratedTeacherDistiller',
        student_type=kind,
        teacher=dict(
            config=config,
            checkpoint=checkpoint,
            calibrator=dict(type='PlattScaling', scale=1.0,
                            bias=-math.log(2))),
        distill_losses=dict(loss_kd_cls=dict(type='LogitBinaryKLDivLoss')))
    student = MODELS.build(model)
    student.load_state_dict(torch.load(checkpoint)['state_dict'])
    student.teacher.build(student)
    hub = MessageHub.get_instance(f'sigmoid_{kind}')
    hook = TeacherCalibrationHook(interval=1)
    runner = SimpleNamespace(model=student, iter=0, message_hub=hub)
    seen = []
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    with adapter_for(student, 'student').observe() as observation:
        training_step(student)
    hook.after_train_iter(runner, 0)
    for group in observation.groups:
        for i, row in enumerate(group.logits.sigmoid().tolist()):
            for c, one in enumerate(row):
                if one > .05 and (group.weight is None or group.weight[i] > 0):
                    target = float(group.labels[i] == c)
                    if group.quality is not None:
                        target *= group.quality[i].item()
                    seen.append((one, target))
    scores, targets = np.transpose(seen)
    assert len(scores) > 100 and targets.any()
    expected = dict(
        student=scores,
        teacher=scores,
        calibrated_teacher=scores / (2 - scores))
    for name, values in expected.items():
        logged = hub.get_scalar(f'train/{name}_ece').current()
        assert logged == pytest.approx(
            calibration_error(values, targets).ece, abs=1e-5)
    assert not student.teacher.calibrator._forward_hooks
    assert not any(module._forward_hooks or module._forward_pre_hooks
                   for module in student.modules())
