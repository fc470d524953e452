import json
import math
import os
import signal
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest

from tcal_det import fileio
from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.fileio import (atomic_output_file, make_output_folder,
                             new_folder, remove_leftovers,
                             write_json_atomically, write_text_atomically)

# Says that it has begun to write, and never ends.
WRITER = """
import sys, time
from tcal_det.fileio import new_folder, atomic_output_file
write = dict(file=atomic_output_file, folder=new_folder)[sys.argv[1]]
with write(sys.argv[2]) as temporary:
    with open(temporary + '/0.txt' * (sys.argv[1] == 'folder'), 'w') as file:
        file.write('half')
    print(temporary, flush=True)
    time.sleep(60)
"""


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
    with pytest.raises(seen), atomic_output_file(str(path)) as temporary:
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
            match='^the source$'), atomic_output_file(str(tmp_path / 'file')):
        raise MissingFileError('the source')


def test_output_folder(tmp_path):
    make_output_folder(str(tmp_path / 'new' / 'folder'))
    assert (tmp_path / 'new' / 'folder').is_dir()
    (tmp_path / 'file').write_text('')
    with pytest.raises(InvalidValueError, match='`--out` must be in a folder'):
        make_output_folder(str(tmp_path / 'file'))


class TestWhatKilledWritersLeave:
    """Goes when the next one writes; what the living write stays."""

    @pytest.fixture
    def write(self):
        """Start a process that writes; its end is left to the test."""
        processes = []

        def start(kind, path):
            processes.append(
                subprocess.Popen(
                    [sys.executable, '-c', WRITER, kind,
                     str(path)],
                    env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
                    stdout=subprocess.PIPE,
                    universal_newlines=True))
            temporary = processes[-1].stdout.readline().strip()
            assert os.path.exists(temporary)
            return processes[-1], temporary

        yield start
        for process in processes:
            process.kill()
            process.communicate()

    @staticmethod
    def write_again(kind, path):
        if kind == 'file':
            write_text_atomically(str(path), 'whole')
        else:
            with new_folder(str(path)):
                pass

    @pytest.mark.parametrize('kind', ['file', 'folder'])
    def test_the_dead(self, tmp_path, write, kind):
        process, temporary = write(kind, tmp_path / 'out')
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert os.path.exists(temporary)
        write_text_atomically(str(tmp_path / 'other'), 'of another name')
        assert os.path.exists(temporary)
        self.write_again(kind, tmp_path / 'out')
        assert sorted(os.listdir(tmp_path)) == ['other', 'out']

    @pytest.mark.parametrize('kind', ['file', 'folder'])
    def test_the_living(self, tmp_path, write, kind):
        process, temporary = write(kind, tmp_path / 'out')
        self.write_again(kind, tmp_path / 'out')
        assert remove_leftovers(str(tmp_path)) == []
        assert os.path.exists(temporary)

    def test_names_of_the_process_that_wrote(self, tmp_path):
        """As this package once gave them."""
        (tmp_path / 'out.json.tmp-4711').write_text('')
        (tmp_path / 'data.tmp-4711').mkdir()
        assert remove_leftovers(
            str(tmp_path)) == ['data.tmp-4711', 'out.json.tmp-4711']
        assert os.listdir(tmp_path) == []

    def test_names_of_others(self, tmp_path):
        for name in ('out.tmp', 'out.tmp-', 'out.tmp-old', 'tmp-4711',
                     'out.tmp-4711.json', 'out.tmp-0123abc'):
            (tmp_path / name).write_text('')
        assert remove_leftovers(str(tmp_path)) == []

    def test_file_systems_without_locks(self, tmp_path, monkeypatch):
        """Nobody knows who is alive; writing works all the same."""
        (tmp_path / 'out.tmp-4711').write_text('')

        def unsupported(*args):
            raise OSError('no locks available')

        monkeypatch.setattr(fileio.fcntl, 'flock', unsupported)
        write_text_atomically(str(tmp_path / 'out'), 'whole')
        monkeypatch.setattr(fileio, 'fcntl', None)
        write_text_atomically(str(tmp_path / 'out'), 'whole')
        assert sorted(os.listdir(tmp_path)) == ['out', 'out.tmp-4711']

    @pytest.mark.parametrize('module, name', [(os, 'open'),
                                              (fileio.fcntl, 'flock')])
    def test_taken_for_a_leftover_before_it_is_locked(self, tmp_path,
                                                      monkeypatch, module,
                                                      name):
        original, calls, taken = getattr(module, name), [], []

        def take_the_first(*args):
            calls.append(args)
            if len(calls) == 1:
                taken.extend(remove_leftovers(str(tmp_path)))
            return original(*args)

        monkeypatch.setattr(module, name, take_the_first)
        with atomic_output_file(str(tmp_path / 'out')) as temporary:
            assert len(taken) == 1
            assert os.path.basename(temporary) != taken[0]
            assert remove_leftovers(str(tmp_path)) == []


def test_the_file_is_on_the_disk_before_it_gets_its_name(
        tmp_path, monkeypatch):
    """Else a power cut leaves a name with nothing behind it."""
    system = Mock(fsync=Mock(wraps=os.fsync), replace=Mock(wraps=os.replace))
    monkeypatch.setattr(os, 'fsync', system.fsync)
    monkeypatch.setattr(os, 'replace', system.replace)
    write_text_atomically(str(tmp_path / 'file'), 'text')
    assert [name for name, _, _ in system.mock_calls] == ['fsync', 'replace']


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(
            InvalidValueError,
            match='^`work_dir` must be a folder that you may write to, but '):
        make_output_folder(str(tmp_path), '`work_dir` must be')


@pytest.mark.parametrize('indent', [None, 2])
def test_numbers_that_json_does_not_have(tmp_path, indent):
    path = tmp_path / 'a.json'
    content = dict(a=[1.5, math.inf, (math.nan, )], b=np.float32(0.5))
    write_json_atomically(str(path), content, indent=indent)
    assert json.loads(path.read_text()) == dict(a=[1.5, None, [None]], b=0.5)
    assert (path.read_text().count('\n') == 1) == (indent is None)


def test_content_that_is_nested_too_deeply(tmp_path):
    path, content = tmp_path / 'a.json', []
    for _ in range(100_000):
        content = [content]
    with pytest.raises(InvalidValueError, match='must be nested less deeply'):
        write_json_atomically(str(path), content)
    assert not path.exists()


@pytest.mark.parametrize('is_folder', [False, True])
def test_signal_while_the_temporary_name_is_made(tmp_path, monkeypatch,
                                                 is_folder):
    """SIGTERM raises SystemExit wherever the process is."""

    def interrupted(*args, **kwargs):
        assert len(os.listdir(tmp_path)) == 1
        raise SystemExit(143)

    monkeypatch.setattr(fileio, '_open_locked', interrupted)
    with pytest.raises(SystemExit), fileio.atomic_output_path(
            str(tmp_path / 'out'), is_folder):
        raise AssertionError('not reached')
    assert os.listdir(tmp_path) == []
