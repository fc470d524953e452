"""Feature losses inside the distiller: whose maps, run how often, off."""
import copy
import pickle
import re
from types import SimpleNamespace

import pytest
import roi_cases
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from head_families import (bbox_heads, build, detector_cfg, distiller_cfg,
                           write_teacher)
from mmengine.config import ConfigDict
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.registry import init_default_scope
from query_cases import batch as query_batch
from query_cases import build as build_query
from query_cases import distiller as query_distiller
from query_cases import kd_loss, tiny_model
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.engine.training import leave_process_group
from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers.terms.feature_maps import (match_levels,
                                                           matched_maps,
                                                           relative_boxes)
from tcal_det.models.distillers.training_step import Taught, TrainingStep
from tcal_det.models.head_adapters import ModuleCall
from tcal_det.registry import MODELS

KINDS = ('PKDLoss', 'CWDLoss', 'ScoreWeightedL2Loss', 'MGDLoss', 'FGDLoss',
         'DPKLoss', 'InformationFlowLoss')


def feature_losses(own, other=None, kinds=KINDS, **arguments):
    """Configs of feature losses, by name.

    Args:
        own (list[int]): Channels of the student's levels.
        other (list[int], optional): Those of the teacher's.
        kinds (sequence[str]): Types of the losses.
        **arguments: Of all of them.
    """
    losses = {}
    for kind in kinds:
        cfg = dict(type=f'tcal_det.{kind}', **arguments)
        if kind != 'InformationFlowLoss':
            cfg['student_channels'] = own
            if other is not None:
                cfg['teacher_channels'] = other
        losses[f'loss_{kind}'] = cfg
    return losses


def wide(model):
    """Another width of the neck, and of what follows it."""
    for part in (model.get('rpn_head', {}), *bbox_heads(model)):
        for key in ('in_channels', 'feat_channels'):
            if key in part:
                part[key] = 24
    model.neck.out_channels = 24
    if 'roi_head' in model:
        model.roi_head.bbox_roi_extractor.out_channels = 24


def student_cfg(family, teacher, losses, **options):
    cfg = distiller_cfg(family, teacher, calibrator=None, **options)
    cfg.distill_losses = ConfigDict(losses)
    return cfg


def own_losses(losses, distilled):
    kept = {}
    for name, value in losses.items():
        if name not in distilled:
            values = value if isinstance(value, list) else [value]
            kept.update({
                f'{name}.{index}': one
                for index, one in enumerate(values)
            })
    return kept


def assert_equal_losses(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def gradients_of(model):
    return {
        name: weight.grad
        for name, weight in model.named_parameters()
        if not name.startswith('distill_losses.')
    }


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
        matched_maps(step, Taught([], SimpleNamespace(adapter=detector)),
                     'neck')


@pytest.mark.parametrize('family, levels', [('faster', 5), ('retinanet', 3),
                                            ('gfl', 3), ('rtmdet', 3),
                                            ('cascade', 5)])
def test_off_is_the_plain_detector(tmp_path, training_step, family, levels):
    """Losses, gradients and the weights of the beginning, bit for bit."""
    from mmdet.registry import MODELS as MMDET_MODELS
    losses = feature_losses([16] * levels, [24] * levels, loss_weight=0.0)
    cfg = student_cfg(family, write_teacher(tmp_path, family, edit=wide),
                      losses)
    plain = build(detector_cfg(family), MMDET_MODELS)
    model = build(cfg, MODELS)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    for seed in range(2):
        values = []
        for detector in (plain, model):
            detector.zero_grad()
            found, total = training_step(detector, seed=seed)
            total.backward()
            values.append(own_losses(found, losses))
        assert all(found[name] == 0 for name in losses)
        assert_equal_losses(*values)
        expected = gradients_of(plain)
        for name, gradient in gradients_of(model).items():
            assert (gradient is None) == (expected[name] is None), name
            assert gradient is None or torch.equal(gradient,
                                                   expected[name]), name


def test_off_is_the_plain_query_student(tmp_path):
    kinds = [kind for kind in KINDS if kind != 'ScoreWeightedL2Loss']
    losses = feature_losses([256] * 4, kinds=kinds, loss_weight=0.0)
    cfg = tiny_model('DINO')
    plain, model = build_query(cfg), query_distiller(
        tmp_path, cfg, losses, teacher_seed=1)
    model.teacher.build(model)
    values = []
    for detector in (plain, model):
        torch.manual_seed(0)
        found = detector.loss(*query_batch('DINO'))
        sum(value for value in found.values()).backward()
        values.append(own_losses(found, losses))
    assert_equal_losses(*values)
    expected = gradients_of(plain)
    for name, gradient in gradients_of(model).items():
        assert gradient is None or torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize('family, levels', [('faster', 5), ('retinanet', 3)])
def test_on_moves_no_random_stream_of_the_student(detector_cfg, teacher_files,
                                                  distiller_cfg, training_step,
                                                  family, levels, tmp_path):
    """What the losses draw does not change what the student samples."""
    from mmdet.registry import MODELS as MMDET_MODELS
    if family == 'faster':
        # Samplers that choose at random.
        plain_cfg = detector_cfg()
        losses = feature_losses([16] * levels)
        cfg = distiller_cfg(losses=losses)
    else:
        import head_families
        plain_cfg = head_families.detector_cfg(family)
        losses = feature_losses([16] * levels)
        cfg = student_cfg(family, write_teacher(tmp_path, family), losses)
    plain, model = build(plain_cfg, MMDET_MODELS), build(cfg, MODELS)
    streams, values = [], []
    for detector in (plain, model):
        found, _ = training_step(detector)
        streams.append(torch.get_rng_state())
        values.append(own_losses(found, losses))
    assert_equal_losses(*values)
    assert torch.equal(*streams)
    assert all(found[name] > 0 for name in losses)


def count_runs(model, *parts):
    """How often modules of student and teacher run, by name."""
    counts = {}

    def counter(key):
        counts[key] = 0

        def count(*_):
            counts[key] += 1

        return count

    for role, detector in (('student', model), ('teacher',
                                                model.teacher.detector)):
        for part in parts:
            getattr(detector,
                    part).register_forward_hook(counter(f'{role} {part}'))
    return counts


@pytest.mark.parametrize('with_logits', [True, False])
@pytest.mark.parametrize('family, levels, head', [
    ('faster', 5, 'rpn_head'),
    ('retinanet', 3, 'bbox_head'),
])
def test_nothing_runs_twice(tmp_path, training_step, family, levels, head,
                            with_logits):
    losses = feature_losses([16] * levels)
    cfg = student_cfg(family, write_teacher(tmp_path, family), losses)
    if with_logits:
        cfg.distill_losses.update(
            distiller_cfg(family, dict(), None).distill_losses)
    model = build(cfg, MODELS)
    model.init_weights()
    counts = count_runs(model, 'backbone', 'neck', head)
    losses, _ = training_step(model)
    # The teacher's RPN runs for the score-weighted loss alone.
    assert set(counts.values()) == {1}, counts
    assert ('loss_kd_cls' in losses) == with_logits


@pytest.mark.parametrize('transport',
                         ['matched_predictions', 'shared_queries'])
def test_nothing_of_a_query_pair_runs_twice(tmp_path, transport):
    cfg = tiny_model('DINO')
    losses = dict(
        kd_loss('DINO'),
        **feature_losses([256] * 4, kinds=['PKDLoss', 'FGDLoss']))
    model = query_distiller(
        tmp_path, cfg, losses, teacher_seed=1, transport=transport)
    model.teacher.build(model)
    counts = count_runs(model, 'backbone', 'neck')
    model.loss(*query_batch('DINO'))
    assert set(counts.values()) == {1}, counts


@pytest.mark.parametrize('family, other, levels', [
    ('gfl', 'faster', 3),
    ('retinanet', 'faster', 3),
    ('retinanet', 'gfl', 3),
    ('faster', 'gfl', 3),
])
def test_unlike_heads(tmp_path, training_step, family, other, levels):
    """Of which each needs another way for the logits of the teacher."""
    losses = feature_losses([16] * levels)
    cfg = student_cfg(family, write_teacher(tmp_path, other), losses)
    cfg.distill_losses.update(
        distiller_cfg(family, dict(), None).distill_losses)
    model = build(cfg, MODELS)
    model.init_weights()
    counts = count_runs(model, 'backbone', 'neck')
    values, total = training_step(model)
    assert set(counts.values()) == {1}, counts
    assert all(values[name] > 0 for name in losses)
    assert 'loss_kd_cls' in values
    total.backward()


def test_features_alone_need_no_more_than_features(tmp_path, training_step):
    """Neither the teacher's head nor classes in common, nor samples."""
    teacher = write_teacher(tmp_path, 'gfl', edit=five_levels, num_classes=7)
    cfg = student_cfg('faster', teacher,
                      feature_losses([16] * 4, kinds=['PKDLoss']))
    model = build(cfg, MODELS)
    model.init_weights()
    counts = count_runs(model, 'backbone', 'neck')
    runs = []
    model.teacher.detector.bbox_head.register_forward_hook(
        lambda *_: runs.append('head'))
    losses, total = training_step(model)
    assert losses['loss_PKDLoss'] > 0 and runs == []
    assert set(counts.values()) == {1}
    total.backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def five_levels(model):
    """P3 to P7 as in mmdet's own configs."""
    model.neck.num_outs = 5
    strides = [8, 16, 32, 64, 128]
    head = model.bbox_head
    head.anchor_generator.strides = strides


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
        assert mine is its
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


def test_query_teacher_of_a_two_stage_student(tmp_path, training_step):
    """A DINO and a Faster R-CNN have maps of the strides 8 to 64."""
    cfg = tiny_model('DINO')
    path = str(tmp_path / 'dino.pth')
    torch.save(
        dict(state_dict=build_query(copy.deepcopy(cfg)).state_dict()), path)
    losses = feature_losses([16] * 4, [256] * 4, kinds=['PKDLoss', 'MGDLoss'])
    model = build(
        student_cfg('faster', dict(config=dict(model=cfg), checkpoint=path),
                    losses), MODELS)
    values, total = training_step(model, size=(128, 160))
    assert all(values[name] > 0 for name in losses)
    total.backward()


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
    counts, seen = count_runs(model, 'backbone'), {}
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


def single_level(level):

    def edit(model):
        stride = 4 * 2**level
        model.neck.update(start_level=level, end_level=level, num_outs=1)
        model.rpn_head.anchor_generator.strides = [stride]
        model.roi_head.bbox_roi_extractor.featmap_strides = [stride]

    return edit


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


class TestEnsembles:

    @staticmethod
    def cfg(tmp_path, losses):
        cfg = student_cfg('faster', dict(), losses)
        cfg.teacher = dict(
            big=write_teacher(tmp_path, 'faster', name='big'),
            other=write_teacher(tmp_path, 'gfl', name='other'))
        return cfg

    def test_a_loss_names_its_teacher(self, tmp_path, training_step):
        """The other answers for samples, this one gives features only."""
        losses = dict(
            loss_kd_cls=dict(type='LogitKLDivLoss', teacher='big'),
            loss_pkd=dict(type='PKDLoss', teacher='other'))
        model = build(self.cfg(tmp_path, losses), MODELS)
        values, _ = training_step(model)
        alone = build(
            student_cfg('faster', write_teacher(tmp_path, 'gfl', name='other'),
                        dict(loss_pkd=dict(type='PKDLoss'))), MODELS)
        assert torch.equal(values['loss_pkd'],
                           training_step(alone)[0]['loss_pkd'])
        other = model.teacher.teachers['other']
        assert other.transport is None and other.classes is None

    def test_maps_cannot_be_mixed(self, tmp_path):
        losses = dict(loss_pkd=dict(type='PKDLoss'))
        with pytest.raises(
                InvalidValueError,
                match='`distill_losses.loss_pkd` must name one of the teachers'
        ):
            build(self.cfg(tmp_path, losses), MODELS)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision(tmp_path, batch, dtype):
    """Maps in half precision, losses in float32 that are nearly the same."""
    if dtype == torch.float16:
        # Before, autocast on a CPU knows bfloat16 only.
        pytest.importorskip('torch', '2.3')
    losses = feature_losses([16] * 3, [24] * 3)
    model = build(
        student_cfg('retinanet',
                    write_teacher(tmp_path, 'retinanet', edit=wide), losses),
        MODELS).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    data = model.data_preprocessor(batch(), True)
    again = copy.deepcopy(model)
    expected = model(**copy.deepcopy(data), mode='loss')
    with torch.autocast('cpu', dtype=dtype):
        found = again(**data, mode='loss')
    for name in losses:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(
            found[name], expected[name], rtol=0.1, atol=1e-3)
    again.parse_losses(found)[0].backward()


@pytest.mark.parametrize(
    'duplicate', [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: ExponentialMovingAverage(model).module,
    ],
    ids=['deepcopy', 'pickle', 'ema'])
def test_copy_learns_from_the_same_maps(tmp_path, training_step, duplicate):
    losses = feature_losses([16] * 5)
    model = build(
        student_cfg('faster', write_teacher(tmp_path, 'faster'), losses),
        MODELS)
    training_step(model)
    copied = duplicate(model).requires_grad_(True)
    assert not copied.teacher.is_built
    results = []
    for detector in (model, copied):
        detector.zero_grad()
        values, total = training_step(detector)
        total.backward()
        results.append((values, dict(detector.named_parameters())))
    (values, weights), (others, its_weights) = results
    for name in losses:
        assert torch.equal(values[name], others[name]), name
    for name, weight in weights.items():
        assert torch.equal(weight.grad, its_weights[name].grad), name


def test_what_learns_is_trained_and_is_no_part_of_the_student(
        tmp_path, training_step):
    losses = feature_losses([16] * 5, [24] * 5)
    model = build(
        student_cfg('faster', write_teacher(tmp_path, 'faster', edit=wide),
                    losses), MODELS)
    plain = set(detector_state(detector_cfg('faster')))
    extra = set(model.state_dict()) - plain
    assert plain <= set(model.state_dict())
    assert all(key.startswith('distill_losses.') for key in extra)
    for part in ('loss_PKDLoss.projections.0.weight',
                 'loss_MGDLoss.generators.4.2.bias',
                 'loss_FGDLoss.teacher_contexts.0.conv_mask.weight',
                 'loss_DPKLoss.decoders.0.2.weight', 'loss_DPKLoss.similarity',
                 'loss_MGDLoss.random_stream.draws'):
        assert f'distill_losses.{part}' in extra
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    # Not the shifts: to some of the losses they do not matter.
    learning = {
        name: weight
        for name, weight in model.distill_losses.named_parameters()
        if name.endswith('weight')
    }
    before = {name: weight.clone() for name, weight in learning.items()}
    for _ in range(6):
        # A context block's first layers wait for its last one, which starts
        # with zeros; the only patch of a level is not the student's in each
        # step.
        optimizer.zero_grad()
        training_step(model)[1].backward()
        optimizer.step()
    for name, weight in learning.items():
        assert not torch.equal(weight, before[name]), name


def detector_state(cfg):
    from mmdet.registry import MODELS as MMDET_MODELS
    return build(cfg, MMDET_MODELS).state_dict()


def for_training(cfg):
    model = build(cfg, MODELS).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def step_loss(model, raw):
    inner = getattr(model, 'module', model)
    data = inner.data_preprocessor(copy.deepcopy(raw), True)
    return inner.parse_losses(model(**data, mode='loss'))[0]


def train_one_half(rank, cfgs, halves, folder):
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    results = []
    for cfg in cfgs:
        model = MMDistributedDataParallel(
            for_training(cfg), device_ids=None, broadcast_buffers=False)
        step_loss(model, halves[rank]).backward()
        results.append([{
            name: weight.grad
            for name, weight in model.module.named_parameters()
        },
                        dict(model.module.named_buffers())])
    torch.save(results, f'{folder}/{rank}.pt')
    leave_process_group()


@pytest.mark.slow
def test_two_ranks_average_their_gradients(tmp_path, batch):
    """As one process on each half; every rank draws the same."""
    teacher = write_teacher(tmp_path, 'faster', edit=wide)
    losses = feature_losses([16] * 5, [24] * 5)
    moving = student_cfg('faster', teacher,
                         feature_losses([16] * 5, [24] * 5, kinds=['DPKLoss']))
    # The mean over ranks is not that of one process.
    losses['loss_DPKLoss']['momentum'] = 1.0
    cfg = student_cfg('faster', teacher, losses)
    halves = [batch(num_images=1, seed=seed) for seed in (0, 1)]
    mp.spawn(train_one_half, ([cfg, moving], halves, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1)]

    expected = {}
    for half in halves:
        model = for_training(cfg)
        (step_loss(model, half) / 2).backward()
        for name, weight in model.named_parameters():
            expected[name] = expected.get(name, 0) + weight.grad
    for name, whole in expected.items():
        one, other = (rank[0][0][name] for rank in ranks)
        assert torch.equal(one, other), name
        torch.testing.assert_close(one, whole, rtol=1e-3, atol=1e-5)

    similarities = []
    for half in halves:
        model = for_training(moving)
        step_loss(model, half)
        similarities.append(model.distill_losses['loss_DPKLoss'].similarity)
    for rank in ranks:
        torch.testing.assert_close(
            rank[1][1]['distill_losses.loss_DPKLoss.similarity'],
            sum(similarities) / 2)
    assert not torch.equal(*similarities)
