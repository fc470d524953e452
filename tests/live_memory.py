"""How much memory tensors take at once, counted."""
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveMemory(TorchDispatchMode):
    """Largest number of bytes alive at once, beside the inputs."""

    def __init__(self, *inputs):
        super().__init__()
        self.inputs = {
            tensor.untyped_storage().data_ptr()
            for tensor in inputs
        }
        self.made = []
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        outputs = output if isinstance(output, (tuple, list)) else [output]
        self.made += [
            weakref.ref(tensor) for tensor in outputs
            if isinstance(tensor, torch.Tensor)
        ]
        alive, storages = [], {}
        for reference in self.made:
            tensor = reference()
            if tensor is not None:
                alive.append(reference)
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.inputs:
                    storages[storage.data_ptr()] = storage.nbytes()
        self.made = alive
        self.peak = max(self.peak, sum(storages.values()))
        return output
