"""The distiller: same samples, an untouched student, a teacher apart."""
import copy
from unittest import mock

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage

from tcal_det.models import CalibratedTeacherDistiller
from tcal_det.models.distillers.detector_files import find_detector
from tcal_det.models.head_adapters import adapter_for
from tcal_det.registry import MODELS


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def build_plain(cfg):
    torch.manual_seed(0)
    model = MMDET_MODELS.build(cfg)
    model.init_weights()
    return model


def record_logits(model, calls):
    """Note inputs and outputs of every run of a detector's RoI head."""
    head = model.roi_head

    def note_rois(_, args):
        calls.append(dict(rois=args[1].clone()))

    def note_logits(_, args, output):
        calls[-1]['logits'] = output[0].detach().clone()

    head.bbox_roi_extractor.register_forward_pre_hook(note_rois)
    head.bbox_head.register_forward_hook(note_logits)


def test_is_a_student(distiller_cfg):
    model = build(distiller_cfg())
    student_class = MMDET_MODELS.get('FasterRCNN')
    assert isinstance(model, student_class)
    assert isinstance(model, CalibratedTeacherDistiller)


def test_both_see_the_same_rois_and_the_head_runs_once(distiller_cfg,
                                                       training_step):
    model = build(distiller_cfg())
    student_calls, teacher_calls = [], []
    record_logits(model, student_calls)
    record_logits(model.teacher.detector, teacher_calls)
    training_step(model)
    assert len(student_calls) == len(teacher_calls) == 1
    assert student_calls[0]['rois'].shape[0] == 64
    assert torch.equal(student_calls[0]['rois'], teacher_calls[0]['rois'])


def test_loss_equals_the_formula_on_the_recorded_logits(
        distiller_cfg, training_step):
    model = build(distiller_cfg(temperature=2.0))
    student_calls, teacher_calls = [], []
    record_logits(model, student_calls)
    record_logits(model.teacher.detector, teacher_calls)
    losses, _ = training_step(model)
    student = student_calls[0]['logits'].double().log_softmax(1)
    teacher = (teacher_calls[0]['logits'].double() / 2).softmax(1)
    expected = (teacher * (teacher.log() - student)).sum(1).mean()
    assert losses['loss_kd_cls'].item() == pytest.approx(
        expected.item(), rel=1e-5)


def test_teacher_runs_no_rpn_no_assigner_no_nms(distiller_cfg, training_step):
    model = build(distiller_cfg())
    teacher = model.teacher.detector
    forbidden = mock.Mock(side_effect=AssertionError)
    with mock.patch.multiple(
            teacher.rpn_head,
            forward=forbidden,
            predict=forbidden,
            loss_and_predict=forbidden), mock.patch.multiple(
                teacher.roi_head, loss=forbidden,
                predict=forbidden), mock.patch.object(
                    teacher.roi_head.bbox_assigner, 'assign', forbidden):
        training_step(model)
    forbidden.assert_not_called()


def test_teacher_is_frozen_in_eval_and_unchanged(distiller_cfg, training_step):
    model = build(distiller_cfg())
    teacher = model.teacher.detector
    before = copy.deepcopy(teacher.state_dict())
    model.train()
    assert not any(module.training for module in teacher.modules())
    _, loss = training_step(model)
    loss.backward()
    assert all(parameter.grad is None and not parameter.requires_grad
               for parameter in teacher.parameters())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_distillation_reaches_the_student(distiller_cfg, training_step):
    model = build(distiller_cfg())
    losses, _ = training_step(model)
    losses['loss_kd_cls'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'losses',
    [{}, dict(loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=0))])
def test_weight_zero_equals_plain_detector__mmrazor_119(
        detector_cfg, distiller_cfg, training_step, losses):
    plain = build_plain(detector_cfg())
    distiller = build(distiller_cfg(losses=losses))
    optimizers = [
        torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for model in (plain, distiller)
    ]
    for step in range(3):
        results = []
        for model, optimizer in zip((plain, distiller), optimizers):
            values, total = training_step(model, seed=step)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            results.append(values)
        for key, value in results[0].items():
            other = results[1][key]
            if isinstance(value, torch.Tensor):
                value, other = [value], [other]
            for mine, its in zip(value, other):
                assert torch.equal(mine, its), key
        for (name, mine), its in zip(plain.named_parameters(),
                                     distiller.parameters()):
            assert torch.equal(mine, its), name
            if mine.grad is not None:
                assert torch.equal(mine.grad, its.grad), name
    for mine, its in zip(plain.buffers(), distiller.buffers()):
        assert torch.equal(mine, its)


def test_building_the_teacher_keeps_the_random_stream(distiller_cfg,
                                                      detector_cfg):
    build_plain(detector_cfg())
    expected = torch.rand(3)
    build(distiller_cfg())
    assert torch.equal(torch.rand(3), expected)


def test_student_keys_have_no_prefix__mmrazor_594(detector_cfg, distiller_cfg):
    plain = build_plain(detector_cfg())
    model = build(distiller_cfg())
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_parameters()
            ] == [name for name, _ in plain.named_parameters()]


def test_predictions_equal_the_plain_detector__mmrazor_571(
        detector_cfg, distiller_cfg, batch):
    plain = build_plain(detector_cfg()).eval()
    model = build(distiller_cfg()).eval()
    plain.load_state_dict(model.state_dict(), strict=True)
    results = []
    for detector in (plain, model):
        data = detector.data_preprocessor(batch(), False)
        with torch.no_grad():
            results.append(detector(**data, mode='predict'))
    assert len(results[0][0].pred_instances) > 0
    for mine, its in zip(*results):
        for field in ('bboxes', 'scores', 'labels'):
            assert torch.equal(mine.pred_instances[field],
                               its.pred_instances[field])


def test_ema_copy_holds_no_teacher(distiller_cfg):
    model = build(distiller_cfg())
    ema = ExponentialMovingAverage(model)
    assert not ema.module.teacher.is_built
    assert model.teacher.is_built
    assert len(list(ema.module.parameters())) == len(list(model.parameters()))


def test_teacher_moves_with_the_student(distiller_cfg):
    model = build(distiller_cfg())
    model.double()
    dtypes = {
        parameter.dtype
        for parameter in model.teacher.detector.parameters()
    }
    assert dtypes == {torch.float64}


def test_no_teacher_file_is_needed_to_test(distiller_cfg, batch):
    model = MODELS.build(
        distiller_cfg(teacher=dict(config='gone.py', checkpoint='gone.pth')))
    data = model.eval().data_preprocessor(batch(), False)
    with torch.no_grad():
        model(**data, mode='predict')
    assert not model.teacher.is_built


def test_teacher_is_built_by_the_first_loss(distiller_cfg, training_step):
    model = MODELS.build(distiller_cfg())
    losses, _ = training_step(model)
    assert 'loss_kd_cls' in losses and model.teacher.is_built


def test_no_hook_stays_behind(distiller_cfg, training_step):
    model = build(distiller_cfg())
    training_step(model)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_images_without_objects_and_without_rois(distiller_cfg, training_step):
    """No sample at all: mmdet calls no loss_cls, ours is a zero."""
    cfg = distiller_cfg()
    cfg.train_cfg.rpn_proposal.update(nms_pre=0, max_per_img=0)
    model = build(cfg)
    with mock.patch.object(
            model.rpn_head,
            'predict_by_feat',
            side_effect=lambda *args, **kwargs: _no_proposals(2)):
        losses, total = training_step(model, num_boxes=0)
    assert losses['loss_kd_cls'].item() == 0
    total.backward()


def _no_proposals(num_images):
    from mmengine.structures import InstanceData
    return [
        InstanceData(
            bboxes=torch.zeros(0, 4),
            scores=torch.zeros(0),
            labels=torch.zeros(0, dtype=torch.long)) for _ in range(num_images)
    ]


def test_images_without_objects(distiller_cfg, training_step):
    losses, _ = training_step(build(distiller_cfg()), num_boxes=0)
    assert torch.isfinite(losses['loss_kd_cls'])


@pytest.mark.parametrize('teacher_preprocessor', [
    dict(
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False),
    dict(mean=[102.9801, 115.9465, 122.7717], std=[1, 1, 1], bgr_to_rgb=False),
    dict(mean=[0, 0, 0], std=[255, 255, 255]),
    dict(pad_size_divisor=64),
    dict(),
])
def test_teacher_gets_its_own_normalisation(distiller_cfg, teacher_files,
                                            batch, training_step,
                                            teacher_preprocessor):
    model = build(distiller_cfg(teacher=teacher_files(**teacher_preprocessor)))
    teacher = model.teacher.detector
    seen = []
    teacher.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].clone()))
    training_step(model)
    alone = teacher.data_preprocessor(batch(), False)['inputs']
    torch.testing.assert_close(seen[0], alone, rtol=1e-5, atol=1e-4)
    if not teacher_preprocessor:
        assert torch.equal(seen[0], alone)
    features = teacher.extract_feat(alone)
    for mine, its in zip(teacher.extract_feat(seen[0]), features):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-3)


def test_inputs_are_not_changed(distiller_cfg, teacher_files, batch):
    model = build(
        distiller_cfg(
            teacher=teacher_files(mean=[0, 0, 0], std=[255, 255, 255])))
    data = model.train().data_preprocessor(batch(), True)
    before = data['inputs'].clone()
    model(**data, mode='loss')
    assert torch.equal(data['inputs'], before)


@pytest.mark.parametrize('as_type', ['path', 'dict', 'Config'])
def test_teacher_config_as_path_dict_or_config__mmyolo_738(
        distiller_cfg, teacher_files, as_type):
    teacher = teacher_files()
    if as_type != 'path':
        teacher['config'] = Config.fromfile(teacher['config'])
    if as_type == 'dict':
        teacher['config'] = teacher['config'].to_dict()
    assert build(distiller_cfg(teacher=teacher)).teacher.is_built


def test_teacher_checkpoint_auto_names_the_zoo_url(distiller_cfg):
    model = MODELS.build(
        distiller_cfg(
            teacher=dict(
                config='mmdet::faster_rcnn/'
                'faster-rcnn_r101_fpn_ms-3x_coco.py',
                checkpoint='auto')))
    cfg, checkpoint = find_detector(model.teacher.config,
                                    model.teacher.checkpoint)
    assert cfg.model.backbone.depth == 101
    assert checkpoint.startswith('https://')
    assert checkpoint.endswith('r101_fpn_mstrain_3x_coco_20210524_110822-'
                               '4d4d2ca8.pth')


def test_checkpoint_from_inside_ddp(distiller_cfg, teacher_files):
    teacher = teacher_files()
    state = torch.load(teacher['checkpoint'])['state_dict']
    torch.save({
        f'module.{key}': value
        for key, value in state.items()
    }, teacher['checkpoint'])
    assert build(distiller_cfg(teacher=teacher)).teacher.is_built


def test_mask_rcnn(distiller_cfg, training_step, batch):
    """Its mask head sends RoIs of its own through an extractor."""
    mask_cfg = Config.fromfile(
        'configs/tcal/mask-rcnn_r50_fpn_tcal-r101_1x_coco.py').model
    cfg = distiller_cfg()
    cfg.student_type = 'MaskRCNN'
    for key in ('mask_roi_extractor', 'mask_head'):
        cfg.roi_head[key] = mask_cfg.roi_head[key]
    cfg.roi_head.mask_roi_extractor.out_channels = 16
    cfg.roi_head.mask_head.update(
        in_channels=16, conv_out_channels=16, num_convs=1, num_classes=3)
    cfg.train_cfg.rcnn.mask_size = 28
    model = build(cfg).train()
    calls = []
    record_logits(model.teacher.detector, calls)
    torch.manual_seed(0)
    raw = batch()
    from mmdet.structures.mask import BitmapMasks
    for sample in raw['data_samples']:
        height, width = sample.img_shape
        sample.gt_instances.masks = BitmapMasks.random(
            len(sample.gt_instances), height=height, width=width)
    data = model.data_preprocessor(raw, True)
    losses = model(**data, mode='loss')
    assert {'loss_mask', 'loss_kd_cls'} <= set(losses)
    assert calls[0]['rois'].shape[0] == 64


def use_ohem(cfg):
    cfg.train_cfg.rcnn.sampler.type = 'OHEMSampler'


def use_pisa(cfg):
    cfg.roi_head.type = 'PISARoIHead'
    cfg.train_cfg.rcnn.update(
        sampler=dict(
            type='ScoreHLRSampler',
            num=32,
            pos_fraction=0.25,
            neg_pos_ub=-1,
            add_gt_as_proposals=True,
            k=0.5,
            bias=0.),
        isr=dict(k=2, bias=0),
        carl=dict(k=1, bias=0.2))


@pytest.mark.parametrize('choose', [use_ohem, use_pisa])
def test_samplers_that_run_the_head_themselves(distiller_cfg, training_step,
                                               choose):
    """The RoIs are those of the training, not those to choose among."""
    cfg = distiller_cfg(temperature=2.0)
    choose(cfg)
    model = build(cfg)
    student_calls, teacher_calls = [], []
    record_logits(model, student_calls)
    record_logits(model.teacher.detector, teacher_calls)
    losses, _ = training_step(model)
    assert len(student_calls) > 1 == len(teacher_calls)
    assert torch.equal(student_calls[-1]['rois'], teacher_calls[0]['rois'])
    student = student_calls[-1]['logits'].double().log_softmax(1)
    teacher = (teacher_calls[0]['logits'].double() / 2).softmax(1)
    divergence = (teacher * (teacher.log() - student)).sum(1)
    # PISA weighs RoIs anew; OHEM gives all of them the weight of one.
    if choose is use_ohem:
        assert losses['loss_kd_cls'].item() == pytest.approx(
            divergence.mean().item(), rel=1e-5)
    losses['loss_kd_cls'].backward()
    assert model.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0


def test_teacher_that_was_distilled_with_a_learnable_loss(
        distiller_cfg, teacher_files, training_step):
    """Its checkpoint has the loss's parameters, which no detector has."""
    teacher = teacher_files()
    content = torch.load(teacher['checkpoint'])
    content['state_dict']['distill_losses.loss_kd_cls.head.weight'] = (
        torch.ones(2))
    torch.save(content, teacher['checkpoint'])
    losses, _ = training_step(build(distiller_cfg(teacher=teacher)))
    assert losses['loss_kd_cls'] > 0


def test_teacher_whose_preprocessor_stands_beside_the_model(
        distiller_cfg, teacher_files, training_step):
    teacher = teacher_files()
    inside, _ = training_step(build(distiller_cfg(teacher=teacher)))
    cfg = Config.fromfile(teacher['config'])
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.dump(teacher['config'])
    beside, _ = training_step(build(distiller_cfg(teacher=teacher)))
    assert torch.equal(inside['loss_kd_cls'], beside['loss_kd_cls'])


def test_targets_of_an_earlier_head_run_are_forgotten(distiller_cfg):
    student = MODELS.build(distiller_cfg())
    roi_head = student.roi_head
    channels = roi_head.bbox_roi_extractor.out_channels
    levels = [
        torch.zeros(1, channels, 64 // stride, 96 // stride)
        for stride in roi_head.bbox_roi_extractor.featmap_strides
    ]
    rois = torch.tensor([[0., 0., 0., 32., 32.], [0., 8., 8., 40., 40.]])
    with adapter_for(student, 'student').observe() as observation:
        logits = roi_head._bbox_forward(levels, rois)['cls_score']
        roi_head.bbox_head.loss_cls(logits, torch.tensor([0, 1]),
                                    torch.ones(2))
        # The training's run, on other RoIs; its loss has not been called.
        roi_head._bbox_forward(levels, rois[:1])
    samples, = observation.groups
    assert len(samples.logits) == len(samples.location) == 1
    assert samples.labels is None and samples.weight is None


def test_masked_class_has_no_part_in_the_loss(distiller_cfg, teacher_files,
                                              training_step):
    """Both heads give class 3 a logit of -inf: no box has it."""
    teacher = teacher_files(num_classes=4)
    content = torch.load(teacher['checkpoint'])
    content['state_dict']['roi_head.bbox_head.fc_cls.bias'][3] = -torch.inf
    torch.save(content, teacher['checkpoint'])
    model = build(distiller_cfg(teacher, temperature=2.0, num_classes=4))
    model.roi_head.bbox_head.fc_cls.bias.data[3] = -torch.inf
    student_calls, teacher_calls = [], []
    record_logits(model, student_calls)
    record_logits(model.teacher.detector, teacher_calls)
    losses, total = training_step(model)
    kept = [0, 1, 2, 4]
    student = student_calls[0]['logits'].double()
    assert (student[:, 3] == -torch.inf).all()
    student = student[:, kept].log_softmax(1)
    teacher = (teacher_calls[0]['logits'].double()[:, kept] / 2).softmax(1)
    expected = (teacher * (teacher.log() - student)).sum(1).mean()
    assert losses['loss_kd_cls'].item() == pytest.approx(
        expected.item(), rel=1e-5)
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
