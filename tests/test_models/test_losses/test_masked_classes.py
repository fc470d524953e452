"""Classes whose logit is -inf: the loss of the classes that are left.

A head masks classes that do not exist in an image or data set this way.
"""
import math

import pytest
import torch
from scipy.special import expit, rel_entr

from tcal_det.models.calibrators import (MaxLogitScaling, PlattScaling,
                                         TemperatureScaling, VectorScaling)
from tcal_det.models.losses import CKDLoss
from tcal_det.models.losses.correlation import soft_rank
from tcal_det.models.losses.target_split import target_kl_div
from tests.test_models.test_losses.loss_cases import (CENTRED, LABELLED,
                                                      LOGIT_SPACE, LOSSES,
                                                      SIGMOID, make_loss,
                                                      random_inputs)

ALL = sorted(LOSSES)
# Count all C columns: the number of classes is in their formula.
COUNTING = {'dist', 'cmkd', 'mlld', 'mlld_masked'}
INF = math.inf


def value_and_gradient(name, student, teacher, labels, **kwargs):
    student = student.detach().clone().requires_grad_()
    loss = make_loss(name, student.shape[1])
    value = loss(student, teacher, labels=labels, **kwargs)
    value.backward()
    for parameter in loss.parameters():
        assert parameter.grad.isfinite().all()
    return value.item(), student.grad


def masked(logits, column):
    logits = logits.detach().clone()
    logits[:, column] = -INF
    return logits


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('name', ALL)
def test_masked_on_both_sides_is_finite(name, weighted, dtype):
    student, teacher, labels = random_inputs()
    # The target of some samples among them.
    assert (labels == 1).any() and (labels != 1).any()
    student, teacher = (
        masked(logits, 1).to(dtype) for logits in (student, teacher))
    student.requires_grad_()
    loss = LOSSES[name](5)
    weight = torch.tensor([1., 0., 2., 1., .5, 1.]) if weighted else None
    value = loss(student, teacher, labels=labels, weight=weight)
    value.backward()
    assert value.isfinite() and value.item() > 1e-3
    assert student.grad.isfinite().all()
    assert (student.grad[:, 1] == 0).all()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize('name', sorted(set(ALL) - COUNTING))
def test_masked_on_both_sides_is_the_loss_of_the_others(name):
    student, teacher, labels = random_inputs()
    # The fifth class is nobody's target.
    labels = labels % 4
    value, gradient = value_and_gradient(name, masked(student, 4),
                                         masked(teacher, 4), labels)
    expected, expected_gradient = value_and_gradient(name, student[:, :4],
                                                     teacher[:, :4], labels)
    assert value == pytest.approx(expected, rel=1e-12)
    assert torch.allclose(gradient[:, :4], expected_gradient, rtol=1e-10)


@pytest.mark.parametrize('name', sorted(set(ALL) - LOGIT_SPACE - CENTRED))
def test_masked_is_the_limit_of_ever_smaller_logits(name):
    student, teacher, labels = random_inputs()
    labels = labels % 4
    near, far = (
        value_and_gradient(
            name,
            *(torch.cat(
                [logits.detach()[:, :4],
                 torch.full((6, 1), low).double()], 1)
              for logits in (student, teacher)), labels)
        for low in (-400., -INF))
    assert far[0] == pytest.approx(near[0], rel=1e-9)
    assert torch.allclose(far[1], near[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('name', sorted(set(ALL) - LOGIT_SPACE))
def test_masked_by_the_teacher_alone_is_finite(name):
    student, teacher, labels = random_inputs()
    value, gradient = value_and_gradient(name, student, masked(teacher, 1),
                                         labels)
    assert math.isfinite(value) and value > 0
    assert gradient.isfinite().all()


def test_kl_divergence_against_scipy():
    student, teacher, labels = random_inputs()
    student, teacher = student.detach(), masked(teacher, 2)
    expected = rel_entr(teacher.softmax(1), student.softmax(1)).sum(1).mean()
    value, _ = value_and_gradient('tcal', student, teacher, labels)
    assert value == pytest.approx(float(expected), rel=1e-12)

    s, t = expit(student.numpy()), expit(teacher.numpy())
    expected = (rel_entr(t, s) + rel_entr(1 - t, 1 - s)).sum(axis=1).mean()
    value, _ = value_and_gradient('tcal_sigmoid', student, teacher, labels)
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    'name',
    ['tcal', 'kd', 'wttm', 'tcal_sigmoid', 'qfl', 'ckd', 'ls', 'ats', 'isats'])
def test_masked_by_the_student_alone_is_infinite(name):
    """A divergence from what the student declares impossible."""
    student, teacher, labels = random_inputs()
    value, gradient = value_and_gradient(name, masked(student, 1), teacher,
                                         labels)
    assert value == INF
    assert gradient.isfinite().all()


@pytest.mark.parametrize('name', ALL)
def test_infinite_loss_of_a_sample_without_weight(name):
    student, teacher, labels = random_inputs()
    weight = torch.tensor([1., 0., 2., 1., .5, 1.]).double()
    student = student.detach()
    expected, _ = value_and_gradient(
        name, student, teacher, labels, weight=weight)
    student[1, 1] = -INF
    value, gradient = value_and_gradient(
        name, student, teacher, labels, weight=weight)
    assert value == pytest.approx(expected, rel=1e-12)
    assert (gradient[1] == 0).all() and gradient.isfinite().all()


@pytest.mark.parametrize('name', sorted(LABELLED))
def test_all_but_the_target_masked(name):
    """No distribution of the others is left to differ in."""
    student, teacher, _ = random_inputs()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    alone = torch.full((6, 5), -INF).double()
    alone[torch.arange(6), labels] = 1.
    value, gradient = value_and_gradient(name, alone + 1, alone, labels)
    assert value == 0 and gradient.isfinite().all()
    value, gradient = value_and_gradient(name, student, alone, labels)
    assert math.isfinite(value) and gradient.isfinite().all()
    target, non_target = target_kl_div(student, alone, labels)
    expected = -student.detach().log_softmax(1)[torch.arange(6), labels]
    assert torch.allclose(target.detach(), expected)
    assert (non_target == 0).all()


@pytest.mark.parametrize('name', sorted(SIGMOID))
def test_certain_presence(name):
    student, teacher, labels = random_inputs()
    student, teacher = -masked(student, 1), -masked(teacher, 1)
    value, gradient = value_and_gradient(name, student, teacher, labels)
    assert math.isfinite(value) and gradient.isfinite().all()


@pytest.mark.parametrize('name', sorted(set(ALL) - LOGIT_SPACE))
@pytest.mark.parametrize('extreme', [1e308, 1e30])
def test_extreme_logits_are_never_nan(name, extreme):
    """Huge where float64 still has numbers for them."""
    sign = torch.tensor([[1., -1., 1., -1., 1.], [-1., 1., 1., -1., -1.],
                         [1., 1., 1., 1., 1.]]).double()
    labels = torch.tensor([0, 1, 2])
    same, gradient = value_and_gradient(name, extreme * sign, extreme * sign,
                                        labels)
    assert math.isfinite(same) and gradient.isfinite().all()
    value, gradient = value_and_gradient(name, extreme * sign,
                                         extreme * sign.flip(0), labels)
    assert not math.isnan(value) and value > 0
    assert gradient.isfinite().all()


def test_ckd_masks_by_hand():
    # Differences to the teacher (0, 0), (3, 4): a distance of 5.
    teacher = torch.tensor([[1., 2., -INF], [0., 1., -INF]])
    student = teacher + torch.tensor([[0., 0., 0.], [3., 4., 0.]])
    assert CKDLoss()(student, teacher).item() == pytest.approx(5)
    student[1, 2] = 0
    assert CKDLoss()(student, teacher).item() == INF
    weight = torch.tensor([1., 0.])
    assert CKDLoss()(student, teacher, weight=weight).item() == 0
    # Alone in its image a sample has no pair.
    assert CKDLoss()(
        student, teacher, image_index=torch.tensor([0, 1])).item() == 0


def test_masked_classes_share_the_lowest_rank():
    ranks = soft_rank(torch.tensor([[3., -INF, 7., -INF]]), .01)
    assert ranks.tolist() == [[3., 1.5, 4., 1.5]]


@pytest.mark.parametrize(
    'calibrator', [
        TemperatureScaling(temperature=2.0),
        PlattScaling(scale=0.5, bias=3.0),
        VectorScaling(scale=[0.5, 0.7, 0.9], bias=[1.0, 2.0, -3.0]),
        MaxLogitScaling(ratio=3.0),
    ],
    ids=str)
def test_calibrators_keep_masked_classes(calibrator):
    logits = torch.tensor([[1., -INF, 2.]])
    calibrated = calibrator(logits)
    assert torch.equal(calibrated == -INF, logits == -INF)
    assert calibrated[:, ::2].isfinite().all()
