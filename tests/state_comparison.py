"""Equality of what checkpoints hold."""
import torch


def assert_same_state(mine, its):
    """Compare nested dicts and lists of tensors, bit for bit."""
    assert type(mine) is type(its)
    if isinstance(mine, dict):
        assert list(mine) == list(its)
        for key in mine:
            assert_same_state(mine[key], its[key])
    elif isinstance(mine, (list, tuple)):
        assert len(mine) == len(its)
        for one, other in zip(mine, its):
            assert_same_state(one, other)
    elif isinstance(mine, torch.Tensor):
        assert torch.equal(mine, its)
    else:
        assert mine == its
