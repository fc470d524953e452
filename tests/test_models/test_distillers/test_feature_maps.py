"""Which maps a feature loss compares, and what is refused."""
import re
from types import SimpleNamespace

import pytest
import torch

from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers.terms.feature_maps import (match_levels,
                                                           matched_maps,
                                                           relative_boxes)
from tcal_det.models.distillers.training_step import (TeacherOutput,
                                                      TrainingStep)
from tcal_det.models.head_adapters import ModuleCall
from tcal_det.registry import MODELS
from tests import roi_cases
from tests.head_families import build, write_teacher
from tests.query_cases import batch as query_batch
from tests.query_cases import distiller as query_distiller
from tests.query_cases import tiny_model
from tests.test_models.test_distillers.feature_term_cases import (
    count_runs_of_both, feature_losses, five_levels, single_level, student_cfg,
    wide)


class TestMatchLevels:

    def test_equal_pyramids(self):
        sizes = [(16, 24), (8, 12), (4, 6)]
        assert match_levels(sizes, sizes) == [(0, 0), (1, 1), (2, 2)]

    def test_p2_to_p6_against_p3_to_p7(self):
        fine = [(40, 40), (20, 20), (10, 10), (5, 5), (3, 3)]
        coarse = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2)]
        assert match_levels(fine, coarse) == [(1, 0), (2, 1), (3, 2), (4, 3)]
        assert match_levels(coarse, fine) == [(0, 1), (1, 2), (2, 3), (3, 4)]

    def test_levels_of_a_tiny_image_stay_apart(self):
        """The last ones of 32 pixels are a single position."""
        fine = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
        coarse = [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)]
        assert match_levels(fine, coarse) == [(1, 0), (2, 1), (3, 2), (4, 3)]

    def test_order_of_the_levels_does_not_matter(self):
        """As of a YOLOv3, whose first map is the smallest."""
        rising = [(5, 5), (10, 10), (20, 20)]
        falling = [(40, 40), (20, 20), (10, 10), (5, 5)]
        assert match_levels(rising, falling) == [(2, 1), (1, 2), (0, 3)]
        assert match_levels(rising, rising) == [(2, 2), (1, 1), (0, 0)]

    def test_sizes_that_were_rounded_otherwise(self):
        assert match_levels([(25, 34), (13, 17)],
                            [(25, 33), (12, 17)]) == [(0, 0), (1, 1)]

    def test_single_level_takes_its_equal(self):
        pyramid = [(40, 40), (20, 20), (10, 10)]
        assert match_levels([(10, 10)], pyramid) == [(0, 2)]
        assert match_levels(pyramid, [(20, 20)]) == [(1, 0)]

    def test_within_a_factor_of_2_where_none_is_equal(self):
        assert match_levels([(40, 40)], [(20, 20)]) == [(0, 0)]
        assert match_levels([(30, 40)], [(20, 26), (10, 13)]) == [(0, 0)]

    def test_beyond_a_factor_of_2_nothing_is_matched(self):
        assert match_levels([(40, 40)], [(10, 10)]) == []
        # Both sides count.
        assert match_levels([(40, 40)], [(20, 10)]) == []
        assert match_levels([], [(10, 10)]) == []


def test_boxes_are_shares_of_the_padded_input():
    boxes = torch.tensor([[0., 10., 50., 20.]])
    assert relative_boxes(boxes, (40, 200)).tolist() == [[0., .25, .25, .5]]


@pytest.mark.parametrize(
    'output',
    [None, torch.zeros(2, 3, 4, 4), (torch.zeros(2, 3), ), (None, )])
def test_part_that_returns_no_maps(output):
    detector = SimpleNamespace(name='Student')
    calls = {} if output is None else dict(neck=ModuleCall((), output))
    step = TrainingStep(detector, None, [], {}, None, calls)
    with pytest.raises(
            InvalidValueError,
            match='the neck of the student Student must return a tuple of '
            'maps.*choose'):
        matched_maps(step, TeacherOutput([],
                                         SimpleNamespace(adapter=detector)),
                     'neck')


def coordinates(size, strides):
    """Maps that hold the place of each of their positions, in pixels."""
    maps = []
    for stride in strides:
        height, width = (-(-side // stride) for side in size)
        rows, columns = torch.meshgrid(
            stride * torch.arange(height),
            stride * torch.arange(width),
            indexing='ij')
        maps.append(torch.stack([rows, columns])[None].float())
    return tuple(maps)


@pytest.mark.parametrize('sizes', [((96, 128), (128, 128)),
                                   ((96, 128), (72, 104)),
                                   ((64, 64), (128, 128)),
                                   ((128, 128), (64, 64)),
                                   ((800, 1088), (768, 1024)),
                                   ((160, 224), (160, 224))])
def test_models_that_pad_to_other_sizes(sizes):
    """A position is compared with that of the same place of the image."""
    strides = (8, 16, 32, 64, 128)
    student, teacher = (coordinates(size, strides) for size in sizes)
    detector = SimpleNamespace(name='Detector')
    step, teacher_output = (SimpleNamespace(
        student=detector,
        adapter=detector,
        images=torch.zeros(1, 3, *size),
        calls=dict(neck=ModuleCall((), maps)))
                            for size, maps in zip(sizes, (student, teacher)))
    matched = matched_maps(step, teacher_output, 'neck')
    assert matched.levels == [0, 1, 2, 3, 4]
    assert matched.extent == tuple(map(min, *sizes))
    for own, other, stride in zip(matched.student, matched.teacher, strides):
        assert torch.equal(own, other)
        # Nothing of the extent is left out.
        assert own.shape[-2:] == tuple(-(-side // stride)
                                       for side in matched.extent)


@pytest.mark.parametrize('family', ['retinanet', 'gfl'])
def test_maps_are_those_of_equal_stride(tmp_path, training_step, family):
    """P2 to P6 of the student against P3 to P7 of the teacher."""
    teacher = write_teacher(tmp_path, family, edit=five_levels)
    losses = feature_losses([16] * 4)
    model = build(student_cfg('faster', teacher, losses), MODELS)
    model.init_weights()
    maps, seen = {}, {}
    model.neck.register_forward_hook(
        lambda *args: maps.update(student=args[2]))
    model.teacher.detector.neck.register_forward_hook(
        lambda *args: maps.update(teacher=args[2]))
    model.distill_losses['loss_ScoreWeightedL2Loss'].register_forward_pre_hook(
        lambda _, args: seen.update(
            student=args[0], teacher=args[1], scene=args[2]))
    values, total = training_step(model)
    for mine, its in zip(seen['student'], maps['student'][1:]):
        assert torch.equal(mine, its)
    for mine, its in zip(seen['teacher'], maps['teacher'][:-1]):
        assert torch.equal(mine, its)
    assert len(seen['student']) == len(seen['teacher']) == 4
    for mine, its in zip(seen['teacher'], seen['scene'].scores):
        assert its.shape == (2, 1, *mine.shape[-2:])
        assert ((its > 0) & (its < 1)).all()
    assert all(values[name] > 0 for name in losses)
    total.backward()


@pytest.mark.parametrize(
    'calibrator', [None, dict(type='PlattScaling', scale=0.5, bias=-1.0)])
def test_scores_are_the_calibrated_best_of_a_place(tmp_path, training_step,
                                                   calibrator):
    """By the head's own maps, of each place over anchors and classes."""
    losses = feature_losses([16] * 3, kinds=['ScoreWeightedL2Loss'])
    cfg = student_cfg('retinanet', write_teacher(tmp_path, 'retinanet'),
                      losses)
    cfg.teacher.calibrator = calibrator
    model = build(cfg, MODELS)
    model.init_weights()
    seen = {}
    model.distill_losses['loss_ScoreWeightedL2Loss'].register_forward_pre_hook(
        lambda _, args: seen.update(scene=args[2]))
    model.teacher.detector.bbox_head.register_forward_hook(
        lambda *args: seen.update(maps=args[2][0]))
    training_step(model)
    for logits, scores in zip(seen['maps'], seen['scene'].scores):
        if calibrator is not None:
            logits = 0.5 * logits - 1
        # Columns of a place: anchor by anchor, class by class.
        torch.testing.assert_close(scores,
                                   logits.sigmoid().amax(1, keepdim=True))


def test_scores_of_a_two_stage_teacher_are_objectness(tmp_path, training_step):
    losses = feature_losses([16] * 5, kinds=['ScoreWeightedL2Loss'])
    model = build(
        student_cfg('faster', write_teacher(tmp_path, 'faster'), losses),
        MODELS)
    model.init_weights()
    seen = {}
    model.distill_losses['loss_ScoreWeightedL2Loss'].register_forward_pre_hook(
        lambda _, args: seen.update(scene=args[2]))
    model.teacher.detector.rpn_head.register_forward_hook(
        lambda *args: seen.update(maps=args[2][0]))
    training_step(model)
    for logits, scores in zip(seen['maps'], seen['scene'].scores):
        assert torch.equal(scores, logits.sigmoid().amax(1, keepdim=True))


def test_boxes_are_the_students_objects(tmp_path, training_step, batch):
    losses = feature_losses([16] * 5, kinds=['FGDLoss'])
    model = build(
        student_cfg('faster', write_teacher(tmp_path, 'faster'), losses),
        MODELS)
    seen = {}
    model.distill_losses['loss_FGDLoss'].register_forward_pre_hook(
        lambda _, args: seen.update(scene=args[2]))
    training_step(model)
    # 64 x 96 pixels, the second image padded.
    for sample, boxes in zip(batch()['data_samples'], seen['scene'].boxes):
        torch.testing.assert_close(boxes * torch.tensor([96, 64, 96, 64]),
                                   sample.gt_instances.bboxes)
    losses, total = training_step(model, num_boxes=0)
    assert losses['loss_FGDLoss'] > 0
    total.backward()


def test_backbone_stages(tmp_path, training_step):
    """Their channels differ; the last stages alone are compared."""

    def twice_as_wide(model):
        model.backbone.base_channels = 16
        model.neck.in_channels = [16, 32, 64, 128]

    teacher = write_teacher(tmp_path, 'faster', edit=twice_as_wide)
    losses = dict(
        loss_flow=dict(type='InformationFlowLoss', levels=[-1]),
        loss_pkd=dict(
            type='PKDLoss',
            features='backbone',
            student_channels=[8, 16, 32, 64],
            teacher_channels=[16, 32, 64, 128]))
    model = build(student_cfg('faster', teacher, losses), MODELS)
    values, _ = training_step(model)
    values['loss_flow'].backward(retain_graph=True)
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.neck.parameters())
    values['loss_pkd'].backward()
    projections = model.distill_losses['loss_pkd'].projections
    assert projections[0].weight.shape == (16, 8, 1, 1)
    assert all(weight.grad.abs().sum() > 0
               for weight in (one.weight for one in projections))


def test_teacher_that_scores_no_places(tmp_path):
    cfg = tiny_model('DINO')
    losses = feature_losses([256] * 4, kinds=['ScoreWeightedL2Loss'])
    model = query_distiller(tmp_path, cfg, losses, teacher_seed=1)
    with pytest.raises(
            InvalidValueError,
            match='loss_ScoreWeightedL2Loss.*the teacher DINO of the student '
            'DINO classifies queries.*choose PKDLoss'):
        model.loss(*query_batch('DINO'))


@pytest.mark.parametrize('name', ['trident', 'c4', 'libra', 'detectors'])
@pytest.mark.parametrize('features', ['neck', 'backbone'])
def test_odd_necks(tmp_path, name, features):
    """A repeated batch, no neck, two necks, a backbone that gives images."""
    cfg = roi_cases.case_cfg(name)
    detector = roi_cases.build_detector(cfg, seed=1)
    teacher = roi_cases.save_teacher(tmp_path, name, cfg, detector)
    maps = {}
    part = getattr(detector, features, detector.backbone)
    part.register_forward_hook(lambda *args: maps.update(found=args[2]))
    detector.eval().extract_feat(torch.rand(1, 3, 128, 192))
    channels = [level.shape[1] for level in maps['found']]
    losses = feature_losses(
        channels,
        features=features,
        kinds=['PKDLoss', 'MGDLoss', 'FGDLoss', 'InformationFlowLoss'])
    model = roi_cases.distiller_of(cfg, teacher, losses)
    model.load_state_dict(
        roi_cases.build_detector(cfg).state_dict(), strict=False)
    model.teacher.build(model)
    counts, seen = count_runs_of_both(model, 'backbone'), {}
    model.distill_losses['loss_FGDLoss'].register_forward_pre_hook(
        lambda _, args: seen.update(maps=args[0], scene=args[2]))
    values = roi_cases.training_losses(model)
    # Boxes of each image, as often as the images are there.
    boxes = seen['scene'].boxes
    assert len(boxes) == len(
        seen['maps'][0]) == (6 if name == 'trident' else 2)
    assert all(map(torch.equal, boxes, boxes[:2] * 3))
    assert set(counts.values()) == {1}
    for key in losses:
        assert torch.isfinite(values[key]) and values[key] > 0, key
        assert values[key].grad_fn is not None


def test_trident_student_of_a_plain_teacher(tmp_path):
    cfg, teacher_cfg = map(roi_cases.case_cfg, ('trident', 'c4'))
    teacher = roi_cases.save_teacher(
        tmp_path, 'c4', teacher_cfg,
        roi_cases.build_detector(teacher_cfg, seed=1))
    model = roi_cases.distiller_of(
        cfg, teacher, feature_losses([1024], kinds=['InformationFlowLoss']))
    with pytest.raises(
            InvalidValueError,
            match='must have the same images.*the student TridentFasterRCNN '
            'has 6x.*the teacher FasterRCNN has 2x'):
        roi_cases.training_losses(model)


def test_strides_that_do_not_meet(tmp_path, training_step):
    teacher = write_teacher(tmp_path, 'faster', edit=single_level(2))
    cfg = student_cfg('faster', teacher, feature_losses([16],
                                                        kinds=['PKDLoss']))
    single_level(0)(cfg)
    model = build(cfg, MODELS)
    with pytest.raises(
            InvalidValueError,
            match=re.escape(
                'strides within a factor of 2, but the student FasterRCNN has '
                '2x16x16x24 and the teacher FasterRCNN has 2x16x4x6: choose '
                'another teacher, or a loss on logits')):
        training_step(model)


def test_strides_of_a_factor_of_2_are_resized(tmp_path, training_step):
    teacher = write_teacher(tmp_path, 'faster', edit=single_level(1))
    losses = feature_losses([16])
    cfg = student_cfg('faster', teacher, losses)
    single_level(0)(cfg)
    model = build(cfg, MODELS)
    values, total = training_step(model)
    # The stages of the backbone are four of each.
    assert all(values[name] > 0 for name in losses)
    total.backward()


def test_channels_that_do_not_fit(tmp_path, training_step):
    teacher = write_teacher(tmp_path, 'gfl', edit=wide)
    cfg = student_cfg('faster', teacher, dict(loss_pkd=dict(type='PKDLoss')))
    with pytest.raises(
            InvalidValueError,
            match=re.escape(
                '`distill_losses.loss_pkd` PKDLoss cannot compare the neck of '
                'the student FasterRCNN and of the teacher GFL: '
                '`student_channels` and `teacher_channels` must be the '
                'channels of the 3 levels that are compared, [16, 16, 16] and '
                '[24, 24, 24], but got none: give student_channels=[16, 16, '
                '16], teacher_channels=[24, 24, 24]')):
        training_step(build(cfg, MODELS))
