"""Which samples count, in every loss: it is a weight, made beforehand."""
import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import LogitBinaryKLDivLoss
from tests.test_models.test_losses.loss_cases import (LOSSES, SIGMOID,
                                                      make_loss, random_inputs)

ALL = sorted(LOSSES)
MODES = ['foreground', 'balanced', 'teacher']
# Of 5 columns; for a softmax head the last is background.
LABELS = torch.tensor([0, 4, 2, 5, 2, 1])
WEIGHT = torch.tensor([1., 2., .5, 1., 3., 0.]).double()
IMAGE_INDEX = torch.tensor([0, 0, 0, 1, 1, 1])


def labels_of(name):
    # Label 5 is background of a sigmoid head; a softmax head has 4.
    return LABELS if name in SIGMOID else LABELS.clamp(max=4)


def weight_by_hand(mode, labels, teacher, num_classes, is_sigmoid, weight):
    """In numpy, without the code under test."""
    labels, weight = labels.numpy(), weight.numpy()
    if mode == 'teacher':
        probs = expit(teacher) if is_sigmoid else softmax(teacher, axis=1)
        return weight * np.asarray(probs)[:, :num_classes].max(axis=1)
    is_foreground = labels < num_classes
    if mode == 'foreground':
        return np.where(is_foreground, weight, 0)
    half = weight.sum() / 2
    return np.where(is_foreground, weight * half / weight[is_foreground].sum(),
                    weight * half / weight[~is_foreground].sum())


@pytest.mark.parametrize('num_classes', [None, 2])
@pytest.mark.parametrize('weight', [None, WEIGHT], ids=['plain', 'weighted'])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', ALL)
def test_is_the_loss_with_that_weight(name, mode, weight, num_classes):
    student, teacher, _ = random_inputs()
    labels = labels_of(name)
    is_sigmoid = name in SIGMOID
    columns = num_classes or (5 if is_sigmoid else 4)
    by_hand = torch.from_numpy(
        weight_by_hand(mode, labels, teacher, columns, is_sigmoid,
                       torch.ones(6) if weight is None else weight))
    shared = dict(labels=labels, avg_factor=3., image_index=IMAGE_INDEX)
    expected = make_loss(name)(student, teacher, weight=by_hand, **shared)
    loss = make_loss(name, samples=mode)
    value = loss(
        student, teacher, weight=weight, num_classes=num_classes, **shared)
    # Weights made from labels alone are float32.
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = [
        torch.autograd.grad(one, student)[0] for one in (value, expected)
    ]
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-8)
    plain = make_loss(name)(student, teacher, weight=weight, **shared)
    assert value.item() != pytest.approx(plain.item(), rel=1e-3)


@pytest.mark.parametrize('mode', ['foreground', 'balanced'])
@pytest.mark.parametrize('name', ALL)
def test_labels_that_are_missing(name, mode):
    student, teacher, _ = random_inputs()
    loss = make_loss(name, samples=mode)
    remedy = ('assigns one class per sample'
              if loss.needs_labels else "samples='all' or samples='teacher'")
    with pytest.raises(
            InvalidValueError,
            match=rf'{type(loss).__name__}.*needs `labels`.*\(6,\).*{remedy}'):
        loss(student, teacher)
    # Without samples there is nothing to tell apart.
    student, teacher, _ = random_inputs(samples=0)
    assert loss(student, teacher).item() == 0


@pytest.mark.parametrize('mode', ['all', 'teacher'])
def test_labels_that_are_not_needed(mode):
    student, teacher, _ = random_inputs()
    loss = LogitBinaryKLDivLoss(samples=mode)
    value = loss(student, teacher)
    assert value.item() > 0
    assert value.item() == loss(student, teacher, labels=LABELS).item()


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', ALL)
def test_no_samples(name, mode):
    student, teacher, labels = random_inputs(samples=0)
    value = make_loss(
        name, samples=mode)(
            student, teacher, labels=labels, weight=torch.zeros(0))
    value.backward()
    assert value.item() == 0 and student.grad.shape == (0, 5)


@pytest.mark.parametrize('name', ALL)
def test_weight_of_the_teacher_has_no_gradient(name):
    student, teacher, labels = random_inputs()
    teacher.requires_grad_()
    loss = make_loss(name, samples='teacher')
    assert torch.autograd.gradcheck(
        lambda logits: loss(logits, teacher, labels=labels), (student, ))
    loss(student, teacher, labels=labels).backward()
    assert teacher.grad is None


@pytest.mark.parametrize('name', ALL)
def test_unknown_samples_are_named(name):
    with pytest.raises(
            InvalidValueError,
            match=r"`samples` must be one of \('all', 'foreground', "
            r"'balanced', 'teacher'\), but got 'uniform'"):
        make_loss(name, samples='uniform')


@pytest.mark.parametrize('samples', [None, 1, ['all']])
def test_samples_of_another_type(samples):
    with pytest.raises(InvalidValueError, match='`samples`'):
        LogitBinaryKLDivLoss(samples=samples)


def test_number_of_classes_that_does_not_fit():
    student, teacher, _ = random_inputs()
    loss = LogitBinaryKLDivLoss(samples='teacher')
    with pytest.raises(InvalidValueError, match=r'`num_classes`.*\[1, 5\].*6'):
        loss(student, teacher, num_classes=6)
    with pytest.raises(InvalidTypeError, match='`num_classes`.*2.5'):
        loss(student, teacher, num_classes=2.5)
