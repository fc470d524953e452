"""A divisor that another process or the GPU has computed."""
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tcal_det.models.losses.reduction import reduce_loss
from tests.test_models.test_losses.loss_cases import (LOSSES, make_loss,
                                                      random_inputs)

ALL = sorted(LOSSES)


class Reads(TorchDispatchMode):
    """Count the values read out of a tensor, for which a GPU is waited."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('samples', ['all', 'balanced', 'teacher'])
@pytest.mark.parametrize('shape', [(), (1, )])
@pytest.mark.parametrize('name', ALL)
def test_may_be_a_tensor(name, shape, samples):
    student, teacher, labels = random_inputs()
    loss = make_loss(name, samples=samples)
    avg_factor = torch.full(shape, 3., dtype=torch.float64)
    expected = loss(student, teacher, labels=labels, avg_factor=3.)
    with Reads() as reads:
        value = loss(student, teacher, labels=labels, avg_factor=avg_factor)
        value.backward()
    assert reads.count == 0
    assert value.shape == ()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert avg_factor.shape == shape


def test_reads_are_counted():
    with Reads() as reads:
        float(torch.ones(1))
    assert reads.count == 1


def test_divisor_of_one_element_leaves_a_scalar():
    """Also of a loss that is no loss on logits."""
    loss = reduce_loss(torch.tensor([1., 3.]), None, torch.tensor([8.]))
    assert loss.shape == () and loss.item() == 0.5
