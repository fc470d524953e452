"""Objects that pickle as a call, which makes a folder where it runs."""
import os
import pathlib


class Call:
    """Pickles as the call of a function.

    Args:
        function (Callable): The function.
        *args (Any): Its arguments.
    """

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args

    def __call__(self):
        """A pickle's functions must look like functions."""


def payloads(mark):
    """Calls that make the folder ``mark``, by the way they are written.

    Args:
        mark (Path): The folder.
    """
    return {
        'function':
        Call(os.mkdir, str(mark)),
        'program':
        Call(exec, f'import os; os.mkdir({str(mark)!r})'),
        'method':
        Call(Call(getattr, pathlib.Path, 'mkdir'), pathlib.Path(str(mark))),
    }


KINDS = ('function', 'program', 'method')
