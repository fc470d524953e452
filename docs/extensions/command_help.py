"""Directive ``command-help``: what ``COMMAND --help`` prints.

Its argument is a file in ``tools/`` or a console script of pyproject.toml,
optionally followed by a subcommand.
"""
import os
import os.path as osp
import re
import subprocess
import sys

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


def arguments_of(command):
    """Return the arguments of Python that run a command of this project."""
    if command.startswith('tools/'):
        return [osp.join(ROOT, command)]
    with open(osp.join(ROOT, 'pyproject.toml'), encoding='utf-8') as file:
        module, = re.findall(rf'^{command} = "([\w.]+):main"', file.read(),
                             re.M)
    code = f'import sys; sys.argv[0] = {command!r}; '
    return ['-c', f'{code}from {module} import main; main()']


def help_of(command, *subcommands):
    """Return the help of a command of this project."""
    paths = [ROOT, os.environ.get('PYTHONPATH', '')]
    return subprocess.run(
        [sys.executable, *arguments_of(command), *subcommands, '--help'],
        check=True,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, COLUMNS='80', PYTHONPATH=os.pathsep.join(paths)),
    ).stdout


class CommandHelp(SphinxDirective):
    """Literal block with the help of a command."""
    required_arguments = 1
    optional_arguments = 1

    def run(self):
        text = help_of(*self.arguments).strip()
        return [nodes.literal_block(text, text, language='none')]


def setup(app):
    app.add_directive('command-help', CommandHelp)
    return dict(parallel_read_safe=True)
