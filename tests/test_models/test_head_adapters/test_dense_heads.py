"""Every dense head of mmdet as student and teacher."""
import copy
from unittest import mock

import pytest
import torch
import torch.nn as nn
from mmdet.models.losses import VarifocalLoss
from mmengine.logging import MessageHub
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers import frozen_teacher
from tcal_det.models.distillers.batch_norm_folding import fold_batch_norms
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS
from tests.dense_cases import HEADS, NUM_CLASSES, batch, build, tiny_model

SOFTMAX = ('SSDHead', 'YOLACTHead')
JOINT = ('YOLOXHead', 'YOLOV3Head')
NO_LABELS = ('FreeAnchorRetinaHead', 'AutoAssignHead', 'SSDHead')
# Whose own loss is not a function of the recorded samples alone.
OWN_LOSS_EXCEPTIONS = {
    'GHM': 'divides by its count of samples in bins of the gradient',
    'FSAFHead': 'weighs objects by their best level afterwards',
    'DDODHead': 'multiplies each level by a factor of its own',
    'CenterNetUpdateHead': 'has a heat map around each positive',
    'YOLOXHead': 'trains class and objectness apart',
    'YOLOV3Head': 'trains class and objectness apart',
    'YOLACTHead': 'takes the hardest negatives only',
}
EVERY_HEAD = pytest.mark.parametrize('name', HEADS)


@pytest.fixture(autouse=True)
def first_epoch():
    """TOOD reads the epoch from there."""
    MessageHub.get_current_instance().update_info('epoch', 0)


def loss_for(name, **changes):
    kind = 'LogitKLDivLoss' if name in SOFTMAX else 'LogitBinaryKLDivLoss'
    return dict(loss_kd_cls=dict(dict(type=kind), **changes))


@pytest.fixture
def distiller(tmp_path, monkeypatch):
    """Build a student, and a teacher of the weights that it starts with."""

    def make(name, losses, seed=0, teacher_seed=0, folds=False, **teacher):
        if not folds:
            # Another run of both, to compare them, on a large image.
            monkeypatch.setattr(frozen_teacher, 'fold_batch_norms',
                                lambda detector: detector)
        cfg = tiny_model(name)
        path = str(tmp_path / f'{teacher_seed}.pth')
        torch.save(
            dict(state_dict=build(cfg, seed=teacher_seed).state_dict()), path)
        cfg = copy.deepcopy(cfg)
        kind = cfg.pop('type')
        student = dict(
            cfg,
            type='tcal_det.CalibratedTeacherDistiller',
            student_type=kind,
            teacher=dict(
                config=dict(model=tiny_model(name)),
                checkpoint=path,
                **teacher),
            distill_losses=losses)
        return build(student, MODELS, seed)

    return make


def step(detector, inputs):
    """Losses, their sum, and gradients, of one step of SGD."""
    torch.manual_seed(5)
    losses = detector.loss(*copy.deepcopy(inputs))
    total, logged = detector.parse_losses(losses)
    total.backward()
    gradients = {
        name: weight.grad.clone()
        for name, weight in detector.named_parameters()
        if weight.grad is not None
    }
    with torch.no_grad():
        for weight in detector.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad
                weight.grad = None
    return logged, gradients


@EVERY_HEAD
@pytest.mark.parametrize('is_empty', [True, False])
def test_off_is_the_plain_detector(distiller, name, is_empty):
    """Losses, gradients and weights after three steps, bit for bit."""
    losses = {} if is_empty else loss_for(name, loss_weight=0.0)
    plain = build(tiny_model(name))
    student = distiller(name, losses, teacher_seed=1)
    inputs = batch(name)
    for _ in range(3):
        expected, expected_gradients = step(plain, inputs)
        logged, gradients = step(student, inputs)
        if not is_empty:
            assert logged.pop('loss_kd_cls') == 0
        logged.pop('loss'), expected.pop('loss')
        assert logged.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(logged[key], value), key
        assert gradients.keys() == expected_gradients.keys()
        for key, value in expected_gradients.items():
            assert torch.equal(gradients[key], value), key
    for key, value in plain.state_dict().items():
        assert torch.equal(student.state_dict()[key], value), key


def without_batch_statistics(student):
    for module in student.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return student


@EVERY_HEAD
def test_teacher_that_is_the_student_teaches_nothing(distiller, name):
    student = without_batch_statistics(distiller(name, loss_for(name)))
    losses = student.loss(*batch(name))
    assert abs(losses['loss_kd_cls'].item()) < 1e-6
    other = without_batch_statistics(
        distiller(name, loss_for(name), teacher_seed=1, folds=True))
    assert other.loss(*batch(name))['loss_kd_cls'].item() > 1e-3


@EVERY_HEAD
def test_samples_are_the_priors_in_order(name):
    """Row (image * H * W + y * W + x) * A + a, of the head's own maps."""
    detector = build(tiny_model(name))
    images, data_samples = batch(name)
    maps = []

    def keep(module, args, output):
        maps[:] = [level.detach().clone() for level in output[0]]

    detector.bbox_head.register_forward_hook(keep)
    adapter = adapter_for(detector, 'student')
    with adapter.observe(data_samples) as observation:
        detector.loss(images, data_samples)
    channels = adapter.cls_channels
    for group, level in zip(observation.groups, maps):
        num_images, _, height, width = level.shape
        assert group.location == (height, width)
        per_cell = len(group.logits) // (num_images * height * width)
        assert group.image_index.tolist() == [
            index for index in range(num_images)
            for _ in range(per_cell * height * width)
        ]
        if name in JOINT:
            continue
        if name == 'TOODHead':
            level = level.logit()
        rows = group.logits.view(num_images, height, width, per_cell, channels)
        for anchor in range(per_cell):
            for column in range(channels):
                torch.testing.assert_close(
                    rows[:, :, :, anchor, column],
                    level[:, anchor * channels + column],
                    rtol=1e-4,
                    atol=1e-4)


def target_of(head, group):
    """What the head's loss takes for labels and qualities."""
    if isinstance(head.loss_cls, VarifocalLoss):
        scores = torch.zeros_like(group.logits)
        found = group.labels < NUM_CLASSES
        scores[found, group.labels[found]] = group.quality[found]
        return scores
    if group.quality is not None:
        return group.labels, group.quality
    return group.labels


@pytest.mark.parametrize(
    'name', [one for one in HEADS if one not in OWN_LOSS_EXCEPTIONS])
@pytest.mark.parametrize('epoch', [0, 9])
def test_own_loss_is_that_of_the_samples(name, epoch):
    """Pins logits, labels, weights, qualities and the divisor at once."""
    if name in NO_LABELS:
        pytest.skip('assigns no classes')
    if epoch and name != 'TOODHead':
        pytest.skip('one phase only')
    MessageHub.get_current_instance().update_info('epoch', epoch)
    detector = build(tiny_model(name))
    head = detector.bbox_head
    images, data_samples = batch(name)
    with adapter_for(detector, 'student').observe(data_samples) as observation:
        losses = detector.loss(images, data_samples)
    logged = losses['loss_cls']
    logged = sum(logged) if isinstance(logged, (list, tuple)) else logged
    loss_cls = head.loss_cls
    if name == 'TOODHead' and epoch == 0:
        loss_cls = head.initial_loss_cls
    own = 0
    for group in observation.groups:
        logits = group.logits
        if name == 'TOODHead':
            logits = logits.sigmoid()
        own = own + loss_cls(
            logits,
            target_of(head, group),
            **({} if group.weight is None else dict(weight=group.weight)),
            avg_factor=float(group.avg_factor))
    assert logged.item() > 1e-3
    torch.testing.assert_close(own, logged, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', JOINT)
def test_joint_score_of_class_and_objectness(name):
    """The score of a detection, at the positives that the losses saw."""
    detector = build(tiny_model(name))
    head, calls = detector.bbox_head, {}

    def keep(key):
        return lambda _, args: calls.setdefault(key, []).append(args)

    names = ('loss_cls', 'loss_obj' if name == 'YOLOXHead' else 'loss_conf')
    for key in names:
        getattr(head, key).register_forward_pre_hook(keep(key))
    images, data_samples = batch(name)
    with adapter_for(detector, 'student').observe(data_samples) as observation:
        detector.loss(images, data_samples)
    groups = observation.groups
    if name == 'YOLOXHead':
        (classes, target), = calls['loss_cls']
        (objectness, is_object), = calls['loss_obj']
        score = classes.sigmoid() * objectness[is_object > 0].sigmoid()[:,
                                                                        None]
        # Image by image there, level by level here.
        found = [(int(image), group.stage, row) for group in groups
                 for row, (
                     image,
                     label) in enumerate(zip(group.image_index, group.labels))
                 if label < NUM_CLASSES]
        rows = [groups[stage].logits[row] for _, stage, row in sorted(found)]
        labels = [groups[stage].labels[row] for _, stage, row in sorted(found)]
        qualities = [
            groups[stage].quality[row] for _, stage, row in sorted(found)
        ]
        torch.testing.assert_close(torch.stack(rows).sigmoid(), score)
        assert torch.stack(labels).tolist() == target.argmax(dim=1).tolist()
        torch.testing.assert_close(
            torch.stack(qualities),
            target.max(dim=1).values)
        assert groups[0].avg_factor == max(len(target), 1)
        return
    for group, (classes, target), (conf, _) in zip(groups, calls['loss_cls'],
                                                   calls['loss_conf']):
        score = classes.sigmoid() * conf.sigmoid()[..., None]
        torch.testing.assert_close(group.logits.sigmoid(), score.flatten(0, 1))
        has_class = target.flatten(0, 1).max(dim=1).values > 0
        assert torch.equal(group.labels < NUM_CLASSES, has_class)


@EVERY_HEAD
def test_batch_without_objects(distiller, name):
    student = distiller(name, loss_for(name), teacher_seed=1)
    losses = student.loss(*batch(name, num_objects=(0, 0)))
    total, logged = student.parse_losses(losses)
    total.backward()
    assert logged['loss_kd_cls'].isfinite()
    assert all(weight.grad.isfinite().all() for weight in student.parameters()
               if weight.grad is not None)


@EVERY_HEAD
def test_each_head_runs_once(distiller, name):
    student = distiller(name, loss_for(name), teacher_seed=1)
    student.teacher.build(student)
    teacher = student.teacher.detector
    runs = []
    student.bbox_head.register_forward_hook(lambda *_: runs.append('student'))
    teacher.bbox_head.register_forward_hook(lambda *_: runs.append('teacher'))
    head = type(teacher.bbox_head)
    forbidden = [
        mock.patch.object(
            teacher.bbox_head, method, side_effect=AssertionError)
        for method in ('loss', 'loss_by_feat', 'predict', 'predict_by_feat')
        if hasattr(head, method)
    ]
    for one in forbidden:
        one.start()
    student.loss(*batch(name))
    assert sorted(runs) == ['student', 'teacher']
    for one in forbidden:
        one.stop()


def hooks_of(detector):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in detector.modules())


@EVERY_HEAD
def test_no_hook_outlives_the_step(distiller, name):
    student = distiller(name, loss_for(name), teacher_seed=1)
    student.teacher.build(student)
    before = hooks_of(student)
    images, data_samples = batch(name)
    student.loss(images, data_samples)
    assert hooks_of(student) == before
    with pytest.raises(ZeroDivisionError), mock.patch.object(
            type(student.bbox_head), 'loss', side_effect=ZeroDivisionError):
        student.loss(images, data_samples)
    assert hooks_of(student) == before


def test_ghm_counts_a_step_once(distiller):
    """Its moving average must be that of the plain detector."""
    cfg = tiny_model('GHM')
    cfg.bbox_head.loss_cls.momentum = 0.75
    plain = build(cfg)
    with mock.patch(f'{__name__}.tiny_model', return_value=cfg):
        student = distiller('GHM', loss_for('GHM'), teacher_seed=1)
    for _ in range(2):
        for detector in (plain, student):
            detector.loss(*batch('GHM'))
    expected = plain.bbox_head.loss_cls.acc_sum
    assert expected.sum() > 0
    assert torch.equal(student.bbox_head.loss_cls.acc_sum, expected)


PAIRS = [
    ('RetinaHead', 'prior_generator.strides', None,
     r'strides.*\[\(8, 8\), .*the student \[\(4, 4\), '),
    ('RetinaHead', 'anchor_generator', dict(ratios=[1.0]),
     'priors in a cell, but at stride .*the teacher has 9 and the student 3'),
    ('RetinaHead', 'anchor_generator', dict(ratios=[2.0, 1.0, 0.5]),
     r'the same anchors in the same order.*\d+x\d+'),
]


@pytest.mark.parametrize('name, key, change, message', PAIRS)
def test_grids_that_do_not_line_up(distiller, name, key, change, message):
    cfg = tiny_model(name)
    if change is None:
        cfg.neck.update(start_level=0)
        cfg.bbox_head.anchor_generator.strides = [4, 8, 16, 32, 64]
    else:
        cfg.bbox_head.anchor_generator.update(change)
    kind = cfg.pop('type')
    teacher = distiller(name, {}).teacher
    with pytest.raises(
            InvalidValueError,
            match='the teacher RetinaNet and the student RetinaNet must '
            f'have .*{message}'):
        build(
            dict(
                cfg,
                type='tcal_det.CalibratedTeacherDistiller',
                student_type=kind,
                teacher=dict(
                    config=teacher.config,
                    checkpoint=teacher.checkpoint,
                    transport='same_samples'),
                distill_losses=loss_for(name)), MODELS)


def test_maps_of_another_size(distiller):
    """Where backbones round sizes in another way."""
    student = distiller('RetinaHead', loss_for('RetinaHead'))
    student.teacher.build(student)
    extract = student.teacher.detector.extract_feat
    student.teacher.detector.extract_feat = lambda images: extract(
        nn.functional.pad(images, (0, 32)))
    with pytest.raises(
            InvalidValueError,
            match=r'on level 0 it has \(16, 24\) and the student \(16, 20\)'):
        student.loss(*batch('RetinaHead'))


def test_teacher_with_more_levels(distiller):
    """The levels of the student's strides answer."""
    cfg = tiny_model('RetinaHead')
    cfg.neck.update(num_outs=3)
    cfg.bbox_head.anchor_generator.strides = [8, 16, 32]
    kind = cfg.pop('type')
    teacher = distiller('RetinaHead', {}).teacher
    student = build(
        dict(
            cfg,
            type='tcal_det.CalibratedTeacherDistiller',
            student_type=kind,
            teacher=dict(config=teacher.config, checkpoint=teacher.checkpoint),
            distill_losses=loss_for('RetinaHead')), MODELS)
    assert student.loss(*batch('RetinaHead'))['loss_kd_cls'].isfinite()


def test_shared_convolutions_are_not_folded():
    """RTMDet has BatchNorms of its own for each level after them."""
    cfg = tiny_model('RTMDetSepBNHead')
    assert cfg.bbox_head.share_conv
    detector = build(cfg).eval()
    # Levels of different statistics.
    for index, level in enumerate(detector.bbox_head.cls_convs):
        level[0].bn.running_mean.fill_(0.1 * index)
        level[0].bn.weight.data.fill_(1.0 + index)
    folded = fold_batch_norms(detector)
    assert folded is not detector
    kept = [
        module for module in folded.modules()
        if isinstance(module, _BatchNorm)
    ]
    before = [
        module for module in detector.modules()
        if isinstance(module, _BatchNorm)
    ]
    assert 0 < len(kept) < len(before)
    with torch.no_grad():
        expected, probe = (
            adapter_for(one, 'teacher').probe() for one in (detector, folded))
    torch.testing.assert_close(probe, expected, rtol=1e-3, atol=1e-3)
