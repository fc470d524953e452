"""Files of class names, and sizes of images."""
import sys

import pytest
from PIL import Image

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.evaluation.formats import (find_class_names, read_class_names,
                                         read_image_sizes)
from tests.test_evaluation.test_formats.label_folders import write


@pytest.mark.parametrize('name, text, expected', [
    ('classes.txt', '\ufeffcat\r\nguide dog \n\n', ['cat', 'guide dog']),
    ('data.yaml', 'names: [cat, dog]', ['cat', 'dog']),
    ('data.yaml', 'names: [0, 1]', ['0', '1']),
    ('d.yml', 'names:\n  1: dog\n  0: cat', ['cat', 'dog']),
])
def test_names(tmp_path, name, text, expected):
    if name != 'classes.txt':
        pytest.importorskip('yaml')
    folder = write(tmp_path, {name: text})
    assert read_class_names(f'{folder}/{name}') == expected


@pytest.mark.parametrize('name, text, message', [
    ('classes.txt', '', 'at least one name'),
    ('classes.txt', 'a\n\nb', 'label 1 has none'),
    ('classes.txt', 'a\nb\na', "labels 0 and 2 are both 'a'"),
    ('data.yaml', 'names: cat', "a list of texts .* got 'cat'"),
    ('data.yaml', 'names: [[a]]', 'a list of texts'),
    ('data.yaml', 'names: [yes]', 'a list of texts'),
    ('data.yaml', 'names: {1: a, 2: b}', 'a mapping from 0, 1'),
    ('data.yaml', 'nc: 3', 'got None'),
    ('data.yaml', 'a', 'got None'),
    ('data.yaml', 'names: [', 'cannot be read as YAML'),
    ('data.yaml', '!!python/object:os.system {}', 'cannot be read as YAML'),
])
def test_wrong_names(tmp_path, name, text, message):
    if name != 'classes.txt':
        pytest.importorskip('yaml')
    folder = write(tmp_path, {name: text})
    with pytest.raises(InvalidValueError, match=message) as error:
        read_class_names(f'{folder}/{name}')
    assert name in str(error.value) and '\n' not in str(error.value)


def test_names_without_a_file_or_pyyaml(tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match='gone.txt'):
        read_class_names(str(tmp_path / 'gone.txt'))
    with pytest.raises(InvalidValueError, match='cannot be read'):
        read_class_names(str(tmp_path))
    path = write(tmp_path, {'data.yaml': 'names: [a]'}) + '/data.yaml'
    monkeypatch.setitem(sys.modules, 'yaml', None)
    with pytest.raises(InvalidValueError, match='pip install PyYAML; or'):
        read_class_names(path)


def test_the_nearest_names_are_found(tmp_path):
    labels = write(tmp_path / 'set' / 'labels' / 'val', {})
    assert find_class_names(labels) is None
    # Three folders up belongs to something else.
    write(tmp_path, {'data.yaml': ''})
    assert find_class_names(labels) is None
    write(tmp_path / 'set', {'data.yaml': ''})
    assert find_class_names(labels) == str(tmp_path / 'set' / 'data.yaml')
    write(labels, {'classes.txt': ''})
    assert find_class_names(labels) == labels + '/classes.txt'


def sizes_of(sizes):
    return {stem: tuple(size) for stem, size in sizes.items()}


def test_sizes_of_a_folder(tmp_path):
    write(tmp_path, {'notes.txt': '', '.hidden.jpg': ''})
    (tmp_path / 'more').mkdir()
    Image.new('RGB', (30, 20)).save(tmp_path / 'b.jpg')
    Image.new('L', (7, 9)).save(tmp_path / 'a.PNG')
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new('RGB', (30, 20)).save(tmp_path / 'c.jpeg', exif=exif)
    exif[0x0112] = 3  # by 180 degrees
    Image.new('RGB', (30, 20)).save(tmp_path / 'd.jpg', exif=exif)
    assert list(sizes_of(read_image_sizes(str(tmp_path))).items()) == [
        ('a', ('a.PNG', 7, 9)), ('b', ('b.jpg', 30, 20)),
        ('c', ('c.jpeg', 20, 30)), ('d', ('d.jpg', 30, 20))
    ]


@pytest.mark.parametrize('name, text', [
    ('s.json', '{"val/b.jpg": [30, 20], "a.png": [7, 9]}'),
    ('s.csv', 'val/b.jpg,30,20\na.png, 7,9\n'),
    ('s.csv', '\ufefffile_name,width,height\r\nval/b.jpg,30,20\r\n\r\n'
     'a.png,7,9'),
])
def test_sizes_of_a_list(tmp_path, name, text):
    folder = write(tmp_path, {name: text})
    assert sizes_of(read_image_sizes(f'{folder}/{name}')) == {
        'a': ('a.png', 7, 9),
        'b': ('val/b.jpg', 30, 20)
    }


@pytest.mark.parametrize('name, text, message', [
    ('s.json', '[]', 'a mapping from file name'),
    ('s.json', '{', 'cannot be read as JSON'),
    ('s.json', '{}', 'at least one image'),
    ('s.json', '{"a.jpg": [1]}', "above 0.*for 'a.jpg' in"),
    ('s.json', '{"a.jpg": 5}', 'above 0'),
    ('s.json', '{"a.jpg": [1, true]}', 'above 0'),
    ('s.json', '{"a.jpg": [1, 2.5]}', 'above 0'),
    ('s.json', '{"a.jpg": [1, 2], "a.png": [1, 2]}', "'a.png' and 'a.jpg'"),
    ('s.csv', 'a.jpg,640.0,480.0', 'above 0.*for line 1'),
    ('s.csv', 'a.jpg,2,3\nb.jpg,0,4', 'above 0.*for line 2'),
    ('s.csv', 'a.jpg,2,3\nb.jpg,2', r"line 2 of .* is \['b.jpg', '2'\]"),
    ('s.csv', 'file_name,width,height\n', 'at least one image'),
    ('s.txt', '', r'a \.json or \.csv file'),
])
def test_wrong_lists_of_sizes(tmp_path, name, text, message):
    folder = write(tmp_path, {name: text})
    with pytest.raises(InvalidValueError, match=message) as error:
        read_image_sizes(f'{folder}/{name}')
    assert name in str(error.value)


def test_wrong_folders_of_images(tmp_path):
    with pytest.raises(MissingFileError, match='gone'):
        read_image_sizes(str(tmp_path / 'gone'))
    (tmp_path / 'train').mkdir()
    with pytest.raises(InvalidValueError, match='subfolders are not read'):
        read_image_sizes(str(tmp_path))
    write(tmp_path, {'a.jpg': 'no image'})
    with pytest.raises(InvalidValueError, match='a.jpg.* cannot be read'):
        read_image_sizes(str(tmp_path))
