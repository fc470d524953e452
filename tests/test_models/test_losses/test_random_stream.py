"""The numbers that a loss draws."""
import torch

from tcal_det.models.losses.random_stream import RandomStream


def draw(stream):
    return torch.rand(4, generator=stream.generator()).tolist()


def stream_of(seed):
    torch.manual_seed(seed)
    return RandomStream()


def test_draws_differ_and_follow_from_the_seed():
    stream = stream_of(0)
    draws = [draw(stream) for _ in range(20)]
    assert len(set(map(tuple, draws))) == 20
    again = stream_of(0)
    # What the training draws in between does not matter.
    for expected in draws:
        torch.rand(3)
        assert draw(again) == expected
    other = stream_of(1)
    assert not set(map(tuple, draws)) & {tuple(draw(other)) for _ in range(20)}


def test_draws_are_spread():
    """1000 first numbers of consecutive draws: no pattern in their mean."""
    stream = stream_of(0)
    first = torch.tensor([draw(stream)[0] for _ in range(1000)])
    assert abs(first.mean() - 0.5) < 0.05
    assert abs(first.var() - 1 / 12) < 0.01
    together = torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]
    assert abs(together) < 0.15


def test_state_goes_on():
    stream = stream_of(3)
    draw(stream)
    resumed = stream_of(4)
    resumed.load_state_dict(stream.state_dict())
    assert draw(resumed) == draw(stream)


def test_training_draws_what_it_did_without():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    stream = RandomStream()
    draw(stream)
    assert torch.equal(torch.rand(3), expected)


def test_no_seed_was_set():
    """Then it is of 64 bits."""
    torch.seed()
    stream = RandomStream()
    assert 0 <= int(stream.seed) < 2**32
    assert draw(stream) != draw(stream)
