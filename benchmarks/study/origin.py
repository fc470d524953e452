"""Where a row of results comes from."""
import platform
import re
import subprocess
from importlib import import_module
from typing import Any, Dict, Sequence


def describe_origin(paths: Sequence[str],
                    packages: Sequence[str]) -> Dict[str, Any]:
    """Commit and versions of what makes a row.

    Args:
        paths (sequence[str]): Files and folders of the code that runs. Rows
            of results in them (.jsonl) are not code.
        packages (sequence[str]): Names of the packages that it needs.

    Returns:
        dict: 'commit', marked with '+changes' if ``paths`` differ from it;
        'stack', versions of Python and the packages; and 'cpu', the kind of
        CPU, on which the last bits of a result depend.
    """
    commit = _git('rev-parse', '--short', 'HEAD') or 'unknown'
    if _git('status', '--porcelain', '--untracked-files=no', '--', *paths,
            ':(exclude)*.jsonl'):
        commit += '+changes'
    return dict(
        commit=commit,
        stack=dict(
            python=platform.python_version(),
            **{name: import_module(name).__version__
               for name in packages}),
        cpu=_cpu())


def _cpu() -> str:
    """Vendor, family and model, or implementer and part; else as Python."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            text = file.read()
    except OSError:
        text = ''
    values = (
        re.search(rf'^{key}\s*: (.*)$', text, flags=re.M)
        for key in ('vendor_id', 'cpu family', 'model', 'CPU implementer',
                    'CPU part'))
    found = ' '.join(value.group(1) for value in values if value)
    return found or platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    return subprocess.run(['git', *arguments],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL,
                          universal_newlines=True).stdout.strip()
