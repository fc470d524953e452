"""Python in which only the requirements of `pip install` are imported."""

# Brought by one of numpy, scipy, matplotlib and pycocotools; nothing else of
# the environment of the tests may be imported.
BLOCK = '''
import sys
import sysconfig
from importlib.machinery import PathFinder

ALLOWED = {'tcal_det', 'numpy', 'scipy', 'matplotlib', 'pycocotools',
           'mpl_toolkits', 'packaging', 'PIL', 'kiwisolver', 'cycler',
           'contourpy', 'dateutil', 'six', 'pyparsing', 'fontTools',
           'importlib_resources', 'zipp'}
INSTALLED = tuple(sysconfig.get_path(name) for name in ('purelib', 'platlib'))


class Block:

    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top in ALLOWED or top in sys.builtin_module_names:
            return None
        spec = PathFinder.find_spec(top)
        if spec is None:
            return None
        origin = spec.origin or str(spec.submodule_search_locations or '')
        if any(folder in origin for folder in INSTALLED):
            raise ModuleNotFoundError(f'blocked: {name}', name=name)
        return None


sys.meta_path.insert(0, Block())
'''
