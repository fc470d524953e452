"""What must hold for every logit loss, whatever its formula."""
import ast
import re

import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import AEKTLoss, LogitLoss
from tcal_det.registry import MODELS
from tests.test_models.test_losses.loss_cases import (LABELLED, LOGIT_SPACE,
                                                      LOSSES, SIGMOID, goal,
                                                      make_loss, random_inputs)

ALL = sorted(LOSSES)
IMAGE_INDEX = torch.tensor([0, 0, 0, 1, 1, 2])


def gradient(loss, tensor):
    return torch.autograd.grad(loss, tensor)[0]


@pytest.mark.parametrize('name', ALL)
def test_is_registered_and_declares_its_needs(name):
    loss = make_loss(name)
    assert isinstance(loss, LogitLoss)
    assert MODELS.get(f'tcal_det.{type(loss).__name__}') is type(loss)
    assert loss.head_activation == ('sigmoid'
                                    if name in SIGMOID else 'softmax')
    assert loss.needs_labels == (name in LABELLED)
    assert f'loss_weight={loss.loss_weight}' in repr(loss)


@pytest.mark.parametrize('name', ALL)
def test_positive_scalar_and_zero_at_equal_logits(name):
    student, teacher, labels = random_inputs()
    loss = make_loss(name)
    value = loss(student, teacher, labels=labels)
    assert value.shape == () and value.item() > 1e-3
    reached = goal(name, teacher, labels).requires_grad_()
    same = loss(reached, teacher, labels=labels)
    assert same.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('classes', [5, 2])
@pytest.mark.parametrize('name', ALL)
def test_gradient_against_finite_differences(name, classes, weighted):
    student, teacher, labels = random_inputs(4, classes)
    kwargs = dict(labels=labels)
    if weighted:
        kwargs.update(
            weight=torch.tensor([1., .5, 0., 2.]).double(),
            avg_factor=3.,
            image_index=torch.tensor([0., 1., 0., 0.]))
    loss = make_loss(name, classes)
    assert torch.autograd.gradcheck(
        lambda logits: loss(logits, teacher, **kwargs), (student, ))


@pytest.mark.parametrize('name', sorted(set(ALL) - SIGMOID - LOGIT_SPACE))
def test_offset_of_a_sample_does_not_matter(name):
    student, teacher, labels = random_inputs()
    offset = torch.arange(6.)[:, None].double()
    loss = make_loss(name)
    if name == 'aekt':
        # Its head must keep offsets offsets, as the identity does.
        assert torch.equal(loss.head.weight, torch.eye(5).double())
    expected = loss(student, teacher, labels=labels)
    assert loss(
        student + offset, teacher - 3 * offset,
        labels=labels).item() == pytest.approx(
            expected.item(), rel=1e-9)


@pytest.mark.parametrize('name', ALL)
def test_order_of_samples_does_not_matter(name):
    student, teacher, labels = random_inputs()
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    loss = make_loss(name)
    assert loss(
        student[order],
        teacher[order],
        labels=labels[order],
        image_index=IMAGE_INDEX[order]).item() == pytest.approx(
            loss(student, teacher, labels=labels,
                 image_index=IMAGE_INDEX).item(),
            rel=1e-12)


@pytest.mark.parametrize('with_labels', [True, False])
@pytest.mark.parametrize('name', ALL)
def test_no_samples_give_zero_with_a_gradient(name, with_labels):
    student, teacher, labels = random_inputs(samples=0)
    loss = make_loss(name)
    value = loss(
        student,
        teacher,
        labels=labels if with_labels else None,
        weight=torch.zeros(0) if with_labels else None,
        avg_factor=1. if with_labels else None,
        image_index=labels,
        num_classes=4)
    value.backward()
    assert value.item() == 0 and student.grad.shape == (0, 5)
    # DDP without find_unused_parameters waits for a gradient of each.
    for parameter in loss.parameters():
        assert parameter.grad is not None and (parameter.grad == 0).all()


@pytest.mark.parametrize('name', ALL)
def test_one_sample(name):
    student, teacher, labels = random_inputs(samples=1)
    value = make_loss(name)(student, teacher, labels=labels)
    grad = gradient(value, student)
    assert torch.isfinite(value) and torch.isfinite(grad).all()
    # One sample has no pairs.
    assert (value.item() > 1e-3) == (name not in LOGIT_SPACE)


@pytest.mark.parametrize('classes', [2, 5])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ALL)
def test_extreme_logits_in_half_precision(name, dtype, classes):
    generator = torch.Generator().manual_seed(1)
    student, teacher = (
        (60 * torch.randint(2, (8, classes), generator=generator) * 2 -
         60).to(dtype) for _ in range(2))
    # The opposite of the teacher, the teacher itself, and no preference.
    student[0], student[1], student[2], teacher[3] = -teacher[0], teacher[
        1], 0, 0
    labels = torch.arange(8) % classes
    student.requires_grad_()
    loss = LOSSES[name](classes)
    value = loss(student, teacher, labels=labels)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert torch.isfinite(gradient(value, student)).all()


@pytest.mark.parametrize('name', ALL)
def test_float32_under_autocast(name):
    student, teacher, labels = random_inputs(samples=16)
    expected = make_loss(name)(student, teacher, labels=labels).item()
    loss = LOSSES[name](5)
    student, teacher = student.detach().float(), teacher.float()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        # The region does round matrix products.
        assert (student @ student.T).dtype == torch.bfloat16
        value = loss(student, teacher, labels=labels)
    assert value.dtype == torch.float32
    # bfloat16 would be off by 1e-2.
    assert value.item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize('name', ALL)
def test_no_gradient_into_the_teacher_and_inputs_unchanged(name):
    student, teacher, labels = random_inputs()
    teacher.requires_grad_()
    before = student.detach().clone(), teacher.detach().clone()
    make_loss(name)(student, teacher, labels=labels).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@pytest.mark.parametrize('name', ALL)
def test_loss_weight_weight_and_avg_factor_scale(name):
    student, teacher, labels = random_inputs()
    loss = make_loss(name)
    value = loss(student, teacher, labels=labels).item()

    def other(loss=loss, **kwargs):
        return loss(student, teacher, labels=labels, **kwargs).item()

    ones = torch.ones(6).double()
    assert other(weight=ones) == pytest.approx(value, rel=1e-9)
    assert other(weight=3 * ones) == pytest.approx(3 * value, rel=1e-9)
    assert other(avg_factor=6) == pytest.approx(value, rel=1e-9)
    assert other(avg_factor=12) == pytest.approx(value / 2, rel=1e-9)
    assert other(avg_factor=torch.tensor(12.)) == pytest.approx(
        value / 2, rel=1e-6)
    assert other(make_loss(name, loss_weight=.25)) == pytest.approx(
        value / 4, rel=1e-9)
    assert other(make_loss(name, loss_weight=0)) == 0
    assert other(weight=0 * ones) == 0


@pytest.mark.parametrize('name', ALL)
def test_sample_of_weight_zero_has_no_say(name):
    student, teacher, labels = random_inputs()
    weight = torch.tensor([1., 0., 2., 1., .5, 1.]).double()
    loss = make_loss(name)
    value = loss(student, teacher, labels=labels, weight=weight)
    assert gradient(value, student)[1].abs().max() == 0
    moved = student.detach().clone()
    moved[1] = torch.tensor([9., -9., 0., 4., 2.])
    assert loss(
        moved, teacher, labels=labels, weight=weight).item() == pytest.approx(
            value.item(), rel=1e-12)
    # And the others do have one.
    assert loss(
        student, teacher, labels=labels).item() != pytest.approx(
            value.item(), rel=1e-3)


@pytest.mark.parametrize('name', ALL)
def test_descent_brings_student_to_teacher(name):
    student, teacher, labels = random_inputs(scale=1.)
    loss = make_loss(name)
    optimizer = torch.optim.Adam([student], lr=.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(student, teacher, labels=labels)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < .2 * values[0]


@pytest.mark.parametrize('name', ALL)
def test_misfit_inputs_are_named(name):
    student, teacher, labels = random_inputs()
    loss = make_loss(name)
    with pytest.raises(InvalidValueError, match='`student_logits`'):
        loss(student, teacher[:, :4], labels=labels)
    with pytest.raises(InvalidValueError, match=r'`weight`.*\(6, 1\)'):
        loss(student, teacher, labels=labels, weight=torch.ones(6, 1))
    with pytest.raises(InvalidValueError, match=r'`labels`.*\(5,\)'):
        loss(student, teacher, labels=labels[:5])
    if loss.needs_labels:
        with pytest.raises(InvalidValueError, match='needs `labels`'):
            loss(student, teacher)
    with pytest.raises(InvalidValueError, match=r'`image_index`.*\(5,\)'):
        loss(student, teacher, labels=labels, image_index=labels[:5])


@pytest.mark.parametrize('name', ALL)
def test_bad_loss_weight_is_named(name):
    with pytest.raises(InvalidValueError, match='`loss_weight`.*-1'):
        make_loss(name, loss_weight=-1)
    with pytest.raises(InvalidTypeError, match='`loss_weight`.*str'):
        make_loss(name, loss_weight='1')


@pytest.mark.parametrize('name', sorted(LABELLED))
def test_one_sample_needs_its_label(name):
    student, teacher, _ = random_inputs(1)
    with pytest.raises(InvalidValueError, match='needs `labels`'):
        make_loss(name)(student, teacher)


@pytest.mark.parametrize(
    'loss', sorted({type(make_loss(name))
                    for name in ALL}, key=str))
def test_defaults_are_the_documented_ones(loss):
    attributes = vars(loss(5) if loss is AEKTLoss else loss())
    arguments = loss.__doc__.split('Args:')[1].split('Reference')[0]
    documented = {}
    for argument in re.split(r'\n {8}(?=\w)', arguments)[1:]:
        name = argument.split(' ', 1)[0]
        value = re.search(r"Defaults\s+to\s+(\(.*?\)|'\w+'|[\d.]*\d)",
                          argument)
        if value:
            documented[name] = ast.literal_eval(value[1])
    assert documented['loss_weight'] == 1
    assert documented['samples'] == 'all'
    assert documented == {name: attributes[name] for name in documented}


def test_repr_names_the_arguments():
    assert repr(make_loss('kd')) == (
        "LogitKLDivLoss(loss_weight=1.0, samples='all', temperature=4.0)")
