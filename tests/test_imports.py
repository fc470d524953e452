"""Imports run one way: what computes knows nothing of what uses it."""
import ast
import os.path as osp
from glob import glob

import pytest

PACKAGE = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'tcal_det')
# Part of the package: what it must not import, by the dotted beginning.
PLUGIN = ('torch', 'mmdet', 'mmcv', 'mmengine', 'tcal_det.models',
          'tcal_det.engine', 'tcal_det.teachers', 'tcal_det.registry',
          'tcal_det.evaluation.metrics')
FORBIDDEN = {
    'models/losses': ('mmdet.models', 'mmdet.evaluation', 'mmdet.apis',
                      'tcal_det.models.distillers', 'tcal_det.evaluation',
                      'tcal_det.engine', 'tcal_det.visualization'),
    'models/calibrators':
    ('mmdet.models', 'mmdet.evaluation', 'mmdet.apis',
     'tcal_det.models.distillers', 'tcal_det.evaluation.metrics',
     'tcal_det.engine', 'tcal_det.visualization'),
    'models/distillers':
    ('tcal_det.engine', 'tcal_det.teachers', 'tcal_det.evaluation.metrics',
     'tcal_det.visualization'),
    'teachers': ('tcal_det.engine', ),
    'evaluation/functional': (*PLUGIN, 'tcal_det.recalibration',
                              'tcal_det.visualization', 'tcal_det.cli'),
    'evaluation': (*PLUGIN, 'tcal_det.recalibration', 'tcal_det.cli'),
    'recalibration': (*PLUGIN, 'tcal_det.visualization', 'tcal_det.cli'),
    'visualization': (*PLUGIN, 'tcal_det.cli'),
    'report': (*PLUGIN, 'tcal_det.cli'),
    'cli':
    PLUGIN,
}
# Plugs into mmengine, unlike the rest of its folder.
METRICS = osp.join(PACKAGE, 'evaluation', 'metrics', '')


def imported_modules(path):
    """Absolute names of everything a file imports, wherever it does."""
    with open(path, encoding='utf-8') as file:
        tree = ast.parse(file.read())
    package = osp.relpath(path, osp.dirname(PACKAGE)).split(osp.sep)[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level +
                           1] if node.level else []
            prefix = '.'.join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f'{prefix}.{alias.name}'


@pytest.mark.parametrize('part', sorted(FORBIDDEN))
def test_imports_run_one_way(part):
    files = glob(osp.join(PACKAGE, part, '**', '*.py'), recursive=True)
    assert files
    for path in files:
        if path.startswith(METRICS):
            continue
        for module in imported_modules(path):
            for forbidden in FORBIDDEN[part]:
                assert not f'{module}.'.startswith(f'{forbidden}.'), (
                    f'{osp.relpath(path, PACKAGE)} imports {module}')


def test_relative_imports_are_resolved():
    path = osp.join(PACKAGE, 'models', 'losses', 'logit_kl_div_loss.py')
    modules = set(imported_modules(path))
    assert 'tcal_det.models.logits.at_least_float32' in modules
    assert 'torch.nn.functional' in modules
