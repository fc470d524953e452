"""What `pip install` brings runs away from the repository."""
import os
import os.path as osp
import shutil
import subprocess
import sys
import tarfile
from glob import glob

import pytest

from tests.blocked_imports import BLOCK

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
GOLDEN = osp.join(ROOT, 'tests', 'data', 'golden')
PROJECT_FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md',
                 'LICENSE', 'model-index.yml', 'CHANGELOG.md', 'CITATION.cff',
                 'CONTRIBUTING.md', 'SECURITY.md',
                 'requirements/mminstall.txt')
COMMANDS = ('tcal-eval', 'tcal-recalibrate', 'tcal-report', 'tcal-compare')


def run(*command, **options):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    """A source distribution, made from a copy without build folders.

    setuptools packs in the folder of the sources, where another process of
    the tests may be packing too.
    """
    folder = str(tmp_path_factory.mktemp('sdist'))
    sources = osp.join(folder, 'sources')
    os.makedirs(sources)
    for name in ('tcal_det', 'configs', 'tools'):
        shutil.copytree(
            osp.join(ROOT, name),
            osp.join(sources, name),
            ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    for name in PROJECT_FILES:
        os.makedirs(osp.dirname(osp.join(sources, name)), exist_ok=True)
        shutil.copy(osp.join(ROOT, name), osp.join(sources, name))
    run(sys.executable,
        'setup.py',
        '--quiet',
        'sdist',
        '--dist-dir',
        folder,
        cwd=sources)
    path, = glob(osp.join(folder, '*.tar.gz'))
    return path


@pytest.fixture(scope='module', params=['sdist', 'wheel'])
def installed(request, sdist, tmp_path_factory):
    """Folder with the package and its scripts, and nothing else.

    The wheel is built from the unpacked source distribution, as a package
    index would, so that both hold what they need.
    """
    folder = str(tmp_path_factory.mktemp(request.param))
    distribution = sdist
    pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check',
           '--quiet')
    if request.param == 'wheel':
        run(*pip, 'wheel', '--no-deps', '--no-build-isolation', '--wheel-dir',
            folder, sdist)
        distribution, = glob(osp.join(folder, '*.whl'))
    target = osp.join(folder, 'target')
    run(*pip, 'install', '--no-deps', '--no-build-isolation', '--no-index',
        '--target', target, distribution)
    return target


def test_source_distribution_holds_configs_and_tools(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert {
        'configs/_base_/datasets/digits.py', 'tools/train.py', *PROJECT_FILES
    } <= names
    assert not [name for name in names if name.endswith('.pyc')]


def test_package_is_imported_from_where_it_was_installed(installed, tmp_path):
    found = run(
        sys.executable,
        '-c',
        'import tcal_det; print(tcal_det.__file__)',
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=installed))
    assert found.startswith(installed)


@pytest.mark.parametrize('command', COMMANDS)
def test_command_explains_itself(installed, tmp_path, command):
    script = osp.join(installed, 'bin', command)
    text = run(
        sys.executable,
        script,
        '--help',
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=installed))
    assert text.startswith(f'usage: {command}')


def test_file_is_evaluated_without_torch(installed, tmp_path):
    code = (f'{BLOCK}\nimport runpy\nsys.argv = sys.argv[1:]\n'
            'runpy.run_path(sys.argv[0], run_name="__main__")')
    text = run(
        sys.executable,
        '-c',
        code,
        osp.join(installed, 'bin', 'tcal-eval'),
        osp.join(GOLDEN, 'det_small_gt.json'),
        osp.join(GOLDEN, 'det_small_dt.json'),
        '--out',
        'out.json',
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=installed))
    assert 'D-ECE                       0.3186' in text
    assert (tmp_path / 'out.json').exists()


def test_wheel_has_no_tests_and_no_torch_requirement(installed):
    metadata, = glob(osp.join(installed, 'tcal_det-*', 'METADATA'))
    with open(metadata, encoding='utf-8') as file:
        required = [
            line.split(':')[1].split(';')[0].strip() for line in file
            if line.startswith('Requires-Dist') and 'extra ==' not in line
        ]
    assert not [one for one in required if one.startswith(('torch', 'mm'))]
    assert not osp.exists(osp.join(installed, 'tests'))


def test_type_checkers_see_the_types(installed):
    assert osp.isfile(osp.join(installed, 'tcal_det', 'py.typed'))


def test_mim_finds_configs_and_tools(installed):
    folder = osp.join(installed, 'tcal_det', '.mim')
    assert set(os.listdir(folder)) == {'configs', 'tools', 'model-index.yml'}


def test_templates_of_the_page_are_installed(installed):
    folder = osp.join('tcal_det', 'report', 'templates')
    assert sorted(os.listdir(osp.join(installed, folder))) == sorted(
        os.listdir(osp.join(ROOT, folder)))
