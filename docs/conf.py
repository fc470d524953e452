"""Settings of the documentation site, which ``make docs`` builds."""
import os.path as osp
import sys

HERE = osp.dirname(osp.abspath(__file__))
sys.path[:0] = [osp.dirname(HERE), osp.join(HERE, 'extensions')]

from tcal_det.version import __version__  # noqa: E402

project = 'tcal_det'
copyright = 'tcal_det contributors'
version = release = __version__
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.doctest',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'sphinx-mathjax-offline',
    'command_help',
    'config_list',
    'config_keys',
    'links',
]
html_theme = 'furo'
html_title = f'tcal_det {version}'

# Anchors are those of GitHub, where the same pages are read.
myst_heading_anchors = 4
myst_fence_as_directive = ['math']

# Docstrings have the types, with shapes; the signature has the defaults.
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
# As `ivar`, an attribute in a docstring is not described a second time.
napoleon_use_ivar = True

# `pytest --doctest-modules` runs the examples of the docstrings. Here the
# code of the pages that is marked as {testcode} is run.
doctest_test_doctest_blocks = ''

# Types in docstrings are words such as 'list[Tensor]' or 'optional', and
# classes of other libraries, to which there are no links.
nitpick_ignore_regex = [('py:class', r'(?!tcal_det\.).*')]
