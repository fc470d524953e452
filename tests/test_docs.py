"""Links of the pages lead somewhere, and what they quote is in the code."""
import ast
import importlib
import os.path as osp
import re
from glob import glob

import pytest

from tcal_det.evaluation.file_comparison import compare_files
from tcal_det.evaluation.file_evaluation import evaluate_files
from tcal_det.evaluation.formats import load_annotations_and_results
from tcal_det.recalibration import fit_recalibration
from tests.pages import ROOT, anchors, targets

PAGES = sorted(
    osp.relpath(path, ROOT)
    for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md')
    for path in glob(osp.join(ROOT, pattern), recursive=True))
# An import of this package, in a block of code; brackets may span lines.
IMPORT = re.compile(
    r'^ *(from tcal_det[\w.]* import (?:\([^)]*\)|.*))$', flags=re.M)


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_to_files_and_headings(page):
    broken = [
        f'{path}#{anchor}' for path, anchor in targets(page)
        if not osp.exists(osp.join(ROOT, path)) or (
            anchor and anchor not in anchors(path))
    ]
    assert broken == []


def test_each_picture_is_shown():
    shown = {path for page in PAGES for path, _ in targets(page)}
    pictures = {
        osp.relpath(path, ROOT)
        for suffix in ('png', 'svg')
        for path in glob(
            osp.join(ROOT, f'docs/images/**/*.{suffix}'), recursive=True)
    }
    assert pictures - shown == set()


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# 1. Does `T = 3` help?\n## In short: [a](b.md)\n'
                    '```bash\n# no heading\n```\n## Snake_case & more\n'
                    '## In short: a\n### In short: a\n')
    assert anchors(str(page)) == [
        '1-does-t--3-help', 'in-short-a', 'snake_case--more', 'in-short-a-1',
        'in-short-a-2'
    ]


def test_targets_are_those_that_stay_here(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('[a](b.md#c) ![d](e.png) [f](https://g.org/h) [i\nj](#k)\n'
                    '`[l](m)` [[n] o](../p)\n')
    beside, above = str(tmp_path), str(tmp_path.parent)
    assert list(targets(str(page))) == [
        (f'{beside}/b.md', 'c'),
        (f'{beside}/e.png', ''),
        (f'{beside}/page.md', 'k'),
        (f'{above}/p', ''),
    ]


def read(path):
    with open(osp.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def syntax_trees(folder):
    """Syntax trees of all modules of a folder."""
    for path in sorted(
            glob(osp.join(ROOT, folder, '**', '*.py'), recursive=True)):
        yield ast.parse(read(path))


def formulas_of(docstring):
    """Formulas of a docstring, without line breaks."""
    found = re.findall(r'^ *\.\. math::\n((?:\n| {4,}.*\n)+)',
                       docstring + '\n', re.M)
    return {' '.join(formula.split()) for formula in found}


def test_formulas_of_the_methods_are_those_of_the_losses():
    of_losses, of_classes = set(), set()
    for tree in syntax_trees('tcal_det/models/losses'):
        for node in ast.walk(tree):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found = formulas_of(ast.get_docstring(node) or '')
                of_losses |= found
                if isinstance(node, ast.ClassDef):
                    of_classes |= found
    of_pages = {
        ' '.join(formula.split())
        for page in ('methods', 'beyond_logits')
        for formula in re.findall('^```math\n(.*?)^```$',
                                  read(f'docs/reference/{page}.md'), re.M
                                  | re.S)
    }
    assert len(of_classes) > 20
    assert of_classes - of_pages == set()
    assert of_pages - of_losses == set()


def message_of(node):
    """Text of a string in the code, with a gap for each value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return ''.join(message_of(part) or '\0' for part in node.values)
    if isinstance(node, ast.BinOp):
        return ''.join(
            message_of(part) or '\0' for part in (node.left, node.right))
    return None


def test_listed_errors_are_those_of_the_package():
    messages = {
        message_of(node)
        for tree in syntax_trees('tcal_det')
        for node in ast.walk(tree)
    } - {None}
    listed = re.findall(r'^\| (`+) ?(.+?) ?\1 \|',
                        read('docs/reference/errors.md'), re.M)
    assert len(listed) > 30
    unknown = [
        message for _, message in listed if not any(
            re.search(
                '.*'.join(
                    re.escape(part.strip())
                    for part in message.split('...')), known, re.S)
            for known in messages)
    ]
    assert unknown == []


def test_every_command_has_its_help_in_the_reference():
    shown = set(
        re.findall(r'^```\{command-help\} (\S+)',
                   read('docs/reference/commands.md'), re.M))
    console = set(re.findall(r'^(tcal-\w+) = ', read('pyproject.toml'), re.M))
    tools = {
        osp.relpath(path, ROOT)
        for path in glob(
            osp.join(ROOT, 'tools', '**', '*.py'), recursive=True)
        # The others are commands, or modules that commands import.
        if 'add_argument' in read(path)
    }
    assert len(console) > 3
    assert console | tools == shown


def test_every_type_has_its_keys_in_the_reference():
    page = read('docs/reference/config_keys.md')
    types = {
        node.name
        for folder in ('tcal_det/models', 'tcal_det/engine',
                       'tcal_det/evaluation/metrics')
        for tree in syntax_trees(folder)
        for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and any(
            'register_module' in ast.dump(one) for one in node.decorator_list)
    }
    assert len(types) > 30
    # The directive `loss-keys` lists the losses.
    assert {
        name
        for name in types if not name.endswith('Loss') and name not in page
    } == set()


def test_keys_of_written_files_are_in_the_reference():
    ground_truth, results = (
        osp.join(ROOT, 'tests/data/golden', f'det_small_{name}.json')
        for name in ('gt', 'dt'))
    objects, detections, categories = load_annotations_and_results(
        ground_truth, results)
    evaluation = evaluate_files(ground_truth, results, position_min_samples=1)
    recalibration = fit_recalibration(objects, detections, categories, 'platt')
    comparison = compare_files(
        ground_truth, [results] * 2, num_resamples=40, num_workers=1)
    contents = [
        evaluation.to_dict(),
        evaluation.to_dict()['bins']['overall']['d_ece'],
        recalibration.to_json_dict(),
        *recalibration.to_json_dict()['classes'],
        comparison.to_dict(),
        *comparison.to_dict()['results'],
        comparison.to_dict()['results'][0]['figures']['d_ece'],
        comparison.to_dict()['differences'][0]['d_ece'],
    ]
    page = read('docs/reference/file_formats.md')
    assert [
        key for content in contents for key in content
        if f'`{key}`' not in page
    ] == []


def test_every_package_is_in_the_architecture():
    page = read('docs/architecture.md')
    packages = {
        osp.relpath(osp.dirname(path), osp.join(ROOT, 'tcal_det'))
        for path in glob(osp.join(ROOT, 'tcal_det', '*', '__init__.py'))
    } | {
        osp.relpath(osp.dirname(path), osp.join(ROOT, 'tcal_det'))
        for path in glob(
            osp.join(ROOT, 'tcal_det', 'models', '*', '__init__.py'))
    }
    assert len(packages) > 10
    assert {one
            for one in packages if f'| `{one}` |' not in page} == {'models'}


def public_names(package):
    """``__all__`` of a package, or None for a module, without importing it."""
    path = osp.join(*package.split('.'), '__init__.py')
    if not osp.exists(osp.join(ROOT, path)):
        return None
    tree = ast.parse(read(path))
    return next(
        (ast.literal_eval(node.value) for node in tree.body
         if isinstance(node, ast.Assign) and node.targets[0].id == '__all__'),
        None)


def private_imports(text):
    """Names that a text imports although no ``__all__`` has them."""
    for statement in IMPORT.findall(text):
        node, = ast.parse(statement).body
        names = public_names(node.module)
        # The registries are mmengine's way of adding a part.
        if names is None and node.module != 'tcal_det.registry':
            yield node.module
        elif names is not None:
            yield from (alias.name for alias in node.names
                        if alias.name not in names)


@pytest.mark.parametrize('page', PAGES)
def test_users_import_public_names(page):
    if page.startswith(osp.join('docs', 'contribute')):
        pytest.skip('about the code of the package')
    assert list(private_imports(read(page))) == []


def test_private_imports_are_found():
    assert list(
        private_imports(
            '    from tcal_det.evaluation import (slice_by,\n'
            '                                     nothing)\n'
            'from tcal_det.evaluation.slices import image_attribute\n'
            'from tcal_det.registry import MODELS\n')) == [
                'nothing', 'tcal_det.evaluation.slices'
            ]


@pytest.mark.parametrize('package', [
    'tcal_det.evaluation', 'tcal_det.evaluation.formats',
    'tcal_det.evaluation.functional', 'tcal_det.recalibration',
    'tcal_det.report', 'tcal_det.visualization'
])
def test_public_names_exist(package):
    names = public_names(package)
    assert len(set(names)) == len(names)
    module = importlib.import_module(package)
    assert [name for name in names if not hasattr(module, name)] == []
