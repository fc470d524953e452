"""Sigmoid losses keep two tensors and go through the samples in chunks."""
import pytest
import torch

from tcal_det.models.losses import class_sum as module
from tcal_det.models.losses.class_sum import class_sum
from tests.live_memory import LiveMemory
from tests.test_models.test_losses.loss_cases import (SIGMOID, make_loss,
                                                      random_inputs)

NAMES = sorted(SIGMOID)
CHUNK = 1024


def value_and_gradient(name, student, teacher, **kwargs):
    student = student.detach().requires_grad_()
    value = make_loss(name)(student, teacher, **kwargs)
    value.backward()
    return value.item(), student.grad


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('name', NAMES)
def test_keeps_the_two_inputs_for_backward(name, dtype):
    student, teacher, _ = random_inputs(samples=7)
    student = student.detach().to(dtype).requires_grad_()
    teacher = teacher.to(dtype)
    saved = []

    def record(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda kept: kept):
        make_loss(name)(student, teacher, weight=torch.ones(7))
    kept = [tensor for tensor in saved if tensor.numel() >= student.numel()]
    assert [tensor.data_ptr()
            for tensor in kept] == [student.data_ptr(),
                                    teacher.data_ptr()]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('name', NAMES)
def test_peak_is_the_gradient_and_some_chunks(name, dtype, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK_SIZE', CHUNK)
    student, teacher, _ = random_inputs(samples=2000, classes=8)
    student, teacher = student.detach().to(dtype), teacher.to(dtype)
    loss = make_loss(name)
    with torch.enable_grad(), LiveMemory(student, teacher) as forward:
        value = loss(student.requires_grad_(), teacher)
    chunk = 4 * CHUNK
    per_sample = 4 * student.shape[0]
    # The loss of each sample twice: in chunks, and put together.
    assert 0 < forward.peak <= 9 * chunk + 2 * per_sample
    with LiveMemory(student, teacher) as backward:
        gradient, = torch.autograd.grad(value, student)
    assert gradient.dtype == dtype
    size = gradient.numel() * gradient.element_size()
    assert size <= backward.peak <= size + 9 * chunk + per_sample


def test_live_memory_is_counted():
    """The formula left to autograd keeps whole tensors."""
    student, teacher, _ = random_inputs(samples=2000, classes=8)
    with LiveMemory(student, teacher) as memory:
        (student.sigmoid() - teacher.sigmoid()).abs().sum()
    assert memory.peak >= 2 * student.numel() * student.element_size()


@pytest.mark.parametrize('chunk_size', [1, 5, 12, 10**6])
@pytest.mark.parametrize('name', NAMES)
def test_chunks_do_not_matter(name, chunk_size, monkeypatch):
    student, teacher, _ = random_inputs(samples=9)
    weight = torch.rand(9, generator=torch.Generator().manual_seed(2)).double()
    expected = value_and_gradient(name, student, teacher, weight=weight)
    monkeypatch.setattr(module, 'CHUNK_SIZE', chunk_size)
    value, gradient = value_and_gradient(name, student, teacher, weight=weight)
    assert value == pytest.approx(expected[0], rel=1e-13)
    assert torch.allclose(gradient, expected[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize('name', NAMES)
def test_inputs_that_are_not_contiguous(name, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK_SIZE', 7)
    student, teacher, _ = random_inputs(samples=6)
    expected = value_and_gradient(name, student, teacher)
    transposed = student.detach().T.contiguous().T
    strided = torch.stack([teacher, -teacher], dim=2)[:, :, 0]
    assert not transposed.is_contiguous() and not strided.is_contiguous()
    value, gradient = value_and_gradient(name, transposed, strided)
    assert value == pytest.approx(expected[0], rel=1e-13)
    assert torch.allclose(gradient, expected[1], rtol=1e-12, atol=0)
    # One sample repeated, without memory of its own for each.
    row = student[:1].detach().requires_grad_()
    make_loss(name)(row.expand(6, 5), teacher).backward()
    _, expected = value_and_gradient(name, row.repeat(6, 1), teacher)
    assert torch.allclose(row.grad, expected.sum(dim=0, keepdim=True))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', NAMES)
def test_half_precision_is_widened_inside(name, dtype):
    student, teacher, _ = random_inputs(samples=40)
    student, teacher = student.detach().to(dtype), teacher.to(dtype)
    value, gradient = value_and_gradient(name, student, teacher)
    expected, expected_gradient = value_and_gradient(name, student.float(),
                                                     teacher.float())
    assert value == pytest.approx(expected, rel=1e-6)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, expected_gradient.to(dtype))


def test_mixed_precision_of_the_two_sides():
    student, teacher, _ = random_inputs()
    half = student.detach().half()
    value, gradient = value_and_gradient('tcal_sigmoid', half, teacher)
    expected, _ = value_and_gradient('tcal_sigmoid', half.double(), teacher)
    assert value == pytest.approx(expected, rel=1e-6)
    assert gradient.dtype == torch.float16


def test_second_derivative_is_refused():
    student, teacher, _ = random_inputs()
    scale = torch.ones((), requires_grad=True)
    value = scale * make_loss('tcal_sigmoid')(student, teacher)
    gradient, = torch.autograd.grad(value, student, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


def test_derivative_may_return_its_input():
    """It must not be written into."""
    student, teacher, _ = random_inputs()
    before = student.detach().clone()
    class_sum(student, teacher, lambda s, t: s.square() / 2,
              lambda s, t: s).sum().mul(3).backward()
    assert torch.equal(student.grad, 3 * before)
    assert torch.equal(student, before)
