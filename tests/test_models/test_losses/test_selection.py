"""The share that scores highest."""
import torch

from tcal_det.models.losses.selection import top_share


def test_rounds_up_and_keeps_ties():
    scores = torch.tensor([1., 5., 3., 3., 0.])
    assert top_share(scores, .2).tolist() == [0, 1, 0, 0, 0]
    assert top_share(scores, .21).tolist() == [0, 1, 1, 1, 0]
    assert top_share(scores, 1.).all()


def test_of_nothing_is_nothing():
    assert top_share(torch.zeros(0), .5).shape == (0, )


def test_marks_are_booleans():
    assert top_share(torch.ones(3), 1.).dtype == torch.bool
    assert top_share(torch.ones(3), .5).dtype == torch.bool
