"""What both models say of images on either side of the student's own."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.detectors import FasterRCNN
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.errors import InvalidValueError
from tcal_det.registry import MODELS, OPTIM_WRAPPERS
from tests import head_families
from tests.module_runs import count_runs

IGDM = dict(type='IGDMLoss')


@pytest.fixture
def make(distiller_cfg, teacher_files):
    """Distillers of one teacher and equal weights."""
    files = teacher_files()

    def build(seed=0, edit=None, **loss):
        cfg = distiller_cfg(
            teacher=copy.deepcopy(files),
            losses=dict(loss_igdm=dict(IGDM, **loss)))
        if edit is not None:
            edit(cfg)
        torch.manual_seed(seed)
        model = MODELS.build(cfg)
        model.teacher.build(model)
        return model

    return build


def frozen_norms(model):
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def step_of(model, batch, freeze=False, **options):
    model.train()
    if freeze:
        frozen_norms(model)
    data = model.data_preprocessor(batch(**options), True)
    torch.manual_seed(0)
    return model(**data, mode='loss')


def test_two_further_runs_of_each_model(make, batch):
    model = make()
    teacher = model.teacher.detector
    runs = count_runs(
        dict(
            student=model.backbone,
            teacher=teacher.backbone,
            student_head=model.roi_head.bbox_head,
            teacher_head=teacher.roi_head.bbox_head,
            rpn=model.rpn_head,
            teacher_rpn=teacher.rpn_head))
    step_of(model, batch)
    assert runs == dict(
        student=3,
        teacher=3,
        student_head=3,
        teacher_head=3,
        rpn=1,
        teacher_rpn=0)


def test_weight_0_is_the_plain_detector_and_runs_nothing(
        make, detector_cfg, batch):
    off = make(loss_weight=0.)
    runs = count_runs(
        dict(student=off.backbone, teacher=off.teacher.detector.backbone))
    plain = MMDET_MODELS.build(detector_cfg())
    plain.load_state_dict(off.state_dict())
    losses, expected = step_of(off, batch), step_of(plain, batch)
    assert runs == dict(student=1, teacher=1)
    assert losses.pop('loss_igdm').item() == 0
    off.parse_losses(losses)[0].backward()
    plain.parse_losses(expected)[0].backward()
    for name, weight in plain.named_parameters():
        mine = off.get_parameter(name).grad
        assert (mine is None) == (weight.grad is None)
        assert mine is None or torch.equal(mine, weight.grad), name
    for name, buffer in plain.named_buffers():
        assert torch.equal(off.get_buffer(name), buffer), name


def test_statistics_and_random_numbers_are_as_without(make, batch):
    on, off = make(), make(loss_weight=0.)
    states = []
    for model in (on, off):
        losses = step_of(model, batch)
        states.append(torch.get_rng_state())
        model.parse_losses(losses)[0].backward()
    assert torch.equal(*states)
    for name, buffer in off.named_buffers():
        assert torch.equal(on.get_buffer(name), buffer), name
    assert on.backbone.bn1.num_batches_tracked == 1


def raw_images(batch):
    """Inputs of a step, as float pixels, not normalised."""
    return [image.float() for image in batch()['inputs']]


def normalized(detector, images):
    """By hand: the detector's statistics, padded on the right and below."""
    preprocessor = detector.data_preprocessor
    height, width = (
        max(-(-image.shape[side] // 32) * 32 for image in images)
        for side in (1, 2))
    padded = []
    for image in images:
        if preprocessor._channel_conversion:
            image = image[[2, 1, 0]]
        image = (image - preprocessor.mean) / preprocessor.std
        padded.append(
            F.pad(image,
                  (0, width - image.shape[2], 0, height - image.shape[1])))
    return torch.stack(padded)


@pytest.mark.parametrize('preprocessor', [
    {},
    dict(mean=[0., 0., 0.], std=[255., 127.5, 51.], bgr_to_rgb=False),
])
def test_formula_on_raw_pixels(make, batch, preprocessor):
    """The whole step once more, from pixels and two detectors."""
    epsilon = 3.

    def edit(cfg):
        cfg.data_preprocessor.update(preprocessor)

    model = make(epsilon=epsilon, edit=edit)
    seen = []
    model.roi_head.bbox_roi_extractor.register_forward_pre_hook(
        lambda _, args: seen.append(args[1]))
    losses = step_of(model, batch, freeze=True)
    rois = seen[0]
    assert all(torch.equal(one, rois) for one in seen) and len(seen) == 3

    # The gradient of the student's own losses, at raw pixels.
    images = [image.requires_grad_() for image in raw_images(batch)]
    data = model.data_preprocessor(batch(), True)
    torch.manual_seed(0)
    plain = FasterRCNN.loss(model, normalized(model, images),
                            data['data_samples'])
    total, _ = model.parse_losses(plain)
    gradients = torch.autograd.grad(total, images)
    sides = []
    for sign in (1, -1):
        moved = [
            image.detach() + sign * epsilon * gradient.sign()
            for image, gradient in zip(images, gradients)
        ]
        sides.append([
            detector.roi_head._bbox_forward(
                detector.extract_feat(normalized(detector, moved)),
                rois)['cls_score']
            for detector in (model, model.teacher.detector)
        ])
    (plus, teacher_plus), (minus, teacher_minus) = sides
    expected = F.kl_div(
        (plus - minus).log_softmax(1),
        ((teacher_plus - teacher_minus) / 1.5).softmax(1),
        reduction='batchmean')
    assert expected > 1e-6
    assert losses['loss_igdm'].item() == pytest.approx(
        expected.item(), rel=1e-3)


def test_gradient_is_that_of_two_runs(make, batch):
    """No gradient flows through the perturbation, and some to all parts."""
    model = make()
    losses = step_of(model, batch)
    losses['loss_igdm'].backward()
    for weight in (model.roi_head.bbox_head.fc_cls.weight,
                   model.neck.lateral_convs[0].conv.weight,
                   model.backbone.conv1.weight):
        assert weight.grad.abs().sum() > 0
    assert model.roi_head.bbox_head.fc_reg.weight.grad is None
    assert model.rpn_head.rpn_cls.weight.grad is None


@pytest.mark.parametrize('family', sorted(head_families.FAMILIES))
def test_every_family(tmp_path, training_step, family):
    """Equal models answer alike; others do not."""
    files = head_families.write_teacher(tmp_path, family)
    activation = 'softmax' if family in ('faster', 'cascade') else 'sigmoid'
    cfg = head_families.distiller_cfg(
        family, files, calibrator=None, loss=dict(IGDM, activation=activation))
    model = MODELS.build(cfg)
    model.teacher.build(model)
    losses, total = training_step(model)
    total.backward()
    assert losses['loss_kd_cls'] > 1e-7
    state = torch.load(files['checkpoint'])['state_dict']
    model.load_state_dict(state)
    frozen_norms(model.train())
    model.train = lambda mode=True: model
    losses, _ = training_step(model)
    assert abs(losses['loss_kd_cls'].item()) < 1e-6


def test_dropout_is_the_same_on_both_sides(make, batch):
    model = make()
    model.roi_head.bbox_head.shared_fcs.append(nn.Dropout(.5))
    masks = []
    model.roi_head.bbox_head.shared_fcs[-1].register_forward_hook(
        lambda _, args, output: masks.append(output == 0))
    step_of(model, batch)
    own, plus, minus = masks
    # ReLU has zeros of its own: the dropped ones are zero on both sides.
    assert (plus & minus).float().mean() > .45


def test_padding_is_left_alone(make, batch):
    model = make()
    given = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: given.append(args[0].detach().clone()))
    step_of(model, batch)
    images, plus, minus = given
    # The second image is 16 rows shorter.
    shift = plus - images
    assert (shift[1, :, 48:] == 0).all()
    torch.testing.assert_close(shift, images - minus, rtol=1e-4, atol=1e-6)
    levels = shift * model.data_preprocessor.std
    inside = levels[0].abs()
    assert ((inside - 2).abs() < 1e-3).float().mean() > .99


def test_under_autocast(make, batch):
    model = make()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='tcal_det.CPUAmpOptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=0.)))
    with wrapper.optim_context(model):
        losses = step_of(model, batch)
    model.parse_losses(losses)[0].backward()
    assert losses['loss_igdm'].dtype == torch.float32
    assert torch.isfinite(model.backbone.conv1.weight.grad).all()


def test_copy_for_ema_steps_on_its_own(make, batch):
    model = make()
    step_of(model, batch)
    twin = ExponentialMovingAverage(model).module
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert not [key for key in model.state_dict() if 'distill' in key]
    losses = step_of(twin, batch)
    assert losses['loss_igdm'] > 0


def test_ensemble_must_name_one(distiller_cfg, teacher_files, training_step):
    cfg = distiller_cfg(losses=dict(loss_igdm=IGDM))
    cfg.teacher = dict(
        one=teacher_files(1, 'one'), other=teacher_files(2, 'other'))
    with pytest.raises(
            InvalidValueError,
            match='`distill_losses.loss_igdm` must name one of the teachers'):
        MODELS.build(cfg)
    cfg.distill_losses.loss_igdm.teacher = 'other'
    losses, _ = training_step(MODELS.build(cfg))
    assert losses['loss_igdm'] > 0


def test_other_families_are_refused(tmp_path):
    files = head_families.write_teacher(tmp_path, 'faster')
    cfg = head_families.distiller_cfg(
        'retinanet',
        files,
        calibrator=None,
        loss=dict(IGDM, activation='sigmoid'))
    model = MODELS.build(cfg)
    with pytest.raises(
            InvalidValueError,
            match='`distill_losses.loss_kd_cls` IGDMLoss cannot be computed: '
            'the teacher FasterRCNN of the student RetinaNet cannot teach it '
            'responses: the two have different samples.*: choose a teacher '
            'of the same kind'):
        model.init_weights()


def test_activation_of_the_other_head(tmp_path):
    files = head_families.write_teacher(tmp_path, 'retinanet')
    cfg = head_families.distiller_cfg(
        'retinanet', files, calibrator=None, loss=IGDM)
    with pytest.raises(
            InvalidValueError,
            match='IGDMLoss is made for softmax heads, but the student '
            'RetinaNet classifies with sigmoid'):
        MODELS.build(cfg)


def test_checkpointed_backbone_is_refused(distiller_cfg):
    cfg = distiller_cfg(losses=dict(loss_igdm=dict(IGDM)))
    cfg.backbone.with_cp = True
    model = MODELS.build(cfg)
    with pytest.raises(InvalidValueError, match="student's `with_cp=True`"):
        model.init_weights()


def test_exchanged_samples_are_refused(make, batch):

    def edit(cfg):
        cfg.teacher.sampling = dict(type='SpeculativeSamples', top_k=8)

    model = make(edit=edit)
    with pytest.raises(
            InvalidValueError,
            match='leave `teacher.transport` and `teacher.sampling` out'):
        step_of(model, batch)
