"""BCCD's VOC files become COCO files."""
import json
import os

import pytest

from tcal_det.errors import InvalidValueError, MissingFileError
from tools.dataset_converters.bccd_to_coco import convert_bccd

OBJECT = ('<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>'
          '<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>')
OBJECTS = {
    3: [('WBC', 260, 177, 491, 376), ('RBC', 78, 336, 184, 435)],
    7: [('Platelets', 5, 5, 9, 8), ('RBC', 4, 4, 4, 9)],
    8: [],
}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / 'BCCD'
    for name in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / name).mkdir(parents=True)
    for split, number in zip(('train', 'val', 'test'), OBJECTS):
        name = f'BloodImage_{number:05d}'
        (folder / f'ImageSets/Main/{split}.txt').write_text(f'{name}\n')
        (folder / f'JPEGImages/{name}.jpg').write_bytes(b'image')
        objects = ''.join(OBJECT.format(*item) for item in OBJECTS[number])
        (folder / f'Annotations/{name}.xml').write_text(
            '<annotation><size><width>640</width><height>480</height></size>'
            f'{objects}</annotation>')
    return folder


def test_conversion(source, tmp_path):
    out = tmp_path / 'bccd'
    convert_bccd(str(source), str(out))
    train, val, test = (
        json.loads((out / f'annotations/{split}.json').read_text())
        for split in ('train', 'val', 'test'))
    assert train['images'] == [
        dict(id=4, file_name='BloodImage_00003.jpg', width=640, height=480)
    ]
    assert [(item['category_id'], item['bbox'], item['area'])
            for item in train['annotations']] == [(2, [260, 177, 231,
                                                       199], 45969),
                                                  (1, [78, 336, 106,
                                                       99], 10494)]
    # The second box of val has no width.
    assert [item['category_id'] for item in val['annotations']] == [3]
    assert test['annotations'] == [] and len(test['images']) == 1
    assert len(os.listdir(str(out / 'images'))) == 3


@pytest.mark.parametrize(
    'damage, message', [
        (lambda folder: os.remove(
            str(folder / 'JPEGImages/BloodImage_00003.jpg')),
         'does not exist'),
        (lambda folder: os.remove(
            str(folder / 'Annotations/BloodImage_00003.xml')),
         'does not exist'),
        (lambda folder: os.remove(str(folder / 'ImageSets/Main/val.txt')),
         'does not exist'),
        (lambda folder: os.rename(
            str(folder / 'JPEGImages'), str(folder / 'Images')),
         'no JPEGImages'),
    ],
    ids=['image', 'annotation', 'split', 'images'])
def test_missing_file(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(MissingFileError, match=message):
        convert_bccd(str(source), str(tmp_path / 'bccd'))
    assert os.listdir(str(tmp_path)) == ['BCCD']


@pytest.mark.parametrize('content, message', [
    ('<annotation></annotation>', 'is not a VOC annotation'),
    ('<annotation>', 'cannot be read as XML'),
    ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
     'without <!DOCTYPE>'),
])
def test_no_voc(source, tmp_path, content, message):
    (source / 'Annotations/BloodImage_00003.xml').write_text(content)
    with pytest.raises(InvalidValueError, match=message):
        convert_bccd(str(source), str(tmp_path / 'bccd'))


def test_existing_folder_is_kept(source, tmp_path):
    with pytest.raises(InvalidValueError, match='`out` must not exist'):
        convert_bccd(str(source), str(tmp_path))


def test_folder_that_cannot_be_made(source, tmp_path):
    (tmp_path / 'file').write_text('')
    out = str(tmp_path / 'file' / 'bccd')
    with pytest.raises(InvalidValueError, match='`out` .*cannot be made'):
        convert_bccd(str(source), out)


def test_one_line_for_a_full_disk(source, tmp_path, monkeypatch):

    def fail(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    for number in range(20):
        (source / f'JPEGImages/{number}.jpg').write_bytes(b'image')
    monkeypatch.setattr('shutil.copyfile', fail)
    monkeypatch.setattr('shutil.copy2', fail)
    with pytest.raises(InvalidValueError, match='No space left') as caught:
        convert_bccd(str(source), str(tmp_path / 'bccd'))
    assert len(str(caught.value)) < 500
    assert os.listdir(str(tmp_path)) == ['BCCD']


def test_image_without_a_number(source, tmp_path):
    (source / 'ImageSets/Main/val.txt').write_text('foo')
    (source / 'JPEGImages/foo.jpg').write_bytes(b'image')
    with pytest.raises(InvalidValueError, match="val.txt'.*names 'foo'"):
        convert_bccd(str(source), str(tmp_path / 'bccd'))
    assert os.listdir(str(tmp_path)) == ['BCCD']


@pytest.mark.parametrize('name', [
    '../../x_00001', '/tmp/x_00001', 'sub/x_00001', r'..\x_00001', './x_00001'
])
def test_name_that_leads_out_of_the_folder(source, tmp_path, name):
    """Whoever writes a picture named after it would write it there."""
    listed = source / 'ImageSets/Main/val.txt'
    listed.write_text(name)
    outside = os.path.join(str(source / 'JPEGImages'), f'{name}.jpg')
    if name != '/tmp/x_00001':
        os.makedirs(os.path.dirname(outside), exist_ok=True)
        with open(outside, 'wb') as file:
            file.write(b'image')
    with pytest.raises(InvalidValueError, match='inside JPEGImages.*x_00001'):
        convert_bccd(str(source), str(tmp_path / 'bccd'))
    assert not os.path.exists(str(tmp_path / 'bccd'))


def test_names_of_one_number(source, tmp_path):
    """Two images of one id would be one image to COCO."""
    (source /
     'ImageSets/Main/val.txt').write_text('BloodImage_00007 BloodImage_7')
    for folder, suffix in (('JPEGImages', 'jpg'), ('Annotations', 'xml')):
        content = (source / f'{folder}/BloodImage_00007.{suffix}').read_bytes()
        (source / f'{folder}/BloodImage_7.{suffix}').write_bytes(content)
    with pytest.raises(InvalidValueError, match='different numbers'):
        convert_bccd(str(source), str(tmp_path / 'bccd'))


@pytest.mark.parametrize('before, after', [
    ('<xmin>260', '<xmin>nan'),
    ('<xmax>491', '<xmax>inf'),
    ('<xmax>491', '<xmax>1e400'),
    ('<width>640', '<width>0'),
    ('<width>640', '<width>wide'),
    ('<name>WBC', '<name>cell'),
])
def test_numbers_that_are_none(source, tmp_path, before, after):
    path = source / 'Annotations/BloodImage_00003.xml'
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(InvalidValueError, match='is not a VOC annotation'):
        convert_bccd(str(source), str(tmp_path / 'bccd'))


def test_list_that_is_no_text(source, tmp_path):
    (source / 'ImageSets/Main/val.txt').write_bytes(b'\xff\xfe')
    with pytest.raises(InvalidValueError, match='val.txt.*is not text'):
        convert_bccd(str(source), str(tmp_path / 'bccd'))
