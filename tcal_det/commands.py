"""Argument parsing and error handling shared by all commands.

This module imports nothing slow: commands first parse their arguments, and
import torch and mmdet only after that.
"""
import argparse
import errno
import os
import re
import select
import signal
import sys
import warnings
from contextlib import contextmanager
from itertools import takewhile
from typing import Callable, Iterator, List, NoReturn, Optional

from tcal_det.errors import UserError
from tcal_det.suggestions import did_you_mean

# Error numbers of a file system that is full, over quota or read-only.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Option, but no negative number, and no value with spaces.
_OPTION = re.compile(r'--?[a-zA-Z][\w-]+')
# Exit statuses that a shell reports for a process ended by a signal.
SIGTERM_STATUS = 128 + signal.SIGTERM
SIGPIPE_STATUS = 128 + 13


class CommandParser(argparse.ArgumentParser):
    """Parser whose errors are one line, with a suggestion for a typing error.

    The usage is not printed: it is longer than the error, and ``--help``
    prints it.
    """

    def parse_known_args(self, args=None, namespace=None):
        """Parse, and remember the arguments for a suggestion."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        parser = _chosen_subparser(self, self._given)
        options = [
            *self._option_string_actions, *parser._option_string_actions
        ]
        for argument in takewhile(lambda text: text != '--', self._given):
            name = argument.partition('=')[0]
            if _OPTION.fullmatch(name) and not any(
                    option.startswith(name) for option in options):
                if not re.search(rf'(?<![\w-]){re.escape(name)}', message):
                    message += f'; unknown option {name!r}'
                message += did_you_mean(name, options)
        _exit_with(f'{message}; see {parser.prog} --help')


def _chosen_subparser(parser: argparse.ArgumentParser,
                      given: List[str]) -> argparse.ArgumentParser:
    """The parser of the subcommand among the arguments, if there is one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for argument in given:
                if argument in action.choices:
                    return action.choices[argument]
    return parser


class ConfigOptions(argparse.Action):
    """Parse ``--cfg-options`` with mmengine's ``DictAction``.

    Use it with ``nargs='+'``: 'key=value' strings become a dict. mmengine is
    imported only when the option is given.
    """

    def __call__(self,
                 parser: argparse.ArgumentParser,
                 namespace: argparse.Namespace,
                 values: List[str],
                 option_string: Optional[str] = None) -> None:
        """Merge the given options into the dict of the namespace."""
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
        parser (ArgumentParser): Parser with the command's own arguments. The
            arguments of mmdet's ``tools/train.py`` are added to it, except
            the config and the work directory.

    Returns:
        Namespace: Parsed arguments.
    """
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from the given checkpoint; without a value, from the '
        'last complete checkpoint in the work dir')
    return parse_launch_args(parser)


def parse_launch_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the arguments of a command that may run in several processes.

    Args:
        parser (ArgumentParser): Parser with the command's own arguments.
            ``--cfg-options`` and ``--launcher`` are added to it.

    Returns:
        Namespace: Parsed arguments.
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
        help='job launcher; pytorch also works without a GPU (default: none)')
    # torch.distributed.launch passes this option.
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
    """Run a command and turn user errors into one line and exit status 2.

    SIGTERM unwinds the command like Ctrl-C does, so that unfinished files are
    cleaned up; the exit status is then 143. If the reader of the output has
    ended, as in ``| head``, the command ends without a traceback, with exit
    status 141.

    Args:
        main (Callable): Function that performs the command. Exceptions other
            than :class:`~tcal_det.errors.UserError` keep their traceback:
            they are defects of this package, or of a module that the config
            names.
    """
    try:
        with _unwound_by_sigterm():
            main()
            sys.stdout.flush()
    except UserError as error:
        _exit_with(str(error))
    except KeyError as error:
        # mmengine's registries report a misspelt `type` this way.
        message = str(error.args[0]) if error.args else ''
        if ' registry. ' not in message:
            raise
        _exit_with(message)
    except BrokenPipeError:
        if not _reader_has_ended():
            # Another pipe, such as that of a data loader's worker.
            raise
        # What is still buffered must not be written when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(SIGPIPE_STATUS)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _exit_with(f'files cannot be written: {error}')


def _reader_has_ended() -> bool:
    """Whether nothing reads the standard output any more, as in `| head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _exit_with(message: str) -> None:
    print(f'error: {" ".join(message.split())}', file=sys.stderr)
    sys.exit(2)


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143) once, and in this process only."""
    process = os.getpid()
    received = []

    def unwind(signum, frame):
        if os.getpid() != process:
            # A forked worker has no files to clean up.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        # A launcher may send a second one, which must not stop the clean-up.
        signal.signal(signum, signal.SIG_IGN)
        received.append(signum)
        sys.exit(SIGTERM_STATUS)

    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        # A handler is already set, e.g. by a launcher: keep it.
        yield
        return
    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except Exception:
        # torch raises an error if data loader workers got the signal as well.
        if received:
            sys.exit(SIGTERM_STATUS)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print warnings on one line, without the source line.

    For commands whose warnings describe the user's data.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *args, **kwargs: print(
            f'warning: {message}', file=sys.stderr)
        yield
