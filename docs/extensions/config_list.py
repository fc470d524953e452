"""Directive ``config-list``: the files in ``configs/``, folder by folder."""
import os
import os.path as osp

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

CONFIGS = osp.join(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))), 'configs')


class ConfigList(SphinxDirective):
    """List of folders, each with the list of its configs."""

    def run(self):
        """Return the nodes."""
        folders = nodes.bullet_list()
        for folder in sorted(os.listdir(CONFIGS)):
            path = osp.join(CONFIGS, folder)
            if folder.startswith('_') or not osp.isdir(path):
                continue
            configs = nodes.bullet_list()
            for name in sorted(os.listdir(path)):
                if name.endswith('.py'):
                    entry = nodes.paragraph('', '', nodes.literal(name, name))
                    configs += nodes.list_item('', entry)
            title = nodes.paragraph('', '', nodes.strong(folder, folder))
            folders += nodes.list_item('', title, configs)
        return [folders]


def setup(app):
    """Register the directive."""
    app.add_directive('config-list', ConfigList)
    return dict(parallel_read_safe=True)
