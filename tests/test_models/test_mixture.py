"""The mean of probabilities, by the formula in float64."""
import math

import pytest
import torch

from tcal_det.models.mixture import mixed_logits

FIRST = torch.tensor([[2., -1., 0.], [0., 30., -30.]], dtype=torch.float64)
SECOND = torch.tensor([[-3., 1., 4.], [5., -40., 2.]], dtype=torch.float64)
WEIGHTS = torch.tensor([[3., 1.], [1., 1.]], dtype=torch.float64)


def test_softmax_by_hand():
    mixed = mixed_logits([FIRST, SECOND], WEIGHTS, 'softmax').softmax(1)
    for row in range(2):
        shares = (WEIGHTS[:, row] / WEIGHTS[:, row].sum()).tolist()
        parts = []
        for logits in (FIRST, SECOND):
            weights = [math.exp(z) for z in logits[row].tolist()]
            parts.append([w / math.fsum(weights) for w in weights])
        expected = [shares[0] * p + shares[1] * q for p, q in zip(*parts)]
        assert mixed[row].tolist() == pytest.approx(expected, rel=1e-12)


def test_sigmoid_by_hand():
    """Both tails: 1 - p too keeps its digits."""
    mixed = mixed_logits([FIRST, SECOND], WEIGHTS, 'sigmoid')
    for row in range(2):
        shares = (WEIGHTS[:, row] / WEIGHTS[:, row].sum()).tolist()
        for column in range(3):
            z = [one[row, column].item() for one in (FIRST, SECOND)]
            yes = math.fsum(share / (1 + math.exp(-x))
                            for share, x in zip(shares, z))
            no = math.fsum(share / (1 + math.exp(x))
                           for share, x in zip(shares, z))
            assert mixed[row, column].item() == pytest.approx(
                math.log(yes / no), rel=1e-12)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_who_weighs_nothing_says_nothing(activation):
    weights = torch.tensor([[1., 0.], [0., 1.]], dtype=torch.float64)
    mixed = mixed_logits([FIRST, SECOND], weights, activation)
    if activation == 'softmax':
        expected = [FIRST[0].softmax(0), SECOND[1].softmax(0)]
        mixed = mixed.softmax(1)
    else:
        expected = [FIRST[0], SECOND[1]]
    assert torch.allclose(mixed, torch.stack(expected), rtol=1e-12)


@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
def test_a_masked_class_stays_impossible(activation):
    logits = torch.tensor([[1., -torch.inf, 0.]])
    mixed = mixed_logits([logits, logits], torch.ones(2, 1), activation)
    assert mixed[0, 1] == -torch.inf
    assert mixed[0, [0, 2]].isfinite().all()


def test_half_precision_is_widened():
    logits = torch.tensor([[9.5, -9.5]], dtype=torch.float16)
    mixed = mixed_logits([logits, logits], torch.ones(2, 1), 'sigmoid')
    assert mixed.dtype == torch.float32
    assert mixed[0].tolist() == pytest.approx([9.5, -9.5])


def test_no_samples():
    mixed = mixed_logits([torch.zeros(0, 3)] * 2, torch.zeros(2, 0), 'softmax')
    assert mixed.shape == (0, 3)
