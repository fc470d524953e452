"""What holds for each loss on boxes: it costs nothing that it need not."""
import copy

import pytest
import torch
import torch.distributed as dist
from mmcv.ops import RoIAlign, batched_nms
from mmdet.models.dense_heads import rpn_head
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from torch.nn.modules.batchnorm import _BatchNorm

from tcal_det.engine.training import leave_process_group
from tcal_det.errors import InvalidValueError
from tcal_det.models.distillers import calibrated_teacher_distiller
from tcal_det.models.distillers.terms import term_of
from tcal_det.registry import MODELS
from tests.box_term_cases import (CASES, NAME, gradients, its_own_teacher,
                                  make_student, step, student_cfg)
from tests.head_families import build, detector_cfg, write_teacher
from tests.module_runs import count_runs
from tests.processes import run_ranks

EACH = pytest.mark.parametrize('case', CASES)


def stages_of(detector):
    if not hasattr(detector, 'roi_head'):
        return [detector.bbox_head]
    heads = detector.roi_head.bbox_head
    return list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]


@EACH
def test_student_learns(case, tmp_path, batch):
    model = make_student(case, tmp_path)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    values = []
    for _ in range(12):
        loss = step(model, batch())[NAME]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert 0 < values[-1] < 0.9 * values[0]


@EACH
def test_teacher_that_is_the_student_teaches_nothing(case, tmp_path, batch):
    model = its_own_teacher(case, tmp_path)
    same = step(model, batch(), freeze_norms=True)[NAME].item()
    for name, weight in model.named_parameters():
        if 'reg' in name or 'rpn_cls' in name:
            weight.data += 0.1 * torch.randn_like(weight)
    other = step(model, batch(), freeze_norms=True)[NAME].item()
    # Its BatchNorms are folded: other roundings.
    assert abs(same) < 1e-4 * other


@pytest.mark.parametrize('with_tcal', [False, True])
@EACH
def test_off_is_the_plain_student(case, with_tcal, tmp_path, batch):
    """Losses and gradients, bit for bit."""
    family = CASES[case][0]
    plain = build(detector_cfg(family), MMDET_MODELS)
    student = make_student(
        case, tmp_path, with_tcal=with_tcal, loss_weight=0.0)
    if with_tcal:
        student.distill_losses['loss_kd_cls'].loss_weight = 0.0
    totals, logged = zip(*(model.parse_losses(step(model, batch()))
                           for model in (plain, student)))
    distilled = set(student.distill_losses)
    assert all(logged[1].pop(name) == 0 for name in distilled)
    assert list(logged[1]) == list(logged[0])
    assert all(map(torch.equal, logged[1].values(), logged[0].values()))
    mine, its = map(gradients, (plain, student), totals)
    for name, gradient in mine.items():
        other = its[name]
        assert (gradient is None) == (other is None), name
        assert gradient is None or torch.equal(gradient, other), name


@pytest.mark.parametrize('with_tcal', [False, True])
@EACH
def test_nothing_runs_twice(case, with_tcal, tmp_path, batch):
    """But the teacher's RPN, which no other loss asks for."""
    model = make_student(case, tmp_path, with_tcal=with_tcal)
    step(model, batch())
    teacher = model.teacher.detector
    asks_head = with_tcal or case != 'rpn'
    for detector, num_head, num_rpn in ((model, 1, 1), (teacher,
                                                        int(asks_head),
                                                        int(case == 'rpn'))):
        modules = [detector.backbone, detector.neck, *stages_of(detector)]
        expected = [1, 1] + [num_head] * len(stages_of(detector))
        if hasattr(detector, 'roi_head'):
            modules.append(detector.rpn_head)
            expected.append(num_rpn)
        detector.runs = count_runs(dict(enumerate(modules)))
        detector.expected = expected
    step(model, batch())
    for detector in (model, teacher):
        assert list(detector.runs.values()) == detector.expected
    assert not any(module._forward_pre_hooks for module in model.modules())


@EACH
def test_pulls_at_what_it_says(case, tmp_path, batch, monkeypatch):
    tensors = []

    def watched_term_of(*args):
        term = term_of(*args)
        value = term.value

        def watched(*of_the_step):
            tensors.extend(term.acts_on(*of_the_step))
            return value(*of_the_step)

        term.value = watched
        return term

    monkeypatch.setattr(calibrated_teacher_distiller, 'term_of',
                        watched_term_of)
    model = make_student(case, tmp_path)
    loss = step(model, batch())[NAME]
    pulls = torch.autograd.grad(loss, tensors, allow_unused=True)
    assert any(pull is not None and pull.any() for pull in pulls)


@EACH
def test_without_objects(case, tmp_path, batch):
    """A zero with a gradient, where only positives count."""
    model = make_student(case, tmp_path)
    losses = step(model, batch(num_boxes=0))
    loss = losses[NAME]
    if case in ('rpn', 'boxes_of_anchors'):
        assert loss.item() > 0
    else:
        assert loss.item() == 0
    loss.backward()
    head = model.rpn_head if case == 'rpn' else stages_of(model)[0]
    grads = [weight.grad for weight in head.parameters()]
    assert any(
        grad is not None and torch.isfinite(grad).all() for grad in grads)


@pytest.fixture
def ops_in_float32(monkeypatch):
    """A CPU has no NMS and no RoIAlign of mmcv in half precision."""

    def nms(boxes, scores, *args, **kwargs):
        return batched_nms(boxes.float(), scores.float(), *args, **kwargs)

    forward = RoIAlign.forward
    monkeypatch.setattr(
        RoIAlign, 'forward', lambda self, features, rois: forward(
            self, features.float(), rois.float()).type_as(features))
    monkeypatch.setattr(rpn_head, 'batched_nms', nms)


@EACH
def test_mixed_precision(case, tmp_path, batch, ops_in_float32):
    model = make_student(case, tmp_path)
    expected = step(model, batch())[NAME]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = step(model, batch())
    assert losses[NAME].dtype == torch.float32
    assert losses[NAME].item() == pytest.approx(expected.item(), rel=0.2)
    found = gradients(model, losses[NAME])
    assert any(one is not None for one in found.values())
    assert all(
        one is None or torch.isfinite(one).all() for one in found.values())


@EACH
def test_copy_learns_the_same(case, tmp_path, batch):
    model = make_student(case, tmp_path, with_tcal=True)
    expected = step(model, batch(), freeze_norms=True)[NAME]
    for copied in (copy.deepcopy(model),
                   ExponentialMovingAverage(model).module):
        assert not copied.teacher.is_built
        assert list(copied.state_dict()) == list(model.state_dict())
        assert torch.equal(
            step(copied, batch(), freeze_norms=True)[NAME], expected)


@EACH
def test_ensemble_must_name_a_teacher(case, tmp_path, batch):
    teachers = {
        name: write_teacher(tmp_path, CASES[case][0], name)
        for name in ('big', 'wide')
    }
    with pytest.raises(
            InvalidValueError,
            match=f"`distill_losses.{NAME}` must name one .*teacher='NAME'"):
        cfg = student_cfg(case, dict(config='x', checkpoint='x'))
        cfg.teacher = teachers
        MODELS.build(cfg)
    cfg.distill_losses[NAME].teacher = 'wide'
    named = build(cfg, MODELS)
    alone = student_cfg(case, teachers['wide'])
    alone.teacher.pop('calibrator')
    assert torch.equal(
        step(named, batch())[NAME],
        step(build(alone, MODELS), batch())[NAME])
    assert not named.teacher.teachers['big'].is_built


@pytest.mark.parametrize('case', ['ld', 'boxes_of_distributions'])
def test_levels_are_those_of_the_students_strides(case, tmp_path, batch):
    """A teacher with one more, of a smaller stride, that says nonsense.

    Its other levels are those of a teacher without it.
    """

    def two_levels(model):
        model.neck.update(start_level=2, num_outs=2)
        model.bbox_head.anchor_generator.strides = [16, 32]

    values = []
    for edit in (None, two_levels):
        teacher = write_teacher(tmp_path, 'gfl', edit=edit)
        if edit is None:
            state = torch.load(teacher['checkpoint'])['state_dict']
        else:
            content = torch.load(teacher['checkpoint'])
            # The same weights for a level of the same stride.
            for kind in ('lateral_convs', 'fpn_convs'):
                for level in (0, 1):
                    for key in ('weight', 'bias'):
                        content['state_dict'][
                            f'neck.{kind}.{level}.conv.{key}'] = state[
                                f'neck.{kind}.{level + 1}.conv.{key}']
            for key, value in state.items():
                if 'scales' in key and not key.endswith('0.scale'):
                    level = int(key.split('.')[-2])
                    content['state_dict'][
                        f'bbox_head.scales.{level - 1}.scale'] = value
                elif not key.startswith('neck') and 'scales' not in key:
                    content['state_dict'][key] = value
            torch.save(content, teacher['checkpoint'])
        cfg = student_cfg(case, teacher)
        two_levels(cfg)
        values.append(step(build(cfg, MODELS), batch())[NAME].item())
    assert values[0] > 0
    assert values[0] == pytest.approx(values[1], rel=1e-5)


# The student's own loss, and so the term, divides by a mean over the ranks.
REDUCED = ('ld', 'boxes_of_distributions')


def loss_and_gradients(model, raw, wrap=lambda model: model):
    for module in model.train().modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    data = model.data_preprocessor(copy.deepcopy(raw), True)
    wrapped = wrap(model)
    loss = wrapped(**data, mode='loss')[NAME]
    loss.backward()
    return loss.item(), [weight.grad for weight in model.parameters()]


def run_rank(rank, folder, teachers, raw):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    found = {
        case:
        loss_and_gradients(
            build(student_cfg(case, teacher), MODELS), raw[rank],
            lambda model: MMDistributedDataParallel(
                model,
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=True))
        for case, teacher in teachers.items()
    }
    torch.save(found, f'{folder}/{rank}.pt')
    leave_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_process(tmp_path, batch):
    """Of two images, of which the second has no objects."""
    raw = [
        batch(num_images=1, num_boxes=count, seed=seed)
        for seed, count in ((0, 24), (1, 0))
    ]
    both = {key: raw[0][key] + raw[1][key] for key in raw[0]}
    teachers = {
        case: write_teacher(tmp_path, family, case)
        for case, (family, _) in CASES.items()
    }
    run_ranks(run_rank, str(tmp_path), teachers, raw)
    ranks = [torch.load(f'{tmp_path}/{rank}.pt') for rank in (0, 1)]
    for case, teacher in teachers.items():
        model = build(student_cfg(case, teacher), MODELS)
        losses = []
        for one in [both] if case in REDUCED else raw:
            loss, expected = loss_and_gradients(model, one)
            losses.append(loss)
        mean = sum(rank[case][0] for rank in ranks) / 2
        assert mean > 1e-5, case
        assert mean == pytest.approx(
            sum(losses) / len(losses), rel=1e-4, abs=1e-7), case
        for rank in ranks:
            for mine, its in zip(rank[case][1], expected):
                if its is not None:
                    # Those of several backward passes are summed up.
                    torch.testing.assert_close(
                        mine, its / len(losses), rtol=1e-3, atol=1e-6)
