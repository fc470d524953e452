import os
import os.path as osp
import shutil
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = osp.dirname(osp.abspath(__file__))


def read(*path):
    with open(osp.join(HERE, *path), encoding='utf-8') as file:
        return file.read()


def version():
    scope = {}
    exec(read('tcal_det', 'version.py'), scope)
    return scope['__version__']


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


setup(
    name='tcal_det',
    version=version(),
    description='Detector distillation from calibrated teachers, and '
    'detection-aware calibration error, for MMDetection 3.x',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['tcal_det', 'tcal_det.*']),
    package_data={'tcal_det.report': ['templates/*']},
    cmdclass=dict(build_py=BuildWithConfigs),
    python_requires='>=3.8',
    # Packages for evaluating files. torch, mmcv, mmengine and mmdet are
    # checked when the plugin is imported, but never installed from here: two
    # families of packages have the same import names, and neither may replace
    # the user's. The names below have no version, so the versions that mmdet
    # has installed are kept. Only matplotlib has one: version 3.7 introduced
    # legends outside the axes.
    install_requires=[
        'matplotlib>=3.7', 'numpy', 'packaging', 'pycocotools', 'scipy'
    ],
    entry_points=dict(console_scripts=[
        'tcal-eval = tcal_det.cli.eval_calibration:main',
        'tcal-recalibrate = tcal_det.cli.recalibrate:main',
        'tcal-report = tcal_det.cli.report:main',
        'tcal-compare = tcal_det.cli.compare_results:main',
    ]),
    extras_require={
        # Pages of tcal-report.
        'report': ['jinja2', 'pillow', 'vl-convert-python'],
        # Corrupted images of tools/analysis_tools/robustness.py.
        'robustness': ['imagecorruptions-imaug'],
        # Faster reading of JSON files.
        'fast': ['msgspec'],
        # Class names of YOLO's data.yaml.
        'yaml': ['PyYAML'],
        # Demo data: the digits that scikit-learn bundles.
        'sklearn': ['scikit-learn'],
        # Reading and writing of .safetensors checkpoints.
        'safetensors': ['safetensors'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.8',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False)
