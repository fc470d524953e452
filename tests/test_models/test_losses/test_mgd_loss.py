"""Masked generation against the formula, and the mask itself."""
import pytest
import torch
import torch.nn.functional as F

from tcal_det.errors import InvalidValueError
from tcal_det.models.losses import MGDLoss
from tests.test_models.test_losses.feature_cases import (OTHER, make_loss,
                                                         random_maps, value_of)


def convolved(maps, convolution):
    """A 3x3 convolution as a matrix over the patches around a position."""
    num_images, _, height, width = maps.shape
    patches = F.unfold(maps, 3, padding=1)
    rows = convolution.weight.detach().flatten(1) @ patches
    rows += convolution.bias.detach()[:, None]
    return rows.view(num_images, -1, height, width)


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_by_the_formula(share):
    """Nothing is dropped, or all."""
    loss = make_loss('mgd', OTHER, OTHER, masked_share=share)
    student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
    expected = 0.0
    for own, other, generator in zip(student, teacher, loss.generators):
        first, second = generator[0], generator[2]
        hidden = convolved((1 - share) * own, first).clamp(min=0)
        expected += ((convolved(hidden, second) - other)**2).mean().item()
    assert value_of(loss, student, teacher).item() == pytest.approx(
        expected, rel=1e-10)


def passing(channels, **arguments):
    """A loss of one level whose generator returns what is not negative."""
    loss = make_loss('mgd', [channels], [channels], **arguments)
    with torch.no_grad():
        for convolution in (loss.generators[0][0], loss.generators[0][2]):
            torch.nn.init.dirac_(convolution.weight)
            convolution.bias.zero_()
    return loss


def test_generator_that_has_learnt_gives_zero():
    teacher = [level.abs() for level in random_maps([5], sizes=[(4, 6)])]
    loss = passing(5, masked_share=0.0)
    assert value_of(loss, teacher, teacher).item() == 0


def test_mask_drops_positions_of_each_image():
    """Of maps of ones the loss is the share that was dropped."""
    loss = passing(3)
    ones = [torch.ones(4, 3, 20, 25).double().requires_grad_()]
    values = []
    for _ in range(3):
        value = loss(ones, [level.detach() for level in ones])
        # Of 2000 positions; six deviations of a binomial around 0.65.
        assert value.item() == pytest.approx(0.65, abs=0.064)
        values.append(value.item())
    assert len(set(values)) == 3
    seen = []
    loss.generators[0].register_forward_pre_hook(
        lambda _, args: seen.append(args[0].detach()))
    loss(ones, ones)
    mask, = seen
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    # All channels together, each image for itself.
    assert torch.equal(mask, mask[:, :1].expand_as(mask))
    assert not torch.equal(mask[0], mask[1])


def test_dropped_positions_get_no_gradient():
    loss = passing(2)
    student = torch.ones(1, 2, 6, 6).double().requires_grad_()
    loss([student], [torch.zeros(1, 2, 6, 6).double()]).backward()
    share = (student.grad == 0).double().mean().item()
    assert 0.3 < share < 0.95


def test_share_is_checked():
    with pytest.raises(InvalidValueError, match='`masked_share`.*1.5'):
        MGDLoss(student_channels=[4], masked_share=1.5)
