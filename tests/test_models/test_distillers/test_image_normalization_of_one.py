"""Only one of student and teacher normalises its images."""
import torch
from mmengine.model import ImgDataPreprocessor

from tcal_det.models.distillers.image_normalization import \
    ImageRenormalization

MEAN, STD = [10., 20., 30.], [2., 4., 5.]


def test_only_one_of_two_normalises():
    plain = ImgDataPreprocessor()
    normalising = ImgDataPreprocessor(mean=MEAN, std=STD)
    images = torch.arange(3 * 2 * 2.).view(1, 3, 2, 2)
    normalised = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / (
        torch.tensor(STD).view(1, 3, 1, 1))
    torch.testing.assert_close(
        ImageRenormalization(plain, normalising)(images), normalised)
    torch.testing.assert_close(
        ImageRenormalization(normalising, plain)(normalised), images)
    assert ImageRenormalization(plain, plain)(images) is images
