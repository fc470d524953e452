"""What every command does with its arguments, its errors and SIGTERM."""
import argparse
import errno
import os
import os.path as osp
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import DictAction

from tcal_det.commands import CommandParser, ConfigOptions, run_command

OPTIONS = [
    'a.b=1', 'c=[1,2]', 'd=[(1,2),x]', "e='None'", 'f=1e-3', 'g=x=y', 'h=True',
    'i=1,2', 'j='
]


def parser(action):
    parser = argparse.ArgumentParser(prog='tool.py')
    parser.add_argument('--cfg-options', nargs='+', action=action)
    return parser


class TestConfigOptions:

    def test_values_are_those_of_mmengine(self):
        given = ['--cfg-options', *OPTIONS, '--cfg-options', 'a.b=2']
        options = parser(ConfigOptions).parse_args(given).cfg_options
        assert options == parser(DictAction).parse_args(given).cfg_options
        assert options['a.b'] == 2 and options['d'] == [(1, 2), 'x']

    def test_without_the_option(self):
        assert parser(ConfigOptions).parse_args([]).cfg_options is None

    @pytest.mark.parametrize('text', ['lr', 'a=[1,2', 'a=(1,[2)'])
    def test_what_is_no_assignment_is_one_line(self, text, capsys):
        with pytest.raises(SystemExit) as exit_:
            parser(ConfigOptions).parse_args(['--cfg-options', 'b=1', text])
        assert exit_.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            'tool.py: error: argument --cfg-options: must be KEY=VALUE with '
            f'balanced brackets, but got {text!r}')


@pytest.mark.parametrize(
    'given, error',
    [
        ('--dryrun --out a',
         "unrecognized arguments: --dryrun; did you mean '--dry-run'?; see "
         'tool.py'),
        ('--dryrun=1 --out a',
         "unrecognized arguments: --dryrun=1; did you mean '--dry-run'?; see "
         'tool.py'),
        ('--outt=a',
         'the following arguments are required: --out; unknown option '
         "'--outt'; did you mean '--out'?; see tool.py"),
        ('-out', "the following arguments are required: --out; unknown option "
         "'-out'; did you mean '--out'?; see tool.py"),
        ('--xyz --out a', 'unrecognized arguments: --xyz; see tool.py'),
        # An abbreviation, a number, and what is no option.
        ('--dry', 'the following arguments are required: --out; see tool.py'),
        ('--rate -5',
         'the following arguments are required: --out; see tool.py'),
        ('--out a fit --methd=b', 'unrecognized arguments: --methd=b; did you '
         "mean '--method'?; see tool.py fit"),
        # Only the other subcommand has it.
        ('--out a apply --methd=b', 'unrecognized arguments: --methd=b; see '
         'tool.py apply'),
    ])
def test_wrong_arguments_are_one_line(given, error, capsys):
    parser = CommandParser(prog='tool.py')
    parser.add_argument('--dry-run', action='store_true')
    parser.add_argument('--rate', type=float)
    parser.add_argument('--out', required=True)
    subparsers = parser.add_subparsers()
    subparsers.add_parser('fit').add_argument('--method')
    subparsers.add_parser('apply')
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(given.split())
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f'error: {error} --help\n'


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_line(number, capsys):

    def main():
        raise OSError(number, os.strerror(number), 'run.log')

    with pytest.raises(SystemExit) as exit_:
        run_command(main)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        f'error: files cannot be written: [Errno {number}] '
        f"{os.strerror(number)}: 'run.log'\n")


def test_other_system_errors_keep_their_traceback():

    def main():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match='Input/output error'):
        run_command(main)


WRITER = """
import os, sys, time
from tcal_det.commands import run_command
def main():
    try:
        worker = os.fork() if sys.argv[2] == 'fork' else None
        if worker != 0:
            with open(sys.argv[1], 'w') as file:
                file.write(f'worker {worker}')
        time.sleep(60)
    finally:
        os.remove(sys.argv[1])
        time.sleep(0.5)
        if sys.argv[2] == 'worker':
            raise RuntimeError('DataLoader worker is killed by signal')
run_command(main)
"""


@pytest.mark.parametrize('case', ['plain', 'twice', 'worker'])
def test_sigterm_unwinds_the_command(tmp_path, case):
    written = str(tmp_path / 'half')
    process = subprocess.Popen([sys.executable, '-c', WRITER, written, case],
                               env=dict(
                                   os.environ,
                                   PYTHONPATH=os.pathsep.join(sys.path)),
                               stderr=subprocess.PIPE)
    wait_for(lambda: osp.exists(written))
    process.send_signal(signal.SIGTERM)
    if case == 'twice':
        wait_for(lambda: not osp.exists(written))
        process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == b''
    assert process.returncode == 143
    assert not osp.exists(written)


def test_a_forked_worker_leaves_the_file_of_its_parent(tmp_path):
    written = str(tmp_path / 'half')
    process = subprocess.Popen([sys.executable, '-c', WRITER, written, 'fork'],
                               env=dict(
                                   os.environ,
                                   PYTHONPATH=os.pathsep.join(sys.path)),
                               start_new_session=True)
    try:
        wait_for(lambda: osp.exists(written) and osp.getsize(written))
        with open(written) as file:
            os.kill(int(file.read().split()[1]), signal.SIGTERM)
        time.sleep(0.2)
        assert osp.exists(written)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_handler_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    run_command(lambda: None)
    assert signal.getsignal(signal.SIGTERM) == before


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize('lines', [1, 100000])
def test_reader_of_the_output_that_ends(lines):
    """As in `tool | head`; one line is still in the buffer at the end."""
    script = ('import sys\n'
              'from tcal_det.commands import run_command\n'
              'def main():\n'
              '    sys.stdin.read()\n'
              f'    for _ in range({lines}):\n'
              '        print("text")\n'
              'run_command(main)\n')
    process = subprocess.Popen([sys.executable, '-c', script],
                               env=dict(os.environ, PYTHONUNBUFFERED=''),
                               stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b''
    assert process.wait() == 141


def test_pipe_of_a_worker_that_ends_keeps_its_traceback():
    """Only the standard output's reader may end without a word."""
    script = ('import os\n'
              'from tcal_det.commands import run_command\n'
              'def main():\n'
              '    reader, writer = os.pipe()\n'
              '    os.close(reader)\n'
              '    os.write(writer, b"text")\n'
              'run_command(main)\n')
    result = subprocess.run([sys.executable, '-c', script],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert b'BrokenPipeError' in result.stderr
