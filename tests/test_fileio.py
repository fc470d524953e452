import json
import os

import numpy as np
import pytest

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.fileio import (make_output_folder, replaced_atomically,
                             write_json_atomically, write_text_atomically)


def test_text(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'file.txt'
    write_text_atomically(str(path), 'T = 1,5 \u2264 3\n')
    assert path.read_text(encoding='utf-8') == 'T = 1,5 \u2264 3\n'
    write_text_atomically(str(path), 'again')
    assert path.read_text() == 'again'
    assert os.listdir(path.parent) == ['file.txt']


def test_a_name_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text_atomically('file.txt', 'here')
    assert (tmp_path / 'file.txt').read_text() == 'here'


def test_json_has_null_where_there_is_no_number(tmp_path):
    path = tmp_path / 'file.json'
    write_json_atomically(
        str(path),
        dict(
            nan=float('nan'),
            inf=[1, float('-inf')],
            scalar=np.float32(0.5),
            count=np.int64(3),
            flag=np.bool_(True),
            array=np.array([[1.0, np.nan]]),
            text='x',
            nothing=None))
    assert json.loads(path.read_text()) == dict(
        nan=None,
        inf=[1, None],
        scalar=0.5,
        count=3,
        flag=True,
        array=[[1.0, None]],
        text='x',
        nothing=None)


@pytest.mark.parametrize('error, seen',
                         [(KeyboardInterrupt, KeyboardInterrupt),
                          (OSError, InvalidValueError)])
def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, error, seen):
    path = tmp_path / 'file.json'
    write_json_atomically(str(path), dict(temperature=2.0))
    with pytest.raises(seen), replaced_atomically(str(path)) as temporary:
        with open(temporary, 'w') as file:
            file.write('{"temperature": 1')
        raise error
    assert json.loads(path.read_text()) == dict(temperature=2.0)
    assert os.listdir(tmp_path) == ['file.json']


def test_an_interrupted_rename_leaves_the_old_file_whole(
        tmp_path, monkeypatch):
    path = tmp_path / 'file.json'
    write_json_atomically(str(path), [1])

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(
            InvalidValueError, match='file.json.* cannot be written: disk'):
        write_json_atomically(str(path), [2])
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(tmp_path) == ['file.json']


def test_what_json_cannot_hold_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / 'file.json'
    write_json_atomically(str(path), [1])
    with pytest.raises(TypeError):
        write_json_atomically(str(path), [object()])
    assert json.loads(path.read_text()) == [1]


def test_others_may_read_the_file(tmp_path):
    path = tmp_path / 'file.txt'
    old = os.umask(0o022)
    try:
        write_text_atomically(str(path), 'shared')
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    for name in ('file/below.txt', 'folder'):
        with pytest.raises(
                InvalidValueError, match=f'{name}.* cannot be written: '):
            write_text_atomically(str(tmp_path / name), '')
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']


def test_errors_that_say_more_are_left_alone(tmp_path):
    with pytest.raises(
            MissingFileError,
            match='^the source$'), replaced_atomically(str(tmp_path / 'file')):
        raise MissingFileError('the source')


def test_output_folder(tmp_path):
    make_output_folder(str(tmp_path / 'new' / 'folder'))
    assert (tmp_path / 'new' / 'folder').is_dir()
    (tmp_path / 'file').write_text('')
    with pytest.raises(InvalidValueError, match='`--out` must be in a folder'):
        make_output_folder(str(tmp_path / 'file'))
