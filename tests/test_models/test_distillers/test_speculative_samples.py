"""RoIs of the student that the teacher accepts, and those it replaces."""
import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import bbox_overlaps
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from torch import nn

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.distillers import SpeculativeSamples
from tcal_det.models.distillers.second_run import without_side_effects
from tcal_det.registry import MODELS, OPTIM_WRAPPERS
from tests import head_families
from tests.module_runs import count_runs
from tests.roi_cases import Case, training_losses

NUM_CLASSES = 3


@pytest.fixture
def make(distiller_cfg, teacher_files):
    """Distillers of one teacher and equal weights."""
    files = teacher_files()

    def build(top_k='leave out', losses=None, seed=0, **student):
        cfg = distiller_cfg(teacher=files, losses=losses, **student)
        if top_k != 'leave out':
            cfg.teacher.sampling = dict(type='SpeculativeSamples', top_k=top_k)
        torch.manual_seed(seed)
        model = MODELS.build(cfg)
        model.teacher.build(model)
        return model

    return build


def gradients(model):
    return {
        name: None if weight.grad is None else weight.grad.clone()
        for name, weight in model.named_parameters()
    }


def step_of(model, training_step, **options):
    losses, total = training_step(model, **options)
    model.zero_grad()
    total.backward()
    return losses, gradients(model)


def assert_equal_steps(mine, other):
    losses, grads = mine
    its_losses, its_grads = other
    assert losses.keys() == its_losses.keys()
    for name, loss in losses.items():
        for one, two in zip(*(value if isinstance(value, list) else [value]
                              for value in (loss, its_losses[name]))):
            assert torch.equal(one, two), name
    for name, grad in grads.items():
        other = its_grads[name]
        assert (grad is None) == (other is None), name
        assert grad is None or torch.equal(grad, other), name


@pytest.mark.parametrize('top_k', [None, 10**6])
def test_accepting_all_is_distillation_as_it_was(make, training_step, top_k):
    expected = step_of(make(), training_step)
    assert expected[0]['loss_kd_cls'] > 0
    assert_equal_steps(step_of(make(top_k), training_step), expected)


@pytest.mark.parametrize('top_k', [0, 8])
def test_student_trains_on_its_own_samples(make, training_step, top_k):
    """Weight 0 is the plain detector, whatever is exchanged."""
    losses = dict(loss_kd_cls=dict(type='LogitKLDivLoss', loss_weight=0.))
    off = make(top_k, losses)
    off_losses, off_grads = step_of(off, training_step)
    state = torch.get_rng_state()
    plain = make('leave out', losses)
    plain_losses, plain_grads = step_of(plain, training_step)
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal_steps((off_losses, off_grads), (plain_losses, plain_grads))
    for name, buffer in plain.named_buffers():
        assert torch.equal(off.get_buffer(name), buffer), name


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5)),
        min_size=0,
        max_size=30), st.integers(0, 12))
def test_the_best_of_each_image_are_accepted(samples, top_k):
    """Against sorting with Python."""
    scores = torch.tensor([score / 5 for _, score in samples])
    images = torch.tensor([image for image, _ in samples], dtype=torch.long)
    accepted = SpeculativeSamples(top_k).accepted_mask(scores, images)
    expected = [False] * len(samples)
    for image in range(4):
        places = [at for at, (own, _) in enumerate(samples) if own == image]
        for at in sorted(places, key=lambda at: -samples[at][1])[:top_k]:
            expected[at] = True
    assert accepted.tolist() == expected


def test_proposals_are_drawn_by_their_score():
    scores = torch.tensor([.6, .3, .1, 0.])
    generator = torch.Generator().manual_seed(0)
    first = [
        SpeculativeSamples.draw_proposals(scores, 1, generator).item()
        for _ in range(4000)
    ]
    shares = torch.bincount(torch.tensor(first), minlength=4) / 4000
    assert shares.tolist() == pytest.approx([.6, .3, .1, 0.], abs=.03)
    # None twice while there are others, also of score 0.
    assert sorted(
        SpeculativeSamples.draw_proposals(scores, 4,
                                          generator).tolist()) == [0, 1, 2, 3]
    assert len(SpeculativeSamples.draw_proposals(scores, 9, generator)) == 9


def heard(model, training_step, **options):
    """The group of a step, and the RoIs of the student's own loss."""
    seen = []
    extractor = model.roi_head.bbox_roi_extractor
    hook = extractor.register_forward_pre_hook(
        lambda _, args: seen.append(args[1].clone()))
    with model.teacher.recorded_groups() as distill_groups:
        losses, _ = training_step(model, **options)
    hook.remove()
    (distill_group, ) = distill_groups
    return distill_group, seen, losses


def student_logits(model, rois, batch):
    """By a run of the whole student, independent of the transport."""
    data = model.data_preprocessor(batch(), True)
    return model.roi_head._bbox_forward(
        model.extract_feat(data['inputs']), rois)['cls_score']


def teacher_logits(model, rois, batch):
    detector = model.teacher.detector
    data = detector.data_preprocessor(batch(), False)
    return detector.roi_head._bbox_forward(
        detector.extract_feat(data['inputs']), rois)['cls_score'] / 1.5


@pytest.mark.parametrize('top_k', [0, 8])
def test_both_classify_the_mixed_set(make, training_step, batch, top_k):
    model = make(top_k)
    distill_group, seen, _ = heard(model, training_step)
    samples, (own, others) = distill_group.samples, seen
    rois = samples.location
    assert len(rois) == len(own)
    replaced = (rois != own).any(dim=1)
    # The student's head ran a second time, on what was replaced only.
    assert torch.equal(rois[replaced], others)
    assert torch.equal(rois[:, 0], own[:, 0])
    # Who stays is who the teacher ranks best, image by image.
    with torch.no_grad():
        best = teacher_logits(model, own, batch).softmax(1)[:, :-1].amax(1)
    for image in (0, 1):
        of_image = own[:, 0] == image
        order = best[of_image].argsort(descending=True)[:top_k]
        kept = (~replaced[of_image]).nonzero().flatten()
        assert sorted(order.tolist()) == kept.tolist()
    with torch.no_grad():
        torch.testing.assert_close(distill_group.logits,
                                   teacher_logits(model, rois, batch))
        torch.testing.assert_close(samples.logits.detach(),
                                   student_logits(model, rois, batch))


def test_others_are_proposals_of_the_teacher(make, training_step, batch):
    model = make(0)
    _, (_, others), _ = heard(model, training_step)
    detector = model.teacher.detector
    data = detector.data_preprocessor(batch(), False)
    with torch.no_grad():
        proposals = detector.rpn_head.predict(
            detector.extract_feat(data['inputs']),
            data['data_samples'],
            rescale=False)
    for image, found in enumerate(proposals):
        drawn = others[others[:, 0] == image, 1:]
        matches = (drawn[:, None] == found.bboxes[None]).all(-1)
        assert matches.any(1).all()
        # None twice: there are enough.
        assert len(found.bboxes) >= len(drawn) and matches.sum(0).max() == 1


def test_others_have_the_labels_of_the_students_assigner(make, batch):
    """Faster R-CNN: the class of the object with an IoU of at least 0.5."""
    model = make(0).train()
    data = model.data_preprocessor(batch(), True)
    detector = model.teacher.detector
    samples = data['data_samples']
    with torch.no_grad():
        proposals = detector.rpn_head.predict(
            detector.extract_feat(data['inputs']), samples, rescale=False)
    for sample, found in zip(samples, proposals):
        # Objects where the teacher proposes some.
        sample.gt_instances.bboxes = found.bboxes[:3] + 1
    with model.teacher.recorded_groups() as (distill_groups):
        model(**data, mode='loss')
    mixed = distill_groups[0].samples
    labels = []
    for roi in mixed.location:
        objects = samples[int(roi[0])].gt_instances
        overlaps = bbox_overlaps(roi[None, 1:], objects.bboxes)[0]
        best = overlaps.argmax()
        labels.append(
            int(objects.labels[best]) if overlaps[best] >= .5 else NUM_CLASSES)
    assert mixed.labels.tolist() == labels
    assert (mixed.weight == 1).all()
    assert len(set(labels)) > 1


def test_nothing_is_exchanged_without_a_proposal(make, training_step):
    model = make(0)
    model.teacher.detector.test_cfg.rpn.max_per_img = 0
    expected = step_of(make(), training_step)
    assert_equal_steps(step_of(model, training_step), expected)


@pytest.fixture
def hub():
    """mmengine's, as at the start of a training."""
    name = 'test_speculative_samples'
    hub = MessageHub.get_instance(name)
    hub.runtime_info.pop('iter', None)
    yield hub
    MessageHub._instance_dict.pop(name)


def test_draws_differ_from_step_to_step_and_begin_alike(
        make, training_step, hub):
    drawn = []
    for _ in range(2):
        model = make(0)
        drawn.append([heard(model, training_step)[1][1] for _ in range(2)])
    (first, second), (again, _) = drawn
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_resumed_training_draws_as_an_uninterrupted_one(
        make, training_step, hub):
    """By the runner's iteration, whatever ran before."""
    model = make(0)
    drawn = []
    for iteration in (0, 1):
        hub.update_info('iter', iteration)
        drawn.append(heard(model, training_step)[1][1])
    resumed = make(0)
    assert torch.equal(heard(resumed, training_step)[1][1], drawn[1])
    assert not torch.equal(*drawn)


@pytest.mark.parametrize('top_k, rate', [(0, 0.), (8, .25), (99, 1.)])
def test_acceptance_rate_is_logged(make, training_step, top_k, rate):
    distill_group, _, _ = heard(make(top_k), training_step)
    # 32 RoIs an image.
    assert len(distill_group.logits) == 64
    hub = MessageHub.get_current_instance()
    assert hub.get_scalar('train/acceptance_rate').current() == rate


def test_each_backbone_runs_once(make, training_step):
    model = make(8)
    runs = count_runs(
        dict(
            student=model.backbone,
            teacher=model.teacher.detector.backbone,
            rpn=model.teacher.detector.rpn_head))
    training_step(model)
    assert runs == dict(student=1, teacher=1, rpn=1)


def test_gradient_reaches_head_and_backbone_from_the_others(
        make, training_step):
    """With all replaced, the term alone still teaches the whole student."""
    model = make(0)
    losses, _ = training_step(model)
    losses['loss_kd_cls'].backward()
    for weight in (model.roi_head.bbox_head.fc_cls.weight,
                   model.neck.lateral_convs[0].conv.weight,
                   model.backbone.layer2[0].conv1.weight):
        assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'copied', [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: ExponentialMovingAverage(model).module,
    ],
    ids=['deepcopy', 'pickle', 'ema'])
def test_copy_keeps_the_policy(make, training_step, copied):
    model = make(8)
    training_step(model)
    twin = copied(model)
    assert twin.teacher.sampling.top_k == 8
    assert not twin.teacher.is_built
    assert twin.state_dict().keys() == model.state_dict().keys()


def test_under_autocast(make, batch):
    model = make(8).train()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='tcal_det.CPUAmpOptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=0.)))
    values = []
    for half in (False, True):
        data = model.data_preprocessor(batch(), True)
        torch.manual_seed(0)
        with wrapper.optim_context(model) if half else nullcontext():
            losses = model(**data, mode='loss')
        values.append(losses['loss_kd_cls'])
    model.parse_losses(losses)[0].backward()
    exact, rounded = values
    assert rounded.dtype == torch.float32
    # A rank that bfloat16 turns round exchanges another RoI.
    assert abs(rounded - exact) < .2 * exact


@pytest.mark.parametrize('top_k, error', [
    (-1, InvalidValueError),
    (1.5, InvalidTypeError),
    ('all', InvalidTypeError),
])
def test_number_of_accepted(make, top_k, error):
    with pytest.raises(error, match='`top_k` must be'):
        make(top_k)


def test_policy_without_its_number(distiller_cfg):
    cfg = distiller_cfg()
    cfg.teacher.sampling = dict(type='SpeculativeSamples')
    with pytest.raises(
            InvalidValueError,
            match=r'`teacher.sampling` SpeculativeSamples takes \(top_k\)'):
        MODELS.build(cfg)


def test_losses_on_features_ask_for_no_samples(make):
    losses = dict(
        loss_pkd=dict(
            type='PKDLoss',
            student_channels=[16] * 5,
            teacher_channels=[16] * 5))
    with pytest.raises(
            InvalidValueError,
            match='`teacher.sampling` SpeculativeSamples .* the teacher '
            'FasterRCNN and the student FasterRCNN .* as no loss of '
            '`distill_losses` needs the logits: leave it out'):
        make(8, losses)


@pytest.mark.parametrize('student, teacher, reason', [
    ('retinanet', 'retinanet',
     'the teacher classifies priors and the student priors'),
    ('retinanet', 'faster',
     'the teacher classifies RoIs and the student priors'),
    ('cascade', 'faster', 'the student is a cascade'),
])
def test_pair_without_rois_to_exchange(tmp_path, student, teacher, reason):
    files = head_families.write_teacher(tmp_path, teacher)
    cfg = head_families.distiller_cfg(student, files, calibrator=None)
    cfg.teacher.sampling = dict(type='SpeculativeSamples', top_k=8)
    model = MODELS.build(cfg)
    with pytest.raises(InvalidValueError) as error:
        model.teacher.build(model)
    names = [
        dict(
            retinanet='RetinaNet', cascade='CascadeRCNN',
            faster='FasterRCNN')[one] for one in (teacher, student)
    ]
    assert (f'the teacher {names[0]} and the student {names[1]} cannot '
            f'exchange them, as {reason}') in str(error.value)
    assert 'leave it out' in str(error.value)
    assert '\n' not in str(error.value)


def test_head_with_synchronized_statistics(make):
    model = make(top_k=4)
    model.roi_head.bbox_head.norm = torch.nn.SyncBatchNorm(4)
    with pytest.raises(InvalidValueError, match='SyncBN.*choose another'):
        model.teacher.build(model)


def test_other_transport(distiller_cfg):
    cfg = distiller_cfg()
    cfg.teacher.update(
        transport='rois_at_boxes',
        sampling=dict(type='SpeculativeSamples', top_k=8))
    model = MODELS.build(cfg)
    with pytest.raises(
            InvalidValueError,
            match="the transport is 'rois_at_boxes', not 'same_samples'"):
        model.teacher.build(model)


def test_cascade_teaches_with_all_stages(tmp_path, training_step):
    files = head_families.write_teacher(tmp_path, 'cascade')
    cfg = head_families.distiller_cfg('faster', files)
    cfg.teacher.sampling = dict(type='SpeculativeSamples', top_k=8)
    model = MODELS.build(cfg)
    losses, _ = training_step(model)
    assert torch.isfinite(losses['loss_kd_cls'])
    rate = MessageHub.get_current_instance().get_scalar(
        'train/acceptance_rate').current()
    assert 0 < rate < 1


def test_ensemble_names_the_teacher_that_exchanges(distiller_cfg,
                                                   teacher_files,
                                                   training_step):
    """Samples that differ cannot be mixed."""
    cfg = distiller_cfg()
    one, other = teacher_files(1, 'one'), teacher_files(2, 'other')
    one['sampling'] = dict(type='SpeculativeSamples', top_k=8)
    cfg.teacher = dict(one=one, other=other)
    with pytest.raises(
            InvalidValueError,
            match="'one' and 'other' must share the same classes and samples"):
        training_step(MODELS.build(cfg))
    cfg.distill_losses = {
        f'loss_{name}': dict(type='LogitKLDivLoss', teacher=name)
        for name in ('one', 'other')
    }
    losses, _ = training_step(MODELS.build(cfg))
    assert losses['loss_one'] > 0 and losses['loss_other'] > 0


@pytest.mark.parametrize('name', [
    'mask', 'seesaw', 'sigmoid', 'sabl', 'double', 'dynamic', 'pisa', 'ohem',
    'grid', 'libra', 'cascade_rpn', 'fcos_rpn'
])
def test_every_single_stage_head(name, tmp_path):
    """Its own losses, statistics and random numbers are as without."""
    case = Case(name, tmp_path)
    case.teacher['sampling'] = dict(type='SpeculativeSamples', top_k=4)
    mixed, plain = case.make_student(), case.make_plain()
    losses = training_losses(mixed)
    state = torch.get_rng_state()
    expected = training_losses(plain)
    # Both of the same weights; BatchNorm of the teacher is in eval.
    assert torch.isfinite(losses.pop('loss_kd_cls'))
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal_steps((losses, {}), (expected, {}))
    for key, buffer in plain.named_buffers():
        assert torch.equal(mixed.get_buffer(key), buffer), key


def test_run_without_traces():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(.5))
    inputs = torch.randn(8, 4)
    first = module(inputs)
    kept = {name: one.clone() for name, one in module.named_buffers()}
    tensors = dict(module.named_buffers())
    state = torch.get_rng_state()
    with pytest.raises(KeyError), without_side_effects(module, inputs):
        second = module(2 * inputs)
        assert module[1].num_batches_tracked == 2
        raise KeyError
    for name, one in module.named_buffers():
        assert one is tensors[name] and torch.equal(one, kept[name])
    assert torch.equal(torch.get_rng_state(), state)
    # Both graphs are whole.
    (first.sum() + second.sum()).backward()
    assert module[0].weight.grad is not None
