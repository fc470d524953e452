"""Links that Sphinx does not resolve itself.

Pages are also read on GitHub, where a relative link may lead to any file of
the repository. On the site a link to a page in the root of the repository
leads to the page that includes it; a link to README.md to the first page. MyST
makes a link to another file outside of ``docs/`` a download. Of a link to a
folder or to a page in it, the text is kept.

Docstrings name functions and classes of other modules by their short names. A
short name becomes a link if only one documented object has it. A name that
only undocumented code has is kept as text. All others are warnings.
"""
import os.path as osp
import re
from functools import lru_cache
from glob import glob

from sphinx import addnodes
from sphinx.util.nodes import make_refnode

ROOT = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
DEFINITION = re.compile(r'^ *(?:def|class) (\w+)', re.M)


@lru_cache(maxsize=None)
def defined_names():
    """Names of all modules, classes and functions of the package."""
    names = set()
    for path in glob(osp.join(ROOT, 'tcal_det', '**', '*.py'), recursive=True):
        with open(path, encoding='utf-8') as file:
            names.update(DEFINITION.findall(file.read()))
        names.add(osp.splitext(osp.basename(path))[0])
    return names


def lead_to_including_page(app, doctree):
    """Change links to pages of the repository that are not of the site."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        folder, name = osp.split(node['reftarget'])
        if node.get('refdomain') != 'doc' or not osp.isabs(folder):
            continue
        if folder != ROOT:
            node.replace_self(node.children)
        elif name == 'README':
            node['reftarget'], node['reftargetid'] = 'index', None
        else:
            node['reftarget'] = f'contribute/{name}'


def resolve_name(app, env, node, text):
    """Resolve the short name of an object of the package."""
    if node.get('refdomain') != 'py':
        return None
    target = node['reftarget']
    found = [(name, entry)
             for name, entry in env.domaindata['py']['objects'].items()
             if name.endswith(f'.{target}') and not entry.aliased]
    if len(found) == 1:
        (name, entry), = found
        return make_refnode(app.builder, node['refdoc'], entry.docname,
                            entry.node_id, text, name)
    return text if target in defined_names() else None


def keep_text(app, env, node, text):
    """Return the text of a link whose target is a folder."""
    if node['reftype'] != 'myst':
        return None
    page = osp.dirname(env.doc2path(node['refdoc']))
    path = node['reftarget'].partition('#')[0]
    return text if path and osp.isdir(osp.join(page, path)) else None


def setup(app):
    """Connect the functions to Sphinx."""
    app.connect('doctree-read', lead_to_including_page)
    app.connect('missing-reference', resolve_name)
    app.connect('missing-reference', keep_text)
    return dict(parallel_read_safe=True)
