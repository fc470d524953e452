"""A further run of a model that trains, of which nothing stays."""
from contextlib import contextmanager
from typing import Iterator

import torch
import torch.nn as nn
from torch import Tensor


@contextmanager
def without_traces(module: nn.Module, like: Tensor) -> Iterator[None]:
    """Run a module, and leave its buffers and the random state as they were.

    Running statistics of a BatchNorm, and what it counts, are of the run that
    the model's own loss is computed from. Parameters, and the graph that the
    run leaves, are untouched.

    Args:
        module (nn.Module): What is run inside, also parts of it.
        like (Tensor): On the device of the run.
    """
    kept = [(part, dict(part._buffers)) for part in module.modules()
            if part._buffers]
    devices = [like.device] if like.device.type == 'cuda' else []
    try:
        # Not written back: the graph of the first run may hold the tensors.
        for part, buffers in kept:
            part._buffers.update({
                name:
                buffer if buffer is None else buffer.clone()
                for name, buffer in buffers.items()
            })
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for part, buffers in kept:
            part._buffers.update(buffers)
