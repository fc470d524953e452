"""Focal and global distillation against a version written from the paper."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.models.losses import FGDLoss
from tcal_det.models.losses.fgd_loss import attention, object_masks
from tests.test_models.test_losses.feature_cases import (OTHER, make_loss,
                                                         random_maps,
                                                         random_scene,
                                                         value_of)

WEIGHTS = dict(
    foreground_weight=2.0,
    background_weight=0.5,
    attention_weight=0.25,
    global_weight=0.125)


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def paper_attention(image, temperature):
    """Of one image, shape (D, H, W)."""
    channels, height, width = image.shape
    of_positions = np.abs(image).mean(axis=0)
    of_channels = np.abs(image).mean(axis=(1, 2))
    return (height * width *
            softmax(of_positions.ravel() / temperature).reshape(height, width),
            channels * softmax(of_channels / temperature))


def paper_masks(boxes, height, width):
    """Object by object and position by position."""
    objects = np.zeros((height, width))
    for x1, y1, x2, y2 in boxes:
        inside = [(row, column) for row in range(height)
                  for column in range(width)
                  if row < y2 * height and row + 1 > y1 *
                  height and column < x2 * width and column + 1 > x1 * width]
        for place in inside:
            objects[place] = max(objects[place], 1 / len(inside))
    rest = objects == 0
    return objects, rest / max(rest.sum(), 1)


def paper_context(image, block):
    """Global context block of one image."""
    mask, (first, norm, _, last) = block.conv_mask, block.channel_add_conv
    parameters = {
        name: weight.detach().numpy()
        for name, weight in block.named_parameters()
    }
    assert parameters['conv_mask.weight'].shape[1] == image.shape[0]
    flat = image.reshape(len(image), -1)
    attended = softmax((mask.weight.detach().numpy()[:, :, 0, 0] @ flat +
                        mask.bias.detach().numpy()[:, None]).ravel())
    hidden = (
        first.weight.detach().numpy()[:, :, 0, 0] @ (flat @ attended) +
        first.bias.detach().numpy())
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + norm.eps)
    hidden = (
        hidden * norm.weight.detach().numpy().ravel() +
        norm.bias.detach().numpy().ravel())
    added = (
        last.weight.detach().numpy()[:, :, 0, 0] @ hidden.clip(min=0) +
        last.bias.detach().numpy())
    return image + added[:, None, None]


def paper_loss(loss, student, teacher, boxes, temperature):
    total = 0.0
    for level, (own, other) in enumerate(zip(student, teacher)):
        num_images, channels, height, width = own.shape
        for image in range(num_images):
            s, t = own[image].numpy(), other[image].numpy()
            (s_places, s_channels), (t_places, t_channels) = (
                paper_attention(one, temperature) for one in (s, t))
            objects, rest = paper_masks(boxes[image].tolist(), height, width)
            for d in range(channels):
                for i in range(height):
                    for j in range(width):
                        total += (2.0 * objects[i, j] + 0.5 * rest[i, j]) * (
                            t_places[i, j] * t_channels[d] *
                            (t[d, i, j] - s[d, i, j])**2) / num_images
            total += 0.25 * (
                np.abs(s_places - t_places).sum() +
                np.abs(s_channels - t_channels).sum()) / num_images
            gap = paper_context(s, loss.student_contexts[level]) - (
                paper_context(t, loss.teacher_contexts[level]))
            total += 0.125 * (gap**2).sum() / num_images
    return total


@pytest.mark.parametrize('temperature', [0.5, 2.0])
def test_by_the_formula(temperature):
    loss = make_loss('fgd', OTHER, OTHER, temperature=temperature, **WEIGHTS)
    for weight in loss.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
    scene = random_scene()
    assert value_of(loss, student, teacher, scene).item() == pytest.approx(
        paper_loss(loss, student, teacher, scene.boxes, temperature), rel=1e-9)


def test_by_hand():
    """A map of one channel and two places, of which one is an object's."""
    loss = make_loss('fgd', [2], [2],
                     **dict(WEIGHTS, attention_weight=0, global_weight=0))
    teacher = [torch.tensor([[[[1., 0.]], [[1., 0.]]]]).double()]
    student = [torch.tensor([[[[0., 1.]], [[2., 0.]]]]).double()]
    scene = random_scene()._replace(boxes=[torch.tensor([[0., 0., .5, 1.]])])
    # Attention of the teacher: softmax of (1, 0) / 0.5, times 2.
    place = 2 / (1 + math.exp(-2))
    expected = 2.0 * place * (1 + 1) + 0.5 * (2 - place) * (1 + 0)
    assert value_of(loss, student, teacher, scene).item() == pytest.approx(
        expected, rel=1e-6)


def test_attention_has_the_mean_1():
    maps, = random_maps([5], sizes=[(4, 6)])
    for part in attention(maps, 0.5):
        torch.testing.assert_close(
            part.flatten(1).mean(dim=1),
            torch.ones(2).double())


SIDES = st.tuples(st.floats(0, 1, width=32), st.floats(
    0, 1, width=32)).map(sorted).filter(lambda side: side[1] - side[0] > 0.05)


@given(
    st.lists(st.tuples(SIDES, SIDES), max_size=4), st.integers(1, 7),
    st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_masks_by_the_definition(objects, height, width):
    boxes = torch.tensor([[x[0], y[0], x[1], y[1]] for x, y in objects],
                         dtype=torch.float64).view(-1, 4)
    # Edges within a thousandth of a cell's are the cell's.
    edges = boxes.numpy() * [width, height, width, height]
    if np.any(np.abs(edges - edges.round()) < 2e-3):
        return
    found = object_masks(boxes, (height, width))
    for mine, its in zip(found, paper_masks(boxes.tolist(), height, width)):
        np.testing.assert_allclose(mine.numpy(), its, rtol=1e-6)


def test_masks_of_edges_of_cells():
    """A box of whole cells has no more than those, whatever the rounding."""
    for count in range(1, 60):
        shares = torch.arange(count + 1) / count
        boxes = torch.stack(
            [shares[:-1], 0 * shares[1:], shares[1:], 0 * shares[1:] + 1], 1)
        objects, rest = object_masks(boxes, (1, count))
        assert (objects == 1).all() and (rest == 0).all()


@pytest.mark.parametrize('box', [[.3, .3, .3, .3], [1., 1., 1., 1.],
                                 [-.5, -.5, .1, .1], [.9, .9, 1.5, 2.]])
def test_odd_boxes_have_a_place(box):
    """Of no size, at the border, beyond it."""
    objects, _ = object_masks(torch.tensor([box]), (4, 4))
    assert objects.max() == 1 and (objects > 0).sum() == 1


def test_no_objects():
    objects, rest = object_masks(torch.zeros(0, 4), (2, 3))
    assert (objects == 0).all()
    assert torch.equal(rest, torch.full((2, 3), 1 / 6))


def test_blocks_start_as_the_identity():
    """So that equal maps give 0; once trained they differ."""
    loss = make_loss('fgd', OTHER, OTHER)
    maps = random_maps(OTHER)
    assert value_of(loss, maps, maps).item() == 0
    loss.student_contexts[0].channel_add_conv[-1].bias.data += 1
    # 5 channels of 24 positions in each image are 1 apart.
    assert value_of(loss, maps, maps).item() == pytest.approx(
        5e-6 * 5 * 24, rel=1e-6)


def test_maps_of_another_memory_format():
    loss = make_loss('fgd', OTHER, OTHER)
    student, teacher = random_maps(OTHER), random_maps(OTHER, seed=1)
    value = value_of(loss, student, teacher).item()
    channels_last = [[
        level.to(memory_format=torch.channels_last) for level in maps
    ] for maps in (student, teacher)]
    assert value_of(loss, *channels_last).item() == pytest.approx(
        value, rel=1e-12)


@pytest.mark.parametrize('name', [*WEIGHTS, 'temperature'])
def test_arguments_are_checked(name):
    with pytest.raises(InvalidValueError, match=f'`{name}`.*-1'):
        FGDLoss(student_channels=[4], **{name: -1})
