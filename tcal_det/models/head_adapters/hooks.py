"""Forward hooks on a detector for the time of one step."""
from contextlib import contextmanager
from typing import Iterable, Iterator

from torch.utils.hooks import RemovableHandle


@contextmanager
def removed_on_exit(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks when the context ends, also after an exception.

    Args:
        handles (iterable[RemovableHandle]): Handles of the registered hooks.
    """
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
