"""Weights of samples are real numbers, whatever the labels are."""
import pytest
import torch

from tcal_det.models.losses import roi_sample_weight


@pytest.mark.parametrize('mode', ['foreground', 'balanced'])
def test_weights_made_from_labels_are_float32(mode):
    labels = torch.tensor([0, 3, 3])
    assert roi_sample_weight(labels, 3, mode=mode).dtype == torch.float32


def test_weights_below_1_are_balanced():
    weight = roi_sample_weight(
        torch.tensor([0, 3]), 3, torch.tensor([.5, 1.5]), 'balanced')
    assert weight.tolist() == pytest.approx([1, 1])
    weight = roi_sample_weight(
        torch.tensor([0, 3]), 3, torch.tensor([1.5, .5]), 'balanced')
    assert weight.tolist() == pytest.approx([1, 1])
