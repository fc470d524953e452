"""Random numbers of an image that do not depend on earlier draws."""
import hashlib
from contextlib import contextmanager
from typing import Any, Iterator

import numpy as np
import torch


def seed_of(*parts: Any) -> int:
    """Derive a seed from names and numbers, the same on any machine.

    Args:
        *parts (Any): Values whose ``str`` differs, e.g. a seed and an image
            id.

    Returns:
        int: Random seed in [0, 2**32).
    """
    text = '\n'.join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], 'big')


@contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Seed the global random state of numpy, and restore it on exit.

    Args:
        seed (int): Random seed in [0, 2**32).
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random states of torch, and restore them on exit.

    Args:
        seed (int): Random seed in [0, 2**32).
        device (torch.device): Device on which random numbers are drawn,
            besides the CPU.
    """
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
