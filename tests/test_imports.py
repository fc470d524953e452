"""Imports run one way: what computes does not import what uses it."""
import ast
import os
import os.path as osp
from glob import glob

import pytest

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
# Modules and subpackages of a package, from the lowest layer to the highest. A
# part imports parts of lower layers only, and none of its own layer.
LAYERS = {
    'tcal_det': (
        ('errors', 'suggestions', 'teacher_options', 'version'),
        ('checks', 'commands', 'config_file', 'dataset_files', 'fileio',
         'requirements_check', 'restricted_pickle', 'tables'),
        ('registry', 'torch_pickle'),
        ('checkpoint_file', 'evaluation'),
        ('recalibration', 'visualization'),
        ('report', ),
        ('cli', 'models'),
        ('teachers', ),
        ('engine', 'robustness'),
    ),
    'tcal_det.models': (
        ('class_names', 'configured_part', 'logits'),
        ('activation_bridges', 'calibrators', 'detectors', 'losses',
         'mixture'),
        ('head_adapters', ),
        ('class_correspondence', ),
        ('class_matching', ),
        ('distillers', ),
    ),
}
TORCH = ('torch', 'torchvision', 'mmdet', 'mmcv', 'mmengine',
         'tcal_det.registry', 'tcal_det.evaluation.metrics')
# What the layers do not say: modules that a part does not import although they
# are below it, or not of this package.
FORBIDDEN = {
    'checks':
    TORCH,
    'cli':
    TORCH,
    'errors':
    TORCH,
    # The metrics plug into mmengine, unlike the rest of this folder.
    'evaluation':
    TORCH,
    'fileio':
    TORCH,
    'suggestions':
    TORCH,
    'models': ('mmdet.apis', 'mmdet.evaluation', 'mmdet.engine',
               'tcal_det.evaluation.metrics', 'tcal_det.report',
               'tcal_det.visualization'),
    'models.calibrators': ('mmdet.models', ),
    'models.losses': ('mmdet.models', 'tcal_det.evaluation'),
    'recalibration':
    TORCH,
    'report':
    TORCH,
    'requirements_check':
    TORCH,
    'restricted_pickle':
    TORCH,
    'tables':
    TORCH,
    'teacher_options':
    TORCH,
    'version':
    TORCH,
    'visualization':
    TORCH,
}
METRICS = osp.join('tcal_det', 'evaluation', 'metrics', '')
# Imports inside a function, against the direction: file and module.
DEFERRED = {
    # Constructors of Detections from the objects of other libraries.
    ('tcal_det/evaluation/functional/coco_arrays.py',
     'tcal_det.evaluation.formats'),
    # Only for a pickle that names torch.
    ('tcal_det/restricted_pickle.py', 'tcal_det.torch_pickle'),
}


def files_of(package):
    """Paths of a package's modules, or of a module, from the root."""
    path = osp.join(ROOT, *package.split('.'))
    found = glob(
        osp.join(path, '**', '*.py'), recursive=True) or [f'{path}.py']
    return [
        osp.relpath(one, ROOT) for one in sorted(found)
        if f'{os.sep}.mim{os.sep}' not in one
    ]


def statements(node):
    """Walk over the code that runs: not over what is for type checkers."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name)
                and child.test.id == 'TYPE_CHECKING'):
            yield from statements(child)


def imported_modules(path):
    """Absolute names of everything a file imports, wherever it does."""
    with open(osp.join(ROOT, path), encoding='utf-8') as file:
        tree = ast.parse(file.read())
    package = path.split(osp.sep)[:-1]
    for node in statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level +
                           1] if node.level else []
            prefix = '.'.join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f'{prefix}.{alias.name}'


def begins_with(module, prefix):
    return f'{module}.'.startswith(f'{prefix}.')


def parts_of(package):
    """Names of the modules and subpackages right inside a package."""
    folder = osp.join(ROOT, *package.split('.'))
    return {
        osp.splitext(name)[0]
        for name in os.listdir(folder)
        if (name.endswith('.py') and name != '__init__.py')
        or osp.isfile(osp.join(folder, name, '__init__.py'))
    }


def packages():
    return [
        osp.dirname(path).replace(os.sep, '.') for path in files_of('tcal_det')
        if osp.basename(path) == '__init__.py'
    ]


def imports_between_parts(package):
    """Yield importing part, imported part and importing file."""
    parts = parts_of(package)
    for part in sorted(parts):
        for path in files_of(f'{package}.{part}'):
            for module in imported_modules(path):
                if not begins_with(module, package) or any(
                        path == file and begins_with(module, deferred)
                        for file, deferred in DEFERRED):
                    continue
                imported = module[len(package) + 1:].split('.')[0]
                assert imported in parts, (
                    f'{path} imports {module}: name the module that has it')
                if imported != part:
                    yield part, imported, path


@pytest.mark.parametrize('package', LAYERS)
def test_each_part_is_in_one_layer(package):
    listed = [part for layer in LAYERS[package] for part in layer]
    assert sorted(listed) == sorted(parts_of(package))


@pytest.mark.parametrize('package', LAYERS)
def test_parts_import_lower_layers_only(package):
    height = {
        part: number
        for number, layer in enumerate(LAYERS[package])
        for part in layer
    }
    upwards = [
        f'{path} imports {imported}'
        for part, imported, path in imports_between_parts(package)
        if height[imported] >= height[part]
    ]
    assert upwards == []


@pytest.mark.parametrize('package', packages())
def test_parts_do_not_import_each_other_in_a_circle(package):
    imports = {part: set() for part in parts_of(package)}
    for part, imported, _ in imports_between_parts(package):
        imports[part].add(imported)
    while True:
        # A part that imports none of the rest is in no circle.
        free = [part for part, rest in imports.items() if not rest]
        if not free:
            break
        imports = {
            part: rest.difference(free)
            for part, rest in imports.items() if part not in free
        }
    assert imports == {}


@pytest.mark.parametrize('part', FORBIDDEN)
def test_part_does_not_import(part):
    found = [
        f'{path} imports {module}' for path in files_of(f'tcal_det.{part}')
        if FORBIDDEN[part] is not TORCH or not path.startswith(METRICS)
        for module in imported_modules(path) if any(
            begins_with(module, one) for one in FORBIDDEN[part])
    ]
    assert found == []


@pytest.mark.parametrize(('path', 'module'), sorted(DEFERRED))
def test_deferred_import_is_inside_a_function(path, module):
    with open(osp.join(ROOT, path), encoding='utf-8') as file:
        tree = ast.parse(file.read())
    at_the_top = [
        node for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert any(begins_with(one, module) for one in imported_modules(path))
    assert module.rpartition('.')[2] not in ''.join(
        ast.dump(node) for node in at_the_top)


def test_relative_imports_are_resolved():
    path = osp.join('tcal_det', 'models', 'losses', 'logit_kl_div_loss.py')
    modules = set(imported_modules(path))
    assert 'tcal_det.models.logits.at_least_float32' in modules
    assert 'torch.nn.functional' in modules
