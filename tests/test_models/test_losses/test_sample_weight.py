"""Weights from labels and from the teacher."""
import math

import pytest
import torch

from tcal_det.errors import InvalidValueError
from tcal_det.models.losses import sample_weight
from tcal_det.models.losses.sample_weight import object_probability

LABELS = torch.tensor([0, 3, 2, 3, 3])
WEIGHT = torch.tensor([1., 1., 3., 2., 0.])


def test_all_is_the_input_itself():
    assert sample_weight(LABELS, 3, WEIGHT, 'all') is WEIGHT
    assert sample_weight(LABELS, 3) is None


def test_foreground_drops_the_background():
    before = WEIGHT.clone()
    assert sample_weight(LABELS, 3, WEIGHT,
                         'foreground').tolist() == [1, 0, 3, 0, 0]
    assert sample_weight(
        LABELS, 3, mode='foreground').tolist() == [1, 0, 1, 0, 0]
    assert torch.equal(WEIGHT, before)


def test_labels_below_zero_are_no_foreground():
    """Some assigners of mmdet mark ignored samples with -1."""
    labels = torch.tensor([-1, 0, 2, 3])
    assert sample_weight(labels, 3, mode='foreground').tolist() == [0, 1, 1, 0]
    # Two on each side, so nothing changes.
    assert sample_weight(labels, 3, mode='balanced').tolist() == [1, 1, 1, 1]


def test_balanced_halves_and_keeps_the_total():
    # Total 7, foreground 4, background 3.
    balanced = sample_weight(LABELS, 3, WEIGHT, 'balanced')
    assert balanced.tolist() == pytest.approx(
        [1 * 7 / 8, 1 * 7 / 6, 3 * 7 / 8, 2 * 7 / 6, 0])
    assert balanced[[0, 2]].sum().item() == pytest.approx(3.5)
    assert balanced[[1, 3, 4]].sum().item() == pytest.approx(3.5)


@pytest.mark.parametrize('labels', [[3, 3], [0, 1], []])
def test_nothing_to_balance(labels):
    labels = torch.tensor(labels, dtype=torch.long)
    weight = torch.ones(len(labels)) * 2
    balanced = sample_weight(labels, 3, weight, 'balanced')
    assert torch.equal(balanced, weight)


@pytest.mark.parametrize('mode', ['all', 'foreground', 'balanced'])
def test_no_labels_are_no_samples(mode):
    assert sample_weight(None, 3, None, mode) is None


def test_teacher_by_hand_softmax():
    logits = torch.tensor([[.2, .5, .3], [.05, .05, .9]]).log()
    weight = sample_weight(None, 2, mode='teacher', teacher_logits=logits)
    assert weight.tolist() == pytest.approx([.5, .05])
    # An offset of all logits changes no probability.
    weight = sample_weight(None, 2, torch.tensor([2., 10.]), 'teacher',
                           logits + 30)
    assert weight.tolist() == pytest.approx([1., .5], rel=1e-5)


def test_teacher_by_hand_sigmoid():
    logits = torch.tensor([[.2, .5, .3], [.05, .05, .9]]).logit()
    weight = sample_weight(
        None, 3, None, 'teacher', logits, activation='sigmoid')
    assert weight.tolist() == pytest.approx([.5, .9])
    # A head with a column for background says so by K.
    weight = sample_weight(
        None, 2, None, 'teacher', logits, activation='sigmoid')
    assert weight.tolist() == pytest.approx([.5, .05])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_teacher_in_half_precision(activation, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(20, 80, generator=generator)).to(dtype)
    probs = object_probability(logits, 79, activation)
    assert probs.dtype == torch.float32
    assert torch.allclose(probs,
                          object_probability(logits.float(), 79, activation))


def test_teacher_learns_nothing_from_its_weight():
    logits = torch.zeros(2, 3, requires_grad=True)
    assert not object_probability(logits, 2, 'softmax').requires_grad


def test_teacher_that_masks_all_objects():
    logits = torch.tensor([[-math.inf, -math.inf, 1.]])
    for activation in ('softmax', 'sigmoid'):
        assert object_probability(logits, 2, activation).item() == 0


def test_unknown_mode_is_named():
    with pytest.raises(InvalidValueError, match="`mode`.*'fg'"):
        sample_weight(LABELS, 3, mode='fg')
