"""Losses on the features of RoIs: gradients there, and the four states."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.errors import InvalidValueError
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS, OPTIM_WRAPPERS
from tests import head_families
from tests.module_runs import count_runs
from tests.roi_cases import Case, distiller_of, training_losses

GRADIENT = dict(type='KDIGALoss')
STATE = dict(type='PretrainingStateLoss', in_features=32)
BOTH = [GRADIENT, STATE]


@pytest.fixture
def make(distiller_cfg, teacher_files):
    """Distillers of one teacher and equal weights."""
    files = teacher_files()

    def build(loss, edit=None, **changed):
        cfg = distiller_cfg(
            teacher=copy.deepcopy(files),
            losses=dict(loss_roi=dict(loss, **changed)))
        if edit is not None:
            edit(cfg)
        torch.manual_seed(0)
        return MODELS.build(cfg)

    return build


@pytest.mark.parametrize('loss', BOTH)
def test_no_second_run_of_a_backbone(make, training_step, loss):
    model = make(loss)
    model.teacher.build(model)
    teacher = model.teacher.detector
    runs = count_runs(
        dict(
            student=model.backbone,
            student_head=model.roi_head.bbox_head,
            teacher=teacher.backbone,
            teacher_head=teacher.roi_head.bbox_head,
            teacher_rpn=teacher.rpn_head))
    training_step(model)
    again = loss is GRADIENT
    assert runs == dict(
        student=1,
        student_head=1,
        teacher=1,
        # Once more, on features of RoIs that it has.
        teacher_head=1 + again,
        teacher_rpn=0)


@pytest.mark.parametrize('loss', BOTH)
def test_weight_0_is_the_plain_detector(make, detector_cfg, training_step,
                                        loss):
    off = make(loss, loss_weight=0.)
    plain = MMDET_MODELS.build(detector_cfg())
    plain.load_state_dict(off.state_dict(), strict=False)
    (losses, total), (expected, plain_total) = map(training_step, (off, plain))
    assert losses.pop('loss_roi').item() == 0
    assert losses.keys() == expected.keys()
    assert total.item() == plain_total.item()
    total.backward(), plain_total.backward()
    for name, weight in plain.named_parameters():
        mine = off.get_parameter(name).grad
        assert (mine is None) == (weight.grad is None)
        assert mine is None or torch.equal(mine, weight.grad), name
    for name, buffer in plain.named_buffers():
        assert torch.equal(off.get_buffer(name), buffer), name


def seen_by(module):
    """What a module is given."""
    inputs = []
    module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    return inputs


def labels_of(model):
    labels = []
    model.roi_head.bbox_head.loss_cls.register_forward_pre_hook(
        lambda _, args: labels.append(args[1]))
    return labels


@pytest.mark.parametrize('channels', [16, 24])
def test_gradients_by_hand(make, teacher_files, training_step, channels):
    """Of two ReLU layers and a linear one, by the chain rule."""

    def edit(cfg):
        if channels == 16:
            return
        teacher = head_families.Config.fromfile(cfg.teacher.config)
        model = teacher.model
        model.neck.out_channels = model.rpn_head.in_channels = channels
        model.roi_head.bbox_roi_extractor.out_channels = channels
        model.roi_head.bbox_head.in_channels = channels
        path = cfg.teacher.config.replace('.py', '_wide.py')
        teacher.dump(path)
        weights = path.replace('.py', '.pth')
        torch.manual_seed(5)
        torch.save(
            dict(state_dict=MMDET_MODELS.build(model).state_dict()), weights)
        cfg.teacher.update(config=path, checkpoint=weights)

    model = make(GRADIENT, edit=edit)
    model.teacher.build(model)
    heads = [one.roi_head.bbox_head for one in (model, model.teacher.detector)]
    features = [seen_by(head) for head in heads]
    labels = labels_of(model)
    losses, _ = training_step(model)
    gradients = []
    for head, (given, *_), scale in zip(heads, features, (1, 1 / 1.5)):
        with torch.no_grad():
            first = head.shared_fcs[0](given.flatten(1))
            second = head.shared_fcs[1](first.relu())
            probs = (scale * head.fc_cls(second.relu())).softmax(1)
            error = scale * (probs - F.one_hot(labels[0], 4))
            error = (error @ head.fc_cls.weight) * (second > 0)
            error = (error @ head.shared_fcs[1].weight) * (first > 0)
            gradients.append(
                (error @ head.shared_fcs[0].weight).view_as(given))
    own, other = gradients
    if channels == 16:
        expected = (own - other).flatten(1).norm(dim=1).mean()
    else:
        own, other = (one.square().sum(1).flatten(1) for one in gradients)
        expected = (1 - (own * other).sum(1) /
                    (own.norm(dim=1) * other.norm(dim=1))).mean()
    assert expected > 1e-3
    assert losses['loss_roi'].item() == pytest.approx(
        expected.item(), rel=1e-4)
    losses['loss_roi'].backward()
    for weight in (heads[0].fc_cls.weight,
                   model.neck.lateral_convs[0].conv.weight,
                   model.backbone.layer2[0].conv1.weight):
        assert weight.grad.abs().sum() > 0
    # The teacher keeps nothing.
    assert all(one.grad is None for one in heads[1].parameters())


def test_state_by_hand(make, training_step):
    model = make(STATE, threshold=.5, loss_weight=2.)
    model.teacher.build(model)
    features = seen_by(model.roi_head.bbox_head.fc_cls)
    labels = labels_of(model)
    answers = []
    model.teacher.detector.roi_head.bbox_head.register_forward_hook(
        lambda _, args, output: answers.append(output[0]))
    losses, _ = training_step(model)
    probs = (answers[0] / 1.5).softmax(1)
    head = model.distill_losses['loss_roi'].head
    expected = []
    for feature, prob, label in zip(features[0], probs, labels[0]):
        state = (2 if prob.argmax() == label else 0) + int(prob.max() > .5)
        expected.append(-head(feature).log_softmax(0)[state])
    assert len(set(map(float, probs.argmax(1) == labels[0]))) == 2
    assert losses['loss_roi'].item() == pytest.approx(
        2 * torch.stack(expected).mean().item(), rel=1e-5)


def frozen(model):
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    model.train = lambda mode=True: model
    return model


def test_teacher_of_the_same_weights_aligns_nothing(tmp_path, training_step):
    files = head_families.write_teacher(tmp_path, 'faster')
    cfg = head_families.distiller_cfg(
        'faster', files, calibrator=None, loss=GRADIENT)
    model = MODELS.build(cfg)
    model.teacher.build(model)
    assert training_step(model)[0]['loss_kd_cls'] > 1e-3
    model.load_state_dict(torch.load(files['checkpoint'])['state_dict'])
    losses, _ = training_step(frozen(model))
    assert losses['loss_kd_cls'].item() < 1e-5


@pytest.mark.parametrize('name', [
    'mask', 'seesaw', 'sabl', 'double', 'dynamic', 'ohem', 'grid', 'libra',
    'trident'
])
def test_every_single_stage_head(name, tmp_path):
    case = Case(name, tmp_path)
    features = case.plain.roi_head.bbox_head.fc_cls.in_features
    losses = dict(
        loss_kdiga=dict(GRADIENT),
        loss_state=dict(STATE, in_features=features))
    student = distiller_of(
        case.cfg, case.teacher, {
            name: dict(cfg, type=f"tcal_det.{cfg['type']}")
            for name, cfg in losses.items()
        })
    student.load_state_dict(case.plain.state_dict(), strict=False)
    found = training_losses(student, freeze_norms=True)
    # Equal models: the same gradients.
    assert found['loss_kdiga'].item() < 1e-4
    assert found['loss_state'] > 0
    student.parse_losses(found)[0].backward()
    for head in (student.distill_losses['loss_state'].head,
                 student.roi_head.bbox_head.fc_cls):
        assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize('loss', BOTH)
def test_step_without_objects(make, training_step, loss):
    """Every parameter of the loss has a gradient: DDP waits for it."""
    model = make(loss)
    _, total = training_step(model, num_boxes=0)
    total.backward()
    assert torch.isfinite(total)
    for weight in model.distill_losses.parameters():
        assert weight.grad is not None


@pytest.mark.parametrize('loss', BOTH)
def test_under_autocast(make, batch, loss):
    model = make(loss)
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='tcal_det.CPUAmpOptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=0.)))
    values = []
    for half in (False, True):
        data = model.train().data_preprocessor(batch(), True)
        torch.manual_seed(0)
        if half:
            with wrapper.optim_context(model):
                losses = model(**data, mode='loss')
        else:
            losses = model(**data, mode='loss')
        values.append(losses['loss_roi'])
    model.parse_losses(losses)[0].backward()
    exact, rounded = values
    assert rounded.dtype == torch.float32
    assert abs(rounded - exact) < .1 * exact
    assert torch.isfinite(model.backbone.conv1.weight.grad).all()


def test_head_is_trained_and_resumed(make, training_step, detector_cfg):
    model = make(STATE)
    head = model.distill_losses['loss_roi'].head
    before = head.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=.1)
    training_step(model)[1].backward()
    optimizer.step()
    assert not torch.equal(head.weight, before)
    extra = set(model.state_dict()) - set(
        MMDET_MODELS.build(detector_cfg()).state_dict())
    assert extra == {
        'distill_losses.loss_roi.head.weight',
        'distill_losses.loss_roi.head.bias'
    }
    other = make(STATE)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.distill_losses['loss_roi'].head.weight,
                       head.weight)
    twin = ExponentialMovingAverage(model).module
    assert twin.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize('loss', BOTH)
@pytest.mark.parametrize('family, found', [
    ('retinanet', 'classifies priors in 1 stage(s), and the student priors'),
    ('cascade', 'classifies RoIs in 3 stage(s), and the student RoIs in 3'),
])
def test_other_heads_are_refused(tmp_path, loss, family, found):
    files = head_families.write_teacher(tmp_path, family)
    cfg = head_families.distiller_cfg(
        family, files, calibrator=None, loss=loss)
    model = MODELS.build(cfg)
    with pytest.raises(InvalidValueError) as error:
        model.init_weights()
    text = str(error.value)
    name = dict(retinanet='RetinaNet', cascade='CascadeRCNN')[family]
    assert f'the teacher {name} of the student {name} {found}' in text
    assert 'choose Faster R-CNN for both' in text and '\n' not in text


@pytest.mark.parametrize('loss', BOTH)
def test_sigmoid_head_is_refused(make, loss):

    def edit(cfg):
        cfg.roi_head.bbox_head.loss_cls.use_sigmoid = True

    with pytest.raises(
            InvalidValueError, match='is made for softmax heads, but the '):
        make(loss, edit=edit).init_weights()


@pytest.mark.parametrize('loss', BOTH)
def test_exchanged_samples_are_refused(make, training_step, loss):

    def edit(cfg):
        cfg.teacher.sampling = dict(type='SpeculativeSamples', top_k=8)

    with pytest.raises(
            InvalidValueError,
            match='for the samples of the student FasterRCNN.*leave '
            '`teacher.transport` and `teacher.sampling` out'):
        training_step(make(loss, edit=edit))


@pytest.mark.parametrize('loss', BOTH)
def test_ensemble_must_name_one(distiller_cfg, teacher_files, training_step,
                                loss):
    cfg = distiller_cfg(losses=dict(loss_roi=loss))
    cfg.teacher = dict(
        one=teacher_files(1, 'one'), other=teacher_files(2, 'other'))
    with pytest.raises(
            InvalidValueError,
            match='`distill_losses.loss_roi` must name one of the teachers'):
        MODELS.build(cfg)
    cfg.distill_losses.loss_roi.teacher = 'other'
    losses, _ = training_step(MODELS.build(cfg))
    assert losses['loss_roi'] > 0


class Once(torch.autograd.Function):
    """As mmcv's operations: differentiable once."""

    @staticmethod
    def forward(ctx, inputs):
        return inputs.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient.clone()


class OnceDifferentiable(nn.Module):

    def forward(self, inputs):
        return Once.apply(inputs)


def test_frozen_features_are_refused(make):
    model = make(GRADIENT)
    model.backbone.requires_grad_(False)
    model.neck.requires_grad_(False)
    with pytest.raises(InvalidValueError, match='FasterRCNN are frozen'):
        model.init_weights()


def test_classifier_of_another_name(make, training_step):
    """Read for the states alone: logits are what the head returns."""
    model = make(STATE)
    head = model.roi_head.bbox_head
    head.my_classifier = head.fc_cls
    del head.fc_cls
    with pytest.raises(InvalidValueError, match='has no layer `fc_cls`'):
        training_step(model)
    assert 'classifier.0' not in adapter_for(model, 'student').parts


def test_head_that_is_differentiable_once_is_refused(make):
    model = make(GRADIENT)
    model.roi_head.bbox_head.shared_fcs.append(OnceDifferentiable())
    with pytest.raises(
            InvalidValueError,
            match='must be given a head that is differentiable twice, but the '
            'Shared2FCBBoxHead of the student FasterRCNN is not'):
        model.init_weights()
