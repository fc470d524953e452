"""Additional runs of a model in training, without side effects."""
from contextlib import contextmanager
from typing import Iterator

import torch
import torch.nn as nn
from torch import Tensor


@contextmanager
def without_side_effects(module: nn.Module, like: Tensor) -> Iterator[None]:
    """Restore the buffers and the random state after a run of a module.

    The running statistics and counters of a BatchNorm must come only from the
    run for the model's own loss. The context changes neither the parameters
    nor the graph of the run.

    Args:
        module (nn.Module): Module that runs in the context, completely or in
            part.
        like (Tensor): Tensor on the device of the run.
    """
    kept = [(part, dict(part._buffers)) for part in module.modules()
            if part._buffers]
    devices = [like.device] if like.device.type == 'cuda' else []
    try:
        # The run gets copies of the buffers. Writing old values back into the
        # original tensors could break the graph of the first run.
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
