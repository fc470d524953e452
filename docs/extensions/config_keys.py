"""Directives ``config-keys`` and ``loss-keys``: arguments as config keys.

Names, defaults and texts are those of the signatures and docstrings.
``config-keys CLASS`` lists the keys of one class, given by its full name.
``loss-keys BASE`` lists those of each registered loss that derives from BASE,
under a heading, without the keys of BASE; without BASE, of all other losses.
An argument without text is a warning.
"""
import importlib
import inspect
import re
import textwrap

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

BASES = ('LogitLoss', 'FeatureLoss')
ARGS = re.compile(r'^Args:\n((?:    .*\n|\n)+)', re.M)
ARGUMENT = re.compile(r'^(\*{0,2}\w+) \((.+?)\): (.*\n(?:    .*\n|\n)*)', re.M)
logger = logging.getLogger(__name__)


def documented_arguments(cls):
    """Types and texts of the arguments of a class and its bases, by name."""
    found = {}
    for one in cls.__mro__:
        sections = ARGS.findall(inspect.cleandoc(one.__doc__ or '') + '\n')
        for section in sections:
            for name, kind, text in ARGUMENT.findall(textwrap.dedent(section)):
                found.setdefault(name, (kind, ' '.join(text.split())))
    return found


def keys_of(cls):
    """Parameters of a class by name, without ``*args`` and ``**kwargs``."""
    # Not of the class: the distiller's `__new__` takes everything.
    parameters = list(inspect.signature(cls.__init__).parameters.items())[1:]
    return {
        name: parameter
        for name, parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL,
                                  parameter.VAR_KEYWORD)
    }


def definition_list(cls, keys):
    """Lines in reStructuredText, and the names of keys without a text."""
    documented = documented_arguments(cls)
    lines = []
    for name in keys:
        kind, text = documented.get(name, ('', ''))
        default = keys[name].default
        lines += [
            f'``{name}`` : {kind.replace(", optional", "")} : ' +
            ('required' if default is inspect.Parameter.empty else
             f'default ``{default!r}``'), f'    {text}', ''
        ]
    return lines, [name for name in keys if name not in documented]


class KeysDirective(SphinxDirective):
    """Base class of both directives."""

    def keys_as_nodes(self, cls, keys):
        """Parse the definition list of some keys of a class."""
        lines, missing = definition_list(cls, keys)
        if missing:
            logger.warning(
                '%s has no text for %s',
                cls.__name__,
                missing,
                location=self.get_location())
        container = nodes.container()
        self.state.nested_parse(
            StringList(['```{eval-rst}', *lines, '```'],
                       self.get_source_info()[0]), self.content_offset,
            container)
        return container.children


class ConfigKeys(KeysDirective):
    """Definition list of the keys of a class."""
    required_arguments = 1

    def run(self):
        """Return the nodes."""
        module, _, name = self.arguments[0].rpartition('.')
        cls = getattr(importlib.import_module(module), name)
        return self.keys_as_nodes(cls, keys_of(cls))


class LossKeys(KeysDirective):
    """Section with the keys of each registered loss of a kind."""
    optional_arguments = 1

    def run(self):
        """Return the nodes."""
        from tcal_det.models import losses
        from tcal_det.registry import MODELS
        bases = tuple(getattr(losses, name) for name in BASES)
        base = getattr(losses, self.arguments[0]) if self.arguments else None
        sections = []
        for name in losses.__all__:
            cls = MODELS.module_dict.get(name)
            if cls is None or not (issubclass(cls, base)
                                   if base else not issubclass(cls, bases)):
                continue
            inherited = keys_of(base) if base else ()
            keys = {
                key: parameter
                for key, parameter in keys_of(cls).items()
                if key not in inherited
                or parameter.default != inherited[key].default
            }
            section = nodes.section(ids=[nodes.make_id(f'keys-{name}')])
            section += nodes.title(name, name)
            section += self.keys_as_nodes(cls, keys) if keys else [
                nodes.paragraph('', 'No other keys.')
            ]
            sections.append(section)
        return sections


def setup(app):
    """Register the directives."""
    app.add_directive('config-keys', ConfigKeys)
    app.add_directive('loss-keys', LossKeys)
    return dict(parallel_read_safe=True)
