"""What parts of a detector were given, and returned, in one step."""
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Tuple

import torch.nn as nn

from .hooks import removed_on_leaving


@dataclass
class ModuleCall:
    """The last run of a module.

    Attributes:
        inputs (tuple): Its positional arguments.
        output (Any): What it returned, with its graph; a tuple where it
            returned a list.
    """
    inputs: Tuple[Any, ...]
    output: Any


@contextmanager
def recorded_calls(
        modules: Dict[str, nn.Module]) -> Iterator[Dict[str, ModuleCall]]:
    """Record the last run of some modules.

    Public forward hooks, removed on leaving: nothing is computed again.

    Args:
        modules (dict[str, nn.Module]): Modules by a name.

    Returns:
        ContextManager[dict[str, ModuleCall]]: By the same name; of a module
        that did not run there is none.
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
    with removed_on_leaving(handles):
        yield calls


def _kept(part: Any) -> Any:
    # Some heads write into the lists that they returned.
    if isinstance(part, (list, tuple)):
        return tuple(map(_kept, part))
    return part
