"""Temporary replacement of methods of single objects.

No class or module of mmdet is changed. Other objects of the same class, also
those in other threads, keep their methods.
"""
from contextlib import contextmanager
from inspect import ismethod
from types import FunctionType, MethodType
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from torch.overrides import TorchFunctionMode


class Replacement(NamedTuple):
    """A method of one object, and the function that replaces it.

    Attributes:
        owner (Any): The object.
        name (str): Name of the method.
        method (callable): Function that is called without the object.
    """
    owner: Any
    name: str
    method: Callable


@contextmanager
def methods_replaced(replacements: List[Replacement]) -> Iterator[None]:
    """Replace methods of objects inside the context.

    The methods are restored at the end, also after an exception.

    Args:
        replacements (list[Replacement]): Methods and their replacements.
    """
    before = [vars(owner).copy() for owner, _, _ in replacements]
    try:
        for owner, name, method in replacements:
            vars(owner)[name] = method
        yield
    finally:
        for (owner, name, _), attributes in zip(replacements, before):
            if name in attributes:
                vars(owner)[name] = attributes[name]
            else:
                vars(owner).pop(name, None)


def calls_function(owner: Any, method: str, function: str) -> bool:
    """Check whether the body of an object's method contains a name.

    Args:
        owner (Any): The object.
        method (str): Name of the method.
        function (str): Name of a global function or an attribute.
    """
    bound = getattr(owner, method, None)
    return ismethod(bound) and function in bound.__func__.__code__.co_names


def global_function(owner: Any, method: str, function: str) -> Callable:
    """Look up the function that a method calls by a global name."""
    return getattr(owner, method).__func__.__globals__[function]


def copy_method(owner: Any, method: str, **functions: Callable) -> Callable:
    """Copy a method, with other functions under some global names.

    Args:
        owner (Any): The object.
        method (str): Name of the method.
        **functions (callable): Functions that the copy uses, by their global
            names.

    Returns:
        callable: Copy of the method, bound to the object.
    """
    original = getattr(owner, method).__func__
    copied = FunctionType(original.__code__,
                          dict(original.__globals__,
                               **functions), original.__name__,
                          original.__defaults__, original.__closure__)
    copied.__kwdefaults__ = original.__kwdefaults__
    return MethodType(copied, owner)


class TensorCalls(TorchFunctionMode):
    """Context that observes calls of torch functions in this thread.

    Args:
        **callbacks (callable): Functions by the name of a torch function;
            called with the arguments and the result of each of its calls.
    """

    def __init__(self, **callbacks: Callable[[tuple, Any], None]) -> None:
        super().__init__()
        self._callbacks = callbacks

    def __torch_function__(self,
                           func: Callable,
                           types: tuple,
                           args: tuple = (),
                           kwargs: Optional[Dict[str, Any]] = None) -> Any:
        result = func(*args, **(kwargs or {}))
        callback = self._callbacks.get(getattr(func, '__name__', None))
        if callback is not None:
            callback(args, result)
        return result
