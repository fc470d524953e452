"""Random numbers of an image that do not depend on what was drawn before."""
import hashlib
from contextlib import contextmanager
from typing import Any, Iterator

import numpy as np
import torch


def seed_of(*parts: Any) -> int:
    """A seed that follows from names and numbers, on any machine.

    Args:
        *parts (Any): What ``str`` tells apart, e.g. a seed and an image id.

    Returns:
        int: In [0, 2**32).
    """
    text = '\n'.join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], 'big')


@contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Begin numpy's global stream at a seed, then have it as it was.

    Args:
        seed (int): In [0, 2**32).
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Begin torch's global streams at a seed, then have them as they were.

    Args:
        seed (int): In [0, 2**32).
        device (torch.device): On which random numbers are drawn, beside the
            CPU.
    """
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
