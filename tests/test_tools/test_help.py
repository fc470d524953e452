"""What --help says, and how soon."""
import argparse
import os
import os.path as osp
import runpy
import subprocess
import sys
from glob import glob

import pytest

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
FOLDER = osp.join(REPOSITORY, 'tools')
# The other files are imported by a command.
NOT_COMMANDS = ('__init__.py', 'dataset_converters/digit_scenes.py')
TOOLS = sorted({
    osp.relpath(path, FOLDER)
    for path in glob(osp.join(FOLDER, '**', '*.py'), recursive=True)
} - set(NOT_COMMANDS))
# Prints which of the slow modules a command imported for its help.
IMPORTS = """
import runpy, sys
sys.argv = [sys.argv[1], '--help']
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit:
    heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'cv2', 'matplotlib',
             'sklearn'}
    print('imported:', sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize('tool', TOOLS)
def test_help_waits_for_no_slow_import(tool):
    process = subprocess.run(
        [sys.executable, '-c', IMPORTS,
         osp.join(FOLDER, tool)],
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join([REPOSITORY, *sys.path[1:]])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True)
    assert process.stdout.splitlines()[-1] == 'imported: []', process.stderr


@pytest.fixture
def actions(monkeypatch):
    """All arguments of a command and of its subcommands."""

    def parse_args(parser):
        raise ParserError(parser)

    class ParserError(Exception):
        pass

    def collect(parser):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for subparser in action.choices.values():
                    yield from collect(subparser)
            else:
                yield action

    def read(tool):
        monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
        with pytest.raises(ParserError) as caught:
            runpy.run_path(osp.join(FOLDER, tool), run_name='__main__')
        return list(collect(caught.value.args[0]))

    return read


@pytest.mark.parametrize('tool', TOOLS)
def test_every_argument_has_a_text_and_every_option_its_default(tool, actions):
    found = actions(tool)
    assert len(found) > 1
    for action in found:
        name = action.option_strings or action.dest
        if action.help == argparse.SUPPRESS or isinstance(
                action, argparse._HelpAction):
            continue
        assert action.help and len(action.help.split()) > 1, name
        assert not action.help.endswith('.'), name
        if action.nargs == 0 or action.default is None:
            # A flag, or an option that is off.
            continue
        assert f'(default: {action.default})' in action.help, name
