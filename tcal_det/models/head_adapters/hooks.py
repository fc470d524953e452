"""Hooks that listen to a detector for one step."""
from contextlib import contextmanager
from typing import Iterable, Iterator

from torch.utils.hooks import RemovableHandle


@contextmanager
def removed_on_leaving(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end, also after an exception.

    Args:
        handles (iterable[RemovableHandle]): What registered the hooks
            returned.
    """
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
