"""How every command in ``tools/`` begins and ends.

Imports nothing that is slow: commands parse their arguments first, and import
torch and mmdet when they know that there is work to do.
"""
import argparse
import errno
import os
import signal
import sys
import warnings
from contextlib import contextmanager
from typing import Callable, Iterator, List, Optional

from tcal_det.errors import UserError

# What a full, exhausted or read-only file system answers.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Of a process that SIGTERM ended, as a shell reports it.
SIGTERM_STATUS = 128 + signal.SIGTERM


class ConfigOptions(argparse.Action):
    """mmengine's DictAction, imported only where the option is given.

    For ``--cfg-options``, with ``nargs='+'``: 'key=value' texts become a dict.
    """

    def __call__(self,
                 parser: argparse.ArgumentParser,
                 namespace: argparse.Namespace,
                 values: List[str],
                 option_string: Optional[str] = None) -> None:
        """Merge what was given into the dict of the namespace."""
        from mmengine.config import DictAction
        parse = DictAction(self.option_strings, self.dest, nargs=self.nargs)
        for text in values:
            try:
                parse(parser, namespace, [text], option_string)
            except (ValueError, AssertionError):
                raise argparse.ArgumentError(
                    self, 'must be KEY=VALUE with balanced brackets, but got '
                    f'{text!r}') from None


def parse_training_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the arguments of a command that trains.

    Args:
        parser (ArgumentParser): Has the command's own arguments; gets those
            of mmdet's ``tools/train.py`` but the config and the work dir.

    Returns:
        Namespace: What was given.
    """
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with mixed precision: float16 on a GPU, bfloat16 without')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from the given checkpoint, or without a value from '
        'the last whole one in the work dir')
    return parse_launch_args(parser)


def parse_launch_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the arguments of a command that may run in several processes.

    Args:
        parser (ArgumentParser): Has the command's own arguments; gets
            ``--cfg-options`` and ``--launcher``.

    Returns:
        Namespace: What was given.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        help='override config keys: key=value, key="[a,b]", key="[(a,b)]"')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; pytorch works without a GPU too (default: none)')
    # torch.distributed.launch passes it.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def run_command(main: Callable[[], None]) -> None:
    """Run a command; a user's mistake is one line and exit status 2.

    SIGTERM unwinds the command as Ctrl-C does, so that what it was writing
    is cleaned up; the exit status is 143 then.

    Args:
        main (Callable): The command. Exceptions other than
            :class:`~tcal_det.errors.UserError` keep their traceback: they
            are defects, ours or of a module that the config names.
    """
    try:
        with _unwound_by_sigterm():
            main()
    except UserError as error:
        _exit_with(str(error))
    except KeyError as error:
        # mmengine's registries report a misspelt `type` this way.
        message = str(error.args[0]) if error.args else ''
        if ' registry. ' not in message:
            raise
        _exit_with(message)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _exit_with(f'files cannot be written: {error}')


def _exit_with(message: str) -> None:
    print(f'error: {" ".join(message.split())}', file=sys.stderr)
    sys.exit(2)


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143), once, in this process alone."""
    process = os.getpid()
    received = []

    def unwind(signum, frame):
        if os.getpid() != process:
            # A forked worker has nothing of ours to clean up.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        # A launcher may send another one, which must not stop the cleaning.
        signal.signal(signum, signal.SIG_IGN)
        received.append(signum)
        sys.exit(SIGTERM_STATUS)

    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        # Somebody else has decided what SIGTERM does.
        yield
        return
    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except Exception:
        # Data loader workers that got the signal too are an error for torch.
        if received:
            sys.exit(SIGTERM_STATUS)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print warnings as one line, without the source line of Python's own.

    For commands whose warnings tell the user about their data.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *args, **kwargs: print(
            f'warning: {message}', file=sys.stderr)
        yield
