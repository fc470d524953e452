"""Recorded inputs and outputs of a detector's modules in one step."""
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Tuple

import torch.nn as nn

from .hooks import removed_on_exit


@dataclass
class ModuleCall:
    """The last forward call of a module.

    Attributes:
        inputs (tuple): Positional arguments of the call.
        output (Any): Return value with its graph; a list is stored as a
            tuple.
    """
    inputs: Tuple[Any, ...]
    output: Any


@contextmanager
def recorded_calls(
        modules: Dict[str, nn.Module]) -> Iterator[Dict[str, ModuleCall]]:
    """Record the last forward call of each of several modules.

    Public forward hooks record it and are removed at the end of the context.
    Nothing is computed again.

    Args:
        modules (dict[str, nn.Module]): Modules by name.

    Returns:
        ContextManager[dict[str, ModuleCall]]: Context of the calls by the
        same names; a module that did not run has no entry.
    """
    calls: Dict[str, ModuleCall] = {}

    def recorder(name):

        def record(_, args, output):
            calls[name] = ModuleCall(_kept(args), _kept(output))

        return record

    handles = [
        module.register_forward_hook(recorder(name))
        for name, module in modules.items()
    ]
    with removed_on_exit(handles):
        yield calls


def _kept(part: Any) -> Any:
    # Some heads change the lists that they have returned.
    if isinstance(part, (list, tuple)):
        return tuple(map(_kept, part))
    return part
