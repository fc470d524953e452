"""The functional package imports numpy and scipy only; imports are read."""
import ast
from pathlib import Path

import tcal_det.evaluation.functional as functional
from tcal_det import checks

ALLOWED = {
    'numpy', 'numpy.typing', 'dataclasses', 'itertools', 'math', 'numbers',
    'reprlib', 'functools', 'operator', 'scipy.fft', 'scipy.optimize',
    'scipy.special', 'typing', 'warnings', 'tcal_det.checks', 'tcal_det.errors'
}


def test_only_numpy_scipy_errors_and_checks_are_imported():
    folder = Path(functional.__file__).parent
    for path in (*folder.glob('*.py'), Path(checks.__file__)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for module in modules:
                assert module in ALLOWED, (path.name, module)


def test_every_public_name_exists():
    for name in functional.__all__:
        assert getattr(functional, name).__doc__ or name.isupper()
