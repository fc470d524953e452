"""Attacks on losses whose gradients are known."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.robustness.attack import ascend, fgsm, pgd

# Gradient of the linear loss below, with a 0 and both signs.
WEIGHT = torch.tensor([[[0.5, -2.0], [0.0, 1e-3]]])
IMAGE = torch.tensor([[[100.0, 100.0], [100.0, 253.0]]])
EVERYWHERE = torch.ones(1, 1, 1, dtype=torch.bool)


def linear(images):
    return sum((WEIGHT * image).sum() for image in images)


def quadratic(images):
    """Grows with the distance from 100."""
    return sum(((image - 100)**2).sum() for image in images)


def test_fgsm_of_a_linear_loss():
    """Step 8 sign(w): up, down, nowhere, and up to the end of the range."""
    attacked, = fgsm(linear, [IMAGE], 8.0, [EVERYWHERE])
    assert attacked.tolist() == [[[108.0, 92.0], [100.0, 255.0]]]


def test_fgsm_of_dark_pixels():
    attacked, = fgsm(lambda images: -images[0].sum(),
                     [torch.tensor([[[0.0, 3.0, 9.0]]])], 4.0, [EVERYWHERE])
    assert attacked.tolist() == [[[0.0, 0.0, 5.0]]]


def test_pgd_of_a_linear_loss_ends_in_the_corner():
    """Ten steps of epsilon / 4 reach it from any start.

    Where the gradient is 0 the random start stays.
    """
    attacked, = pgd(linear, [IMAGE], 8.0, [EVERYWHERE], [3])
    corner = torch.tensor([[[108.0, 92.0], [0.0, 255.0]]])
    has_gradient = WEIGHT != 0
    assert torch.equal(attacked[has_gradient], corner[has_gradient])
    start = 2 * torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(3))
    expected = 100 + 8 * (start[0, 1, 0] - 1)
    assert attacked[0, 1, 0].item() == pytest.approx(expected.item(), abs=1e-4)


def test_pgd_goes_ten_steps_of_a_quarter():
    """From the start, of which 8 / 4 is added until the edge at 108."""
    seen = []

    def loss_of(images):
        seen.append(images[0].item())
        return images[0].sum()

    image = torch.full((1, 1, 1), 100.0)
    attacked, = pgd(loss_of, [image], 8.0, [EVERYWHERE], [5])
    uniform = torch.rand(1, 1, 1, generator=torch.Generator().manual_seed(5))
    start = 100 + 8 * (2 * uniform.item() - 1)
    expected = [min(start + 2 * step, 108) for step in range(11)]
    assert seen == pytest.approx(expected[:-1], abs=1e-4)
    assert attacked.item() == expected[-1] == 108


def test_steps_one_by_one():
    """Two steps of 1 from a start of 0.5, in a ball of radius 2.

    The quadratic loss pushes away from 100: 101.5, 102.5, but the ball ends
    at 102; the pixel at 100 has no slope and stays.
    """
    image = torch.tensor([[[100.0, 100.0]]])
    start = torch.tensor([[[0.5, 0.0]]])
    once, = ascend(quadratic, [image], 2.0, 1.0, 1, [EVERYWHERE], [start])
    assert once.tolist() == [[[101.5, 100.0]]]
    twice, = ascend(quadratic, [image], 2.0, 1.0, 2, [EVERYWHERE], [start])
    assert twice.tolist() == [[[102.0, 100.0]]]


def test_mask():
    """What is masked stays, also at the random start."""
    mask = torch.tensor([[[True, False], [True, False]]])
    for attacked in (fgsm(linear, [IMAGE], 8.0,
                          [mask])[0], pgd(linear, [IMAGE], 8.0, [mask],
                                          [0])[0]):
        assert torch.equal(attacked[~mask], IMAGE[~mask])
        assert attacked[0, 0, 0] == 108.0


def test_without_a_number_as_gradient_a_pixel_stays():
    image = torch.tensor([[[0.0, 50.0]]])
    # Slope of sqrt(x) * 0 at 0: infinity times 0.
    attacked, = fgsm(lambda images: (images[0].sqrt() * image).sum(), [image],
                     2.0, [EVERYWHERE])
    assert attacked.tolist() == [[[0.0, 52.0]]]


def test_images_of_a_batch_start_by_their_own_seeds():
    alone, = pgd(quadratic, [IMAGE], 4.0, [EVERYWHERE], [7])
    _, second = pgd(quadratic, [IMAGE + 1, IMAGE], 4.0, [EVERYWHERE] * 2,
                    [1, 7])
    assert torch.equal(alone, second)
    other, = pgd(linear, [IMAGE], 4.0, [EVERYWHERE], [8])
    assert not torch.equal(alone, other)


def test_images_are_not_changed_and_no_gradient_is_left():
    image = IMAGE.clone()
    with torch.no_grad():  # as detections are collected
        attacked, = pgd(linear, [image], 4.0, [EVERYWHERE], [0])
    assert torch.equal(image, IMAGE)
    assert image.grad is None and not image.requires_grad
    assert not attacked.requires_grad


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    epsilon=st.sampled_from([0.0, 0.5, 2.0, 8.0, 255.0]))
def test_changes_stay_in_the_ball_and_in_the_range(seed, epsilon):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, 5, 4), generator=generator).float()
    weight = torch.randn(3, 5, 4, generator=generator)

    def loss_of(images):
        return (weight * images[0]).sin().sum()

    for attacked in (fgsm(loss_of, [image], epsilon, [EVERYWHERE])[0],
                     pgd(loss_of, [image], epsilon, [EVERYWHERE], [seed])[0]):
        assert (attacked - image).abs().max() <= epsilon
        assert attacked.min() >= 0 and attacked.max() <= 255
        if epsilon == 0:
            assert torch.equal(attacked, image)
