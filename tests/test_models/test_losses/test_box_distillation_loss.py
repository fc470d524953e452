"""Losses between boxes, by hand and against mmdet's own."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.losses import GIoULoss

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import BoxDistillationLoss
from tcal_det.registry import MODELS

DISTANCES = ('giou', 'l1')


def boxes(count=4, seed=0, dtype=torch.float64):
    """Boxes of student and teacher that overlap more or less."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    corner, extent = 50 * draw(count, 2), 5 + 40 * draw(count, 2)
    teacher = torch.cat([corner, corner + extent], dim=1)
    student = teacher + 4 * draw(count, 4) - 2
    return student.to(dtype).requires_grad_(), teacher.to(dtype)


def giou_loss(one, other):
    """Algorithm 1 of the paper, in Python's numbers."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = one, other
    width = max(0., min(x2, u2) - max(x1, u1))
    height = max(0., min(y2, v2) - max(y1, v1))
    intersection = width * height
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
    hull = (max(x2, u2) - min(x1, u1)) * (max(y2, v2) - min(y1, v1))
    return 1 - (intersection / union - (hull - union) / hull)


def l1_loss(one, other):
    width, height = other[2] - other[0], other[3] - other[1]
    extent = [max(size, 1.) for size in (width, height, width, height)]
    return sum(abs(a - b) / size for a, b, size in zip(one, other, extent)) / 4


def test_is_registered():
    loss = MODELS.build(dict(type='tcal_det.BoxDistillationLoss'))
    assert repr(loss) == ("BoxDistillationLoss(loss_weight=1.0, "
                          "distance='giou', samples='foreground')")


def test_by_hand():
    """IoU 1/7, hull 9, union 7: GIoU = 1/7 - 2/9."""
    student = torch.tensor([[0., 0., 2., 2.]]).double()
    teacher = torch.tensor([[1., 1., 3., 3.]]).double()
    giou = BoxDistillationLoss(loss_weight=2.0)(student, teacher,
                                                torch.tensor([0.5]).double(),
                                                10.)
    assert giou.item() == pytest.approx(
        2 * (1 - 1 / 7 + 2 / 9) * 0.5 / 10, rel=1e-6)
    # Each corner is 1 away, and the box is 2 wide and high.
    assert BoxDistillationLoss('l1')(student, teacher).item() == 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_against_the_papers(count, seed):
    student, teacher = boxes(count, seed)
    for distance, formula in (('giou', giou_loss), ('l1', l1_loss)):
        expected = [
            formula(*pair) for pair in zip(student.tolist(), teacher.tolist())
        ]
        value = BoxDistillationLoss(distance)(student, teacher).item()
        assert value == pytest.approx(sum(expected) / count, rel=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_giou_is_mmdets(seed):
    student, teacher = boxes(20, seed)
    weight = torch.rand(20, generator=torch.Generator().manual_seed(seed))
    ours = BoxDistillationLoss()(student, teacher, weight.double(), 7.)
    theirs = GIoULoss()(student, teacher, weight.double(), 7.)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        *(torch.autograd.grad(one, student)[0] for one in (ours, theirs)),
        rtol=1e-6,
        atol=1e-8)


@pytest.mark.parametrize('distance', DISTANCES)
def test_zero_at_equal_boxes(distance):
    _, teacher = boxes()
    loss = BoxDistillationLoss(distance)
    assert loss(teacher.clone(), teacher).item() == pytest.approx(0, abs=1e-8)
    assert loss(teacher + 1, teacher).item() > 1e-3


@pytest.mark.parametrize('distance', DISTANCES)
def test_gradient_against_finite_differences(distance):
    student, teacher = boxes()
    weight = torch.tensor([1., .5, 2., .1]).double()
    loss = BoxDistillationLoss(distance)
    assert torch.autograd.gradcheck(
        lambda places: loss(places, teacher, weight, 3.), (student, ))


@pytest.mark.parametrize('distance', DISTANCES)
def test_box_of_the_teacher_without_area_says_nothing(distance):
    student, teacher = boxes(3)
    teacher[1, 2] = teacher[1, 0]  # no width
    teacher[2, 3] = teacher[2, 1] - 5  # upside down
    loss = BoxDistillationLoss(distance)
    value = loss(student, teacher)
    torch.testing.assert_close(value, loss(student[:1], teacher[:1]) / 3)
    gradient, = torch.autograd.grad(value, student)
    assert gradient[0].abs().sum() > 0 and (gradient[1:] == 0).all()


@pytest.mark.parametrize('distance', DISTANCES)
def test_teacher_gets_no_gradient(distance):
    student, teacher = boxes()
    teacher.requires_grad_()
    BoxDistillationLoss(distance)(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize('distance', DISTANCES)
def test_no_samples_give_zero_with_a_gradient(distance):
    student, teacher = boxes(0)
    value = BoxDistillationLoss(distance)(student, teacher, torch.zeros(0), 4.)
    value.backward()
    assert value.item() == 0 and student.grad.shape == (0, 4)


@pytest.mark.parametrize('distance', DISTANCES)
def test_half_precision_is_widened(distance):
    student, teacher = (
        one.detach().half() for one in boxes(dtype=torch.float32))
    loss = BoxDistillationLoss(distance)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))


def test_wrong_arguments():
    student, teacher = boxes()
    loss = BoxDistillationLoss()
    with pytest.raises(InvalidValueError, match=r'same shape \(N, 4\)'):
        loss(student, teacher[:2])
    with pytest.raises(InvalidValueError, match=r'same shape \(N, 4\)'):
        loss(student[:, :3], teacher[:, :3])
    with pytest.raises(InvalidValueError, match='`weight` must have shape'):
        loss(student, teacher, torch.ones(1))
    with pytest.raises(InvalidValueError, match="`distance`.*'giou'.*'iou'"):
        BoxDistillationLoss('iou')
    with pytest.raises(InvalidValueError, match="`samples`.*'balanced'"):
        BoxDistillationLoss(samples='balanced')
    with pytest.raises(InvalidTypeError, match='`loss_weight`'):
        BoxDistillationLoss(loss_weight=None)
