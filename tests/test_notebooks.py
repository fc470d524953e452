"""Notebooks are stored without outputs; ``make notebooks`` runs them."""
import ast
import importlib
import json
import os.path as osp
import re
from glob import glob

import pytest

from tests.pages import LINK, ROOT, anchors

NOTEBOOKS = sorted(
    glob(osp.join(ROOT, 'docs', 'notebooks', '*.ipynb')), key=osp.basename)


def cells(path, kind):
    with open(path, encoding='utf-8') as file:
        return [
            cell for cell in json.load(file)['cells']
            if cell['cell_type'] == kind
        ]


def test_there_are_notebooks_and_the_index_names_each():
    with open(osp.join(ROOT, 'docs', 'notebooks', 'index.md')) as file:
        index = file.read()
    assert len(NOTEBOOKS) > 1
    assert all(f'({osp.basename(path)})' in index for path in NOTEBOOKS)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=osp.basename)
def test_outputs_are_not_stored(path):
    assert cells(path, 'code')
    for cell in cells(path, 'code'):
        assert cell['outputs'] == []
        assert cell['execution_count'] is None


@pytest.mark.parametrize('path', NOTEBOOKS, ids=osp.basename)
def test_code_is_that_of_the_oldest_python(path):
    for cell in cells(path, 'code'):
        ast.parse(''.join(cell['source']), feature_version=(3, 8))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=osp.basename)
def test_links_lead_to_files_and_headings(path):
    text = '\n'.join(''.join(one['source']) for one in cells(path, 'markdown'))
    links = [one for one in LINK.findall(text) if not re.match('[a-z]+:', one)]
    assert links
    for link in links:
        target, _, anchor = link.partition('#')
        target = osp.join(osp.dirname(path), target)
        assert osp.exists(target), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize('path', NOTEBOOKS, ids=osp.basename)
def test_imported_names_exist(path):
    code = '\n'.join(''.join(one['source']) for one in cells(path, 'code'))
    imports = [
        node for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module[:8] == 'tcal_det'
    ]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module)
        for name in node.names:
            assert hasattr(module, name.name), f'{node.module}.{name.name}'
