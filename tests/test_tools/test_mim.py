"""What a normal install holds for mim, whose commands look into `.mim`."""
import os
import os.path as osp
import subprocess
import sys

import pytest

REPOSITORY = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    """The folder of the package as it would be installed."""
    folder = str(tmp_path_factory.mktemp('build'))
    subprocess.run([
        sys.executable, 'setup.py', '--quiet', 'build_py', '--build-lib',
        folder
    ],
                   cwd=REPOSITORY,
                   check=True)
    return osp.join(folder, 'tcal_det')


@pytest.mark.parametrize('command', ['distill', 'train', 'calibrate_teacher'])
def test_mim_finds_one_command_of_a_name(package, command):
    found = [
        folder
        for folder, _, files in os.walk(osp.join(package, '.mim', 'tools'))
        if f'{command}.py' in files
    ]
    assert found == [osp.join(package, '.mim', 'tools')]


def test_command_needs_nothing_of_the_repository(package, tmp_path):
    """As `mim run tcal_det distill` calls it."""
    process = subprocess.run([
        sys.executable,
        osp.join(package, '.mim', 'tools', 'distill.py'), '--help'
    ],
                             cwd=str(tmp_path),
                             env=dict(
                                 os.environ, PYTHONPATH=osp.dirname(package)),
                             stdout=subprocess.PIPE,
                             universal_newlines=True,
                             check=True)
    assert '--calibrate' in process.stdout


def test_digits_are_composed_from_an_install(package, tmp_path):
    """As `mim run tcal_det digits_to_coco`: the file beside it is imported."""
    pytest.importorskip('sklearn')
    subprocess.run([
        sys.executable,
        osp.join(package, '.mim', 'tools', 'dataset_converters',
                 'digits_to_coco.py'), '--out', 'digits', '--train', '1',
        '--val', '1', '--test', '1', '--size', '64'
    ],
                   cwd=str(tmp_path),
                   env=dict(os.environ, PYTHONPATH=osp.dirname(package)),
                   check=True)
    assert (tmp_path / 'digits' / 'annotations' / 'test.json').is_file()


def test_configs_and_their_index_are_there(package):
    folder = osp.join(package, '.mim')
    with open(osp.join(folder, 'model-index.yml')) as file:
        listed = [line.split('- ')[1].strip() for line in file if '- ' in line]
    assert listed
    for path in listed:
        assert osp.isfile(osp.join(folder, path))
