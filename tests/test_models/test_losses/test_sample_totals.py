"""Weights of samples, and how many samples they stand for."""
import pytest
import torch

from tcal_det.models.losses import sample_weight
from tcal_det.models.losses.reduction import relative_sample_count


@pytest.mark.parametrize('mode', ['foreground', 'balanced'])
def test_weights_made_from_labels_are_float32(mode):
    labels = torch.tensor([0, 3, 3])
    assert sample_weight(labels, 3, mode=mode).dtype == torch.float32


def test_weights_below_1_are_balanced():
    weight = sample_weight(
        torch.tensor([0, 3]), 3, torch.tensor([.5, 1.5]), 'balanced')
    assert weight.tolist() == pytest.approx([1, 1])
    weight = sample_weight(
        torch.tensor([0, 3]), 3, torch.tensor([1.5, .5]), 'balanced')
    assert weight.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize('number', [1, 2, 7])
def test_all_samples_of_weight_1_stand_for_one_loss(number):
    assert relative_sample_count(number) == 1
    assert relative_sample_count(number, torch.ones(number)).item() == 1
    assert relative_sample_count(number, avg_factor=2.) == number / 2
