"""Every kind of RoI head: an untouched student, samples as it trained them."""
import copy
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tcal_det.models.head_adapters import adapter_for
from tests.roi_cases import (CASES, NUM_CLASSES, SIZES, Case, kd_loss,
                             num_hooks, stages_of, training_losses)

# mmdet itself stops there.
FAILS_WITHOUT_OBJECTS = dict(point_rend='RoI is a empty tensor')
SEESAW = ('seesaw', 'seesaw_cascade')
# Of other RPNs, which no hook touches; test_roi_labels.py has them.
RPNS = ('cascade_rpn', 'guided_anchors', 'fcos_rpn')
HEADS = [name for name in CASES if name not in RPNS]
STATEFUL = SEESAW + ('eqlv2', )


@pytest.fixture(scope='module', params=HEADS)
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def three_steps(model):
    """Losses, gradients, weights and random states of three SGD steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    record = []
    for step in range(3):
        losses = training_losses(model, seed=step)
        total = model.parse_losses(losses)[0]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for name, values in losses.items():
            if name != 'loss_kd_cls':
                values = [values] if torch.is_tensor(values) else values
                record += [(name, value.detach()) for value in values]
        record += [(f'gradient of {name}', weight.grad.clone())
                   for name, weight in model.named_parameters()
                   if weight.grad is not None]
        record.append(('random state', torch.get_rng_state()))
        record.append(('random state of numpy',
                       torch.from_numpy(np.random.get_state()[1].astype(int))))
    record += [(name, value.clone())
               for name, value in model.state_dict().items()]
    return record


def test_off_equals_the_plain_detector_bit_for_bit(case):
    if case.name == 'c4':
        pytest.skip('slow: wide, and of the bbox head that TridentNet has')
    expected = three_steps(case.make_plain())
    weightless = dict(loss_kd_cls=kd_loss(case.cfg, loss_weight=0))
    for losses in (weightless, {}):
        found = three_steps(case.make_student(losses))
        assert [name for name, _ in found] == [name for name, _ in expected]
        for (name, mine), (_, its) in zip(found, expected):
            assert torch.equal(mine, its), name


def test_teacher_of_the_same_weights_teaches_nothing(case):
    student = case.reset()
    with adapter_for(student, 'student').observe() as observation:
        losses = training_losses(student, freeze_norms=True)
    assert abs(losses['loss_kd_cls'].item()) <= 1e-6
    # Samples differ, so that a wrong order would show.
    for group in observation.groups:
        assert group.logits.std(dim=0).max() > 0.01
    # Not because it is always nothing.
    head = stages_of(student.teacher.detector)[-1]
    kept = head.fc_cls.weight.clone()
    head.fc_cls.weight.normal_(generator=torch.Generator().manual_seed(1))
    losses = training_losses(student, freeze_norms=True)
    head.fc_cls.weight.copy_(kept)
    assert losses['loss_kd_cls'].item() > 1e-3


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction='none')


def binary_cross_entropy(logits, labels):
    targets = F.one_hot(labels, NUM_CLASSES + 1)[:, :logits.shape[1]].float()
    return F.binary_cross_entropy_with_logits(
        logits, targets, reduction='none').sum(dim=1)


def test_logged_loss_is_that_of_the_recorded_samples(case):
    """Order, labels, weights and divisor, by the formula of each loss.

    EQLv2's weights are all 1 in the first step; Seesaw's loss is a formula
    of logits that the record does not have, and is asked with the raw ones.
    """
    detector = case.make_plain()
    is_cascade = len(stages_of(detector)) > 1
    untouched = [copy.deepcopy(head.loss_cls) for head in stages_of(detector)]
    raw = {}
    for stage, head in enumerate(stages_of(detector)):
        head.register_forward_hook(lambda _, args, output, stage=stage: raw.
                                   update({stage: output[0]}))
    with adapter_for(detector, 'student').observe() as observation:
        losses = training_losses(detector)
    groups = observation.groups
    assert [group.stage for group in groups] == list(range(len(untouched)))
    for group, loss_cls in zip(groups, untouched):
        assert set(group.image_index.tolist()) == set(range(len(SIZES)))
        assert group.location.shape == (len(group.logits), 5)
        if case.name in SEESAW:
            expected = loss_cls(
                raw[group.stage],
                group.labels,
                group.weight,
                avg_factor=group.avg_factor)
        else:
            is_sigmoid = getattr(loss_cls, 'use_sigmoid', False)
            by_sample = (binary_cross_entropy if is_sigmoid else
                         cross_entropy)(group.logits, group.labels)
            total = (by_sample * group.weight).sum() / group.avg_factor
            expected = dict(loss_cls=loss_cls.loss_weight * total)
        prefix = f's{group.stage}.' if is_cascade else ''
        for name, value in expected.items():
            torch.testing.assert_close(
                group.group_weight * value,
                losses[prefix + name],
                rtol=1e-5,
                atol=1e-6)
    if is_cascade:
        assert [group.group_weight
                for group in groups] == case.cfg.roi_head.stage_loss_weights


def test_no_object_in_the_batch(case):
    student = case.reset()
    if case.name in FAILS_WITHOUT_OBJECTS:
        for model in (case.make_plain(), student):
            with pytest.raises(
                    AssertionError, match=FAILS_WITHOUT_OBJECTS[case.name]):
                training_losses(model, num_boxes=0)
        return
    losses = training_losses(student, num_boxes=0)
    assert losses['loss_kd_cls'].isfinite()
    student.parse_losses(losses)[0].backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def count_calls(modules):
    """Counts of calls, one for each module, as they grow."""
    calls = [0] * len(modules)

    def note(index):

        def hook(*_):
            calls[index] += 1

        return hook

    handles = [
        module.register_forward_hook(note(index))
        for index, module in enumerate(modules)
    ]
    return calls, handles


def test_each_head_runs_once_and_nothing_else_of_the_teacher(case):
    student, teacher = case.reset(), case.student.teacher.detector
    plain = case.make_plain()
    counted = [(plain, stages_of(plain)), (student, stages_of(student)),
               (teacher, [teacher.backbone, *stages_of(teacher)])]
    counts = [count_calls(modules) for _, modules in counted]
    forbidden = mock.Mock(side_effect=AssertionError)
    roi_head = teacher.roi_head
    targets = [(teacher.rpn_head, name)
               for name in ('forward', 'loss', 'predict', 'predict_by_feat',
                            'loss_and_predict')]
    targets += [(roi_head, name) for name in ('loss', 'predict', 'bbox_loss')]
    targets += [(head.loss_cls, 'forward') for head in stages_of(teacher)]
    for parts, method in ((roi_head.bbox_assigner, 'assign'),
                          (roi_head.bbox_sampler, 'sample')):
        parts = parts if isinstance(parts, list) else [parts]
        targets += [(part, method) for part in parts]
    patches = [mock.patch.object(*target, forbidden) for target in targets]
    for patch in patches:
        patch.start()
    try:
        training_losses(student)
    finally:
        for patch in patches:
            patch.stop()
        for _, handles in counts[1:]:
            for handle in handles:
                handle.remove()
    training_losses(plain)
    (in_plain, _), (in_student, _), (in_teacher, _) = counts
    # OHEM and PISA run the head themselves, to choose samples.
    assert in_student == in_plain
    assert case.name in ('ohem', 'pisa') or set(in_student) == {1}
    assert set(in_teacher) == {1}


class LossFails(Exception):
    """Raised on purpose inside the student's loss."""


def test_hooks_are_gone_also_after_an_exception(case):
    student = case.reset()
    training_losses(student)
    assert num_hooks(student) == 0
    loss_cls = stages_of(student)[-1].loss_cls
    with mock.patch.object(
            loss_cls, 'forward',
            side_effect=LossFails), pytest.raises(LossFails):
        training_losses(student)
    assert num_hooks(student) == 0


def test_losses_with_a_state_take_one_step_at_a_time(case):
    if case.name not in STATEFUL:
        pytest.skip('its loss has no state')
    student, plain = case.reset(), case.make_plain()
    with adapter_for(student, 'student').observe() as observation:
        training_losses(student)
    training_losses(plain)
    for mine, its, group in zip(
            stages_of(student), stages_of(plain), observation.groups):
        buffers = dict(mine.loss_cls.named_buffers())
        assert buffers
        for name, value in its.loss_cls.named_buffers():
            assert torch.equal(buffers[name], value), name
        if case.name in SEESAW:
            counts = group.labels.bincount(minlength=NUM_CLASSES + 1)
            assert buffers['cum_samples'].tolist() == counts.tolist()
        else:
            assert buffers['neg_grad'].sum() > 0
