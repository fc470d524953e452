"""The part of the build that pyproject.toml cannot say."""
import os
import os.path as osp
import setuptools
import shutil
from setuptools.command.build_py import build_py

HERE = osp.dirname(osp.abspath(__file__))

# An older setuptools ignores the table [project] and would install a package
# without a name. `pip install --no-build-isolation` takes the one that is
# there and does not compare it with what pyproject.toml requires.
if int(setuptools.__version__.split('.')[0]) < 61:
    raise SystemExit('error: tcal_det is built with setuptools>=61, but found '
                     f"{setuptools.__version__}: pip install 'setuptools>=61'")


class BuildWithConfigs(build_py):
    """Copy configs and tools into the package, where mim looks for them."""

    def run(self):
        super().run()
        editable = getattr(self, 'editable_mode', False)
        folder = osp.join(HERE if editable else self.build_lib, 'tcal_det',
                          '.mim')
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        for name in ('configs', 'tools', 'model-index.yml'):
            source, target = osp.join(HERE, name), osp.join(folder, name)
            if editable:
                os.symlink(osp.join('..', '..', name), target)
            elif osp.isdir(source):
                shutil.copytree(source, target)
            else:
                shutil.copy(source, target)


setuptools.setup(cmdclass=dict(build_py=BuildWithConfigs))
