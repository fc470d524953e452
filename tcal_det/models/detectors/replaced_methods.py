"""Methods of single objects, replaced for a while.

Neither a class nor a module of mmdet is changed: other objects of the same
class, also those that another thread uses, do not see the difference.
"""
from contextlib import contextmanager
from inspect import ismethod
from types import FunctionType, MethodType
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from torch.overrides import TorchFunctionMode


class Replacement(NamedTuple):
    """A method of one object, and what takes its place.

    Attributes:
        owner (Any): The object.
        name (str): Name of the method.
        method (Callable): Called without the object.
    """
    owner: Any
    name: str
    method: Callable


@contextmanager
def methods_replaced(replacements: List[Replacement]) -> Iterator[None]:
    """Give objects other methods until the end, also after an exception.

    Args:
        replacements (list[Replacement]): What to replace.
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


def calls(owner: Any, method: str, function: str) -> bool:
    """Whether the body of an object's method has a name in it.

    Args:
        owner (Any): The object.
        method (str): Name of the method.
        function (str): Name of a global function or an attribute.
    """
    bound = getattr(owner, method, None)
    return ismethod(bound) and function in bound.__func__.__code__.co_names


def global_of(owner: Any, method: str, function: str) -> Callable:
    """The function that a method finds under a global name."""
    return getattr(owner, method).__func__.__globals__[function]


def with_function(owner: Any, method: str, **functions: Callable) -> Callable:
    """A copy of a method that finds other functions under global names.

    Args:
        owner (Any): The object.
        method (str): Name of the method.
        **functions (Callable): What the copy finds, by name.

    Returns:
        Callable: Bound to the object.
    """
    own = getattr(owner, method).__func__
    copied = FunctionType(own.__code__, dict(own.__globals__, **functions),
                          own.__name__, own.__defaults__, own.__closure__)
    copied.__kwdefaults__ = own.__kwdefaults__
    return MethodType(copied, owner)


class TensorCalls(TorchFunctionMode):
    """Listens to functions of torch while it is entered, in this thread.

    Args:
        **listeners (Callable): Called with the arguments and the result of
            each call of the function of that name.
    """

    def __init__(self, **listeners: Callable[[tuple, Any], None]) -> None:
        super().__init__()
        self._listeners = listeners

    def __torch_function__(self,
                           func: Callable,
                           types: tuple,
                           args: tuple = (),
                           kwargs: Optional[Dict[str, Any]] = None) -> Any:
        result = func(*args, **(kwargs or {}))
        listener = self._listeners.get(getattr(func, '__name__', None))
        if listener is not None:
            listener(args, result)
        return result
