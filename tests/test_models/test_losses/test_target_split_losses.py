"""DKD, ATKD, AEKT: the same two parts, weighed differently."""
import math

import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import AEKTLoss, ATKDLoss, DKDLoss, LogitKLDivLoss
from tcal_det.models.losses.target_split import split_target, target_kl_div
from tests.test_models.test_losses.loss_cases import random_inputs

TEACHER = torch.tensor([[.5, .3, .2], [.1, .1, .8]], dtype=torch.float64).log()
STUDENT = torch.zeros(2, 3, dtype=torch.float64)
LABELS = torch.tensor([0, 2])
# KL of (p_target, rest) to (1/3, 2/3), and of the others to (1/2, 1/2).
TARGET = [
    .5 * math.log(.5 * 3) + .5 * math.log(.5 * 3 / 2),
    .8 * math.log(.8 * 3) + .2 * math.log(.2 * 3 / 2)
]
NON_TARGET = [.6 * math.log(.6 * 2) + .4 * math.log(.4 * 2), 0.]


def test_parts_by_hand():
    target, non_target = target_kl_div(STUDENT, TEACHER, LABELS)
    assert target.tolist() == pytest.approx(TARGET)
    assert non_target.tolist() == pytest.approx(NON_TARGET, abs=1e-12)


def test_split_keeps_the_distribution():
    _, logits, labels = random_inputs()
    binary, others = split_target(logits, labels)
    probs = logits.softmax(dim=1)
    for row, label in enumerate(labels.tolist()):
        rest = [probs[row, i].item() for i in range(5) if i != label]
        assert binary[row].softmax(0).tolist() == pytest.approx(
            [probs[row, label].item(), sum(rest)])
        assert (others[row].softmax(0) *
                sum(rest)).tolist() == pytest.approx(rest)


def test_parts_add_up_to_kd():
    student, teacher, labels = random_inputs()
    target, non_target = target_kl_div(student, teacher, labels, temperature=2)
    uncertainty = 1 - (teacher / 2).softmax(dim=1).gather(1, labels[:, None])
    total = (target + uncertainty[:, 0] * non_target).mean()
    assert LogitKLDivLoss(temperature=2)(student,
                                         teacher).item() == pytest.approx(
                                             total.item(), rel=1e-12)


def test_sure_teacher_is_finite__mdistiller_60():
    """A sum over a mask of float32 probabilities is 0, its log infinite."""
    teacher = torch.tensor([[200., 0., -200.]])
    student = torch.tensor([[-200., 0., 200.]], requires_grad=True)
    loss = DKDLoss()(student, teacher, labels=torch.tensor([0]))
    loss.backward()
    # Target: 400; non-target: 0.25 * 200.
    assert loss.item() == pytest.approx(450, rel=1e-6)
    assert torch.isfinite(student.grad).all()


def test_dkd_by_hand():
    loss = DKDLoss(alpha=2, beta=.5)(STUDENT, TEACHER, labels=LABELS)
    assert loss.item() == pytest.approx(
        (2 * sum(TARGET) + .5 * sum(NON_TARGET)) / 2)


def test_atkd_by_hand():
    # The teacher gives its label .5 in the first sample, .8 in the second.
    loss = ATKDLoss(hard_ratio=.5)(STUDENT, TEACHER, labels=LABELS)
    assert loss.item() == pytest.approx((TARGET[0] + sum(NON_TARGET)) / 2)
    everything = ATKDLoss(hard_ratio=1.)(STUDENT, TEACHER, labels=LABELS)
    assert everything.item() == pytest.approx(
        (sum(TARGET) + sum(NON_TARGET)) / 2)


def test_aekt_by_hand():
    loss = AEKTLoss(3, explicit_weight=2, implicit_weight=.5).double()
    adaptive = [2 * .5 / (.5 + 1 / 3), 2 * .8 / (.8 + 1 / 3)]
    explicit = sum(w * part for w, part in zip(adaptive, TARGET))
    assert loss(
        STUDENT, TEACHER, labels=LABELS).item() == pytest.approx(
            (2 * explicit + .5 * sum(NON_TARGET)) / 2)


def test_aekt_distils_through_its_head():
    loss = AEKTLoss(3).double()
    assert set(loss.state_dict()) == {'head.weight', 'head.bias'}
    through_identity = loss(STUDENT, TEACHER, labels=LABELS)
    through_identity.backward()
    assert loss.head.bias.grad.abs().max() > 0
    # The head alone can reach a teacher that is the same for all samples.
    with torch.no_grad():
        loss.head.weight.zero_()
        loss.head.bias.copy_(TEACHER[0])
    same = TEACHER[:1].repeat(2, 1)
    assert loss(
        STUDENT, same, labels=LABELS).item() == pytest.approx(
            0, abs=1e-12)


@pytest.mark.parametrize('arguments, name', [
    (dict(type=DKDLoss, alpha=-1), 'alpha'),
    (dict(type=DKDLoss, beta=-.1), 'beta'),
    (dict(type=DKDLoss, temperature=0), 'temperature'),
    (dict(type=ATKDLoss, hard_ratio=0), 'hard_ratio'),
    (dict(type=ATKDLoss, hard_ratio=1.5), 'hard_ratio'),
    (dict(type=AEKTLoss, cls_channels=1), 'cls_channels'),
    (dict(type=AEKTLoss, cls_channels=5,
          explicit_weight=-1), 'explicit_weight'),
    (dict(type=AEKTLoss, cls_channels=5,
          implicit_weight=-1), 'implicit_weight'),
])
def test_bad_values_are_named(arguments, name):
    arguments = dict(arguments)
    with pytest.raises(InvalidValueError, match=f'`{name}`'):
        arguments.pop('type')(**arguments)


def test_bad_cls_channels_are_named():
    with pytest.raises(InvalidTypeError, match='`cls_channels`.*float'):
        AEKTLoss(5.)
    with pytest.raises(InvalidValueError, match='`cls_channels`.* 3 .*got 5'):
        AEKTLoss(5).double()(STUDENT, TEACHER, labels=LABELS)


def test_split_stays_on_the_device():
    logits = STUDENT.detach().to('meta')
    for part in split_target(logits, LABELS.to('meta')):
        assert part.device.type == 'meta'
