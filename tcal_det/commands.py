"""How every command in ``tools/`` ends; imports nothing that is slow."""
import sys
import warnings
from contextlib import contextmanager
from typing import Callable, Iterator

from tcal_det.errors import UserError


def run_command(main: Callable[[], None]) -> None:
    """Run a command; a user's mistake is one line and exit status 2.

    Args:
        main (Callable): The command. Exceptions other than
            :class:`~tcal_det.errors.UserError` keep their traceback: they
            are defects, ours or of a module that the config names.
    """
    try:
        main()
    except UserError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(2)
    except KeyError as error:
        # mmengine's registries report a misspelt `type` this way.
        message = str(error.args[0]) if error.args else ''
        if ' registry. ' not in message:
            raise
        print(f'error: {" ".join(message.split())}', file=sys.stderr)
        sys.exit(2)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print warnings as one line, without the source line of Python's own.

    For commands whose warnings tell the user about their data.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *args, **kwargs: print(
            f'warning: {message}', file=sys.stderr)
        yield
