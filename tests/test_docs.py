"""Links between the pages lead somewhere, and imports to public names."""
import ast
import importlib
import os.path as osp
import re
from collections import Counter
from glob import glob

import pytest

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
PAGES = sorted(
    osp.relpath(path, ROOT)
    for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md')
    for path in glob(osp.join(ROOT, pattern), recursive=True))
# A link's text may have one level of brackets, as that of a reference has.
LINK = re.compile(r'\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)')

# An import of this package, in a block of code; brackets may span lines.
IMPORT = re.compile(
    r'^ *(from tcal_det[\w.]* import (?:\([^)]*\)|.*))$', flags=re.M)


def prose(page):
    """A page's text without what is code."""
    with open(osp.join(ROOT, page), encoding='utf-8') as file:
        text = re.sub(r'^```.*?^```$', '', file.read(), flags=re.M | re.S)
    return re.sub(r'`[^`\n]+`', lambda code: code[0].replace('[', '('), text)


def anchors(page):
    """The names that GitHub gives to a page's headings."""
    found, seen = [], Counter()
    for heading in re.findall(r'^#+ +(.+?)\s*$', prose(page), flags=re.M):
        heading = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
        name = re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        # Equal headings get a number, from the second on.
        found.append(f'{name}-{seen[name]}' if seen[name] else name)
        seen[name] += 1
    return found


def targets(page):
    """File, from the root, and anchor of each link that stays here."""
    for link in LINK.findall(prose(page)):
        if not re.match(r'[a-z]+:', link):
            path, _, anchor = link.partition('#')
            path = osp.join(osp.dirname(page), path) if path else page
            yield osp.normpath(path), anchor


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
        for path in glob(
            osp.join(ROOT, 'docs/images/**/*.png'), recursive=True)
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


def public_names(package):
    """``__all__`` of a package, or None for a module, without importing it."""
    path = osp.join(ROOT, *package.split('.'), '__init__.py')
    if not osp.exists(path):
        return None
    with open(path, encoding='utf-8') as file:
        tree = ast.parse(file.read())
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
    with open(osp.join(ROOT, page), encoding='utf-8') as file:
        assert list(private_imports(file.read())) == []


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
