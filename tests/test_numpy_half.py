"""Files are evaluated where numpy, scipy and matplotlib are all there is."""
import json
import os.path as osp
import subprocess
import sys

import pytest

from tests.blocked_imports import BLOCK

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
GOLDEN = osp.join(ROOT, 'tests', 'data', 'golden')
WALK = '''
import importlib
import pkgutil

import tcal_det

HALF = ('tcal_det.evaluation', 'tcal_det.visualization', 'tcal_det.commands',
        'tcal_det.checks', 'tcal_det.errors', 'tcal_det.fileio',
        'tcal_det.recalibration', 'tcal_det.cli', 'tcal_det.report')


def walk(package):
    for one in pkgutil.iter_modules(package.__path__, f'{package.__name__}.'):
        if not one.name.startswith(HALF):
            continue
        if one.name == 'tcal_det.evaluation.metrics':
            continue
        module = importlib.import_module(one.name)
        print(one.name)
        if one.ispkg:
            walk(module)


walk(tcal_det)
'''


def run_blocked(code, *args):
    """Run Python code that sees the numpy half's requirements alone."""
    return subprocess.run([sys.executable, '-c', BLOCK + code, *args],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)


@pytest.mark.parametrize('module', ['torch', 'mmengine', 'sklearn'])
def test_block_works(module):
    done = run_blocked(f'import {module}')
    assert done.returncode == 1 and module in done.stderr.splitlines()[-1]


def test_every_module_is_imported():
    done = run_blocked(WALK)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert 'tcal_det.evaluation.functional.matching' in modules
    assert 'tcal_det.visualization.reliability_diagram' in modules
    assert not [one for one in modules if 'metrics' in one]


def test_plugin_says_what_it_needs():
    done = run_blocked('import tcal_det.registry')
    assert done.returncode == 1
    # Where torch is installed, its metadata can be read though it is blocked.
    message = done.stderr.splitlines()[-1]
    assert 'blocked: mmdet' in message or (
        'the MMDetection plugin of tcal_det needs torch' in message)


def test_file_is_evaluated(tmp_path):
    out = tmp_path / 'out.json'
    done = run_blocked(
        'import runpy, sys; sys.argv[0] = "eval_calibration.py"; '
        'runpy.run_path("tools/analysis_tools/eval_calibration.py", '
        'run_name="__main__")', osp.join(GOLDEN, 'det_small_gt.json'),
        osp.join(GOLDEN, 'det_small_dt.json'), '--out', str(out), '--plot',
        str(tmp_path / 'figures'))
    assert done.returncode == 0, done.stderr
    # By hand, see the notes in det_small.json.
    d_ece = json.loads(out.read_text())['overall']['d_ece']
    assert d_ece == pytest.approx(2.23 / 7, abs=1e-12)
    assert list((tmp_path / 'figures').iterdir())
