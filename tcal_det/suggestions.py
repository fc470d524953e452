"""Suggestion of the name that a misspelled one was meant to be."""
from difflib import get_close_matches
from typing import Iterable


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Suggest the most similar allowed name.

    Args:
        name (str): Name that is not allowed.
        allowed (iterable[str]): Allowed names.

    Returns:
        str: End of a message; empty if no name is similar.
    """
    matches = get_close_matches(name, list(allowed), n=1)
    return f'; did you mean {matches[0]!r}?' if matches else ''
