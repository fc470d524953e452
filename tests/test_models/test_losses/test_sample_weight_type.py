"""Weights of samples are real numbers, whatever the labels are."""
import pytest
import torch

from tcal_det.models.losses import roi_sample_weight


@pytest.mark.parametrize('mode', ['foreground', 'balanced'])
def test_weights_made_from_labels_are_float32(mode):
    labels = torch.tensor([0, 3, 3])
    assert roi_sample_weight(labels, 3, mode=mode).dtype == torch.float32
