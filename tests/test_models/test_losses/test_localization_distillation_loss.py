"""LD against the paper, by hand, and against mmdet's own loss."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.losses import KnowledgeDistillationKLDivLoss

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.models.losses import LocalizationDistillationLoss, edge_kl_div
from tcal_det.registry import MODELS

BINS = 17


def edges(samples=3, bins=BINS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        3 * torch.randn(samples, 4, bins, generator=generator, dtype=dtype)
        for _ in range(2))
    return student.requires_grad_(), teacher


def of_the_paper(student, teacher, temperature):
    """Section 3.1, entry by entry: cross-entropy less entropy."""
    total = []
    for own_box, other_box in zip(student.tolist(), teacher.tolist()):
        of_edges = []
        for own, other in zip(own_box, other_box):
            p, q = (
                torch.tensor(row, dtype=torch.float64).div(temperature).exp()
                for row in (other, own))
            p, q = p / p.sum(), q / q.sum()
            of_edges.append(
                sum(a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q)))
        total.append(temperature**2 * sum(of_edges) / 4)
    return torch.stack(total)


def test_is_registered():
    loss = MODELS.build(dict(type='tcal_det.LocalizationDistillationLoss'))
    assert repr(loss) == (
        'LocalizationDistillationLoss(loss_weight=1.0, temperature=10.0)')


def test_by_hand():
    """KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 log 3 - log 2, of one edge in 4."""
    student = torch.zeros(1, 4, 2, dtype=torch.float64)
    teacher = student.clone()
    teacher[0, 2] = torch.tensor([3., 1.]).double().log()
    expected = (0.75 * torch.tensor(3.).double().log() -
                torch.tensor(2.).double().log()) / 4
    torch.testing.assert_close(edge_kl_div(student, teacher)[0], expected)
    # Twice the logits, twice the temperature, T^2 = 4.
    loss = LocalizationDistillationLoss(temperature=2.0, loss_weight=0.5)
    value = loss(student, 2 * teacher,
                 torch.tensor([3.]).double(), torch.tensor(6.))
    torch.testing.assert_close(value, 0.5 * 4 * expected * 3 / 6)


@pytest.mark.parametrize('temperature', [1.0, 10.0])
def test_against_the_paper(temperature):
    student, teacher = edges()
    torch.testing.assert_close(
        edge_kl_div(student, teacher, temperature),
        of_the_paper(student, teacher, temperature))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5), st.integers(2, 20), st.sampled_from([1, 4, 10]),
    st.integers(0, 10**6))
def test_is_mmdets_times_the_number_of_bins(samples, bins, temperature, seed):
    """Which takes weight and divisor per edge, and averages over the bins."""
    student, teacher = edges(samples, bins, seed)
    weight = torch.rand(
        samples, generator=torch.Generator().manual_seed(seed)).double()
    theirs = KnowledgeDistillationKLDivLoss(
        loss_weight=0.25, T=temperature)(
            student.flatten(0, 1),
            teacher.flatten(0, 1),
            weight=weight[:, None].expand(-1, 4).flatten(),
            avg_factor=4.0)
    ours = LocalizationDistillationLoss(
        temperature, loss_weight=0.25)(student, teacher, weight, 1.0)
    torch.testing.assert_close(ours, bins * theirs)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, student)[0]
          for loss in (ours, bins * theirs)),
        rtol=1e-7,
        atol=1e-9)


def test_zero_at_equal_distributions():
    student, teacher = edges()
    offset = torch.rand(3, 4, 1).double()
    loss = LocalizationDistillationLoss()
    value = loss((teacher + offset).requires_grad_(), teacher)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert loss(student, teacher).item() > 0.1


def test_gradient_against_finite_differences():
    student, teacher = edges(2, 4)
    weight = torch.tensor([0.5, 2.]).double()
    loss = LocalizationDistillationLoss(temperature=3.0)
    assert torch.autograd.gradcheck(
        lambda logits: loss(logits, teacher, weight, 1.5), (student, ))


def test_teacher_gets_no_gradient():
    student, teacher = edges()
    teacher.requires_grad_()
    LocalizationDistillationLoss()(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_no_samples_give_zero_with_a_gradient():
    student, teacher = edges(0)
    value = LocalizationDistillationLoss()(student, teacher, torch.zeros(0),
                                           torch.tensor(1.))
    value.backward()
    assert value.item() == 0 and student.grad.shape == (0, 4, BINS)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    student, teacher = edges(dtype=torch.float32)
    student, teacher = (one.detach().to(dtype) for one in (student, teacher))
    loss = LocalizationDistillationLoss()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))


@pytest.mark.parametrize('wrong', [(3, 4, 16), (2, 4, 17), (3, 68)])
def test_wrong_shapes(wrong):
    student, _ = edges()
    with pytest.raises(InvalidValueError, match=r'shape \(N, 4, n \+ 1\)'):
        LocalizationDistillationLoss()(student, torch.zeros(wrong))


def test_wrong_arguments():
    student, teacher = edges()
    with pytest.raises(InvalidValueError, match='`weight` must have shape'):
        LocalizationDistillationLoss()(student, teacher, torch.ones(3, 1))
    with pytest.raises(InvalidValueError, match='`temperature`'):
        LocalizationDistillationLoss(temperature=0)
    with pytest.raises(InvalidTypeError, match='`loss_weight`'):
        LocalizationDistillationLoss(loss_weight='1')
