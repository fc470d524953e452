"""Each folder of configs has a page and a metafile that name its configs."""
import os
import os.path as osp
import re
from glob import glob

import pytest
import yaml

from tests.config_files import read_config

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
FOLDERS = sorted(
    name for name in os.listdir(osp.join(ROOT, 'configs'))
    if osp.isdir(osp.join(ROOT, 'configs', name)) and name != '_base_')
# Their configs need data that are made here, so mim does not list them.
WITHOUT_METAFILE = ('bccd', 'demo')
DATA = dict(
    coco='COCO',
    voc0712='VOC 2007 + 2012',
    digits='digits',
    bccd='BCCD',
    **{
        'lvis-v1': 'LVIS v1',
        'digits-other-classes': 'digits, other classes'
    })


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def stem_of(path):
    return osp.splitext(osp.basename(path))[0]


def data_of(path):
    """Training data, by the last field of a config's name."""
    return DATA[stem_of(path).rpartition('_')[2]]


def backbone_of(model):
    backbone = model.backbone
    name, width = backbone.type, backbone.get('widen_factor', 1)
    if name == 'ResNet':
        name += f'-{backbone.depth}'
        width = backbone.get('base_channels', 64) / 64
    return name if width == 1 else f'{name} (width {width:g})'


def schedule_of(cfg):
    if 'max_iters' in cfg.train_cfg:
        return f'{cfg.train_cfg.max_iters:,} iterations'
    return f'{cfg.train_cfg.max_epochs} epochs'


def row_of(path):
    """Row of a config in the table of its folder's page."""
    cfg = read_config(path)
    model = cfg.model
    cells = [
        f'[{stem_of(path)}]({osp.basename(path)})',
        f"{model.get('student_type', model.type)}, {backbone_of(model)}",
    ]
    if 'teacher' in model:
        calibrator = model.teacher.get('calibrator')
        cells += [
            stem_of(model.teacher.config),
            calibrator.type if calibrator else '-'
        ]
    cells += [schedule_of(cfg), data_of(path)]
    return f"| {' | '.join(cells)} |"


def configs_of(folder):
    return sorted(glob(osp.join('configs', folder, '*.py')))


def text_of(*path):
    with open(osp.join(*path), encoding='utf-8') as file:
        return file.read()


@pytest.mark.parametrize('folder', FOLDERS)
def test_table_has_a_row_of_each_config(folder):
    rows = re.findall(r'^\| \[.*\]\(.*\.py\).*$',
                      text_of('configs', folder, 'README.md'), re.M)
    assert sorted(rows) == sorted(map(row_of, configs_of(folder)))


def test_index_names_each_folder_once():
    named = re.findall(r'\((\w[\w-]*)/README\.md\)',
                       text_of('configs', 'README.md'))
    assert sorted(named) == FOLDERS


@pytest.mark.parametrize(
    'folder', [name for name in FOLDERS if name not in WITHOUT_METAFILE])
def test_metafile_names_each_config(folder):
    metafile = yaml.safe_load(text_of('configs', folder, 'metafile.yml'))
    collections = {one['Name']: one for one in metafile['Collections']}
    page = f'configs/{folder}/README.md'
    for collection in collections.values():
        assert collection['README'] == page
        assert collection['Metadata']['Training Data']
        assert collection['Metadata']['Training Techniques']
        assert collection['Metadata']['Architecture']
        paper = collection.get('Paper')
        # The page and the metafile name the same paper.
        assert paper is None or all(
            value in text_of(page) for value in paper.values())
    models = metafile['Models']
    assert [one['Config'] for one in models] == configs_of(folder)
    for model in models:
        assert model['Name'] == stem_of(model['Config'])
        assert model['In Collection'] in collections
        assert model['Metadata'] == {'Training Data': data_of(model['Config'])}
    assert {one['In Collection'] for one in models} == set(collections)
