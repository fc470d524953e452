"""Which checkpoint a training goes on from."""
import os
import os.path as osp
import re
import shutil
import zipfile

import pytest
import torch

from tcal_det.engine.training_state import (find_training_state,
                                            read_training_state)
from tcal_det.errors import InvalidValueError, MissingFileError


def save(path, epoch=1, **options):
    """A checkpoint as mmengine writes it, but for its contents."""
    torch.save(
        dict(
            meta=dict(epoch=epoch, iter=4 * epoch, cfg='a = 1\n'),
            state_dict=dict(weight=torch.full((1000, ), float(epoch))),
            optimizer=dict(state={}, param_groups=[]),
            message_hub=dict(log_scalars={}, runtime_info={},
                             resumed_keys={})), path, **options)


def save_without(path, *keys):
    save(path)
    content = torch.load(path)
    for key in keys:
        part = content
        *parents, last = key.split('.')
        for parent in parents:
            part = part[parent]
        del part[last]
    torch.save(content, path)


def overwrite_weights(path, value=0):
    """Change the stored weights and nothing else."""
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
        assert member.file_size == 4000
    with open(path, 'rb') as file:
        data = bytearray(file.read())
    start = data.index(
        torch.load(path)['state_dict']['weight'].numpy().tobytes())
    data[start:start + 4000] = bytes([value]) * 4000
    with open(path, 'wb') as file:
        file.write(data)


@pytest.fixture
def work_dir(tmp_path):
    """Of a run that has written four epochs, the last one named."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for epoch in (1, 2, 3, 10):
        path = str(folder / f'epoch_{epoch}.pth')
        save(path, epoch)
        os.utime(path, (epoch, epoch))
    name_last(folder, 10)
    return folder


def name_last(folder, epoch, time=None):
    pointer = folder / 'last_checkpoint'
    pointer.write_text(str(folder / f'epoch_{epoch}.pth'))
    os.utime(pointer, (time or epoch, time or epoch))


def found(folder):
    """Name of the found checkpoint, and what is said of others."""
    state, problems = find_training_state(str(folder))
    return osp.basename(state.path), problems


class TestReadTrainingState:

    def test_whole(self, tmp_path):
        path = str(tmp_path / 'epoch_1.pth')
        save(path)
        assert read_training_state(path) == (path, 'a = 1\n')

    def test_format_before_torch_1_6(self, tmp_path):
        path = str(tmp_path / 'epoch_1.pth')
        save(path, _use_new_zipfile_serialization=False)
        assert not zipfile.is_zipfile(path)
        assert read_training_state(path).path == path
        os.truncate(path, osp.getsize(path) - 1)
        with pytest.raises(InvalidValueError, match='epoch_1.pth'):
            read_training_state(path)

    def test_missing(self, tmp_path):
        with pytest.raises(MissingFileError, match="gone.pth' does not exist"):
            read_training_state(str(tmp_path / 'gone.pth'))

    @pytest.mark.parametrize('value', [0, 255])
    def test_content_without_its_checksum(self, tmp_path, value):
        """Such a file torch reads without a word."""
        path = str(tmp_path / 'epoch_1.pth')
        save(path)
        overwrite_weights(path, value)
        assert zipfile.is_zipfile(path)
        assert not (torch.load(path)['state_dict']['weight'] == 1).any()
        with pytest.raises(
                InvalidValueError,
                match="epoch_1.pth' cannot be read, it is damaged .*Bad CRC.*"
                'data/0'):
            read_training_state(path)

    @pytest.mark.parametrize('size', [0, 3, 100, 2000, -1])
    def test_truncated(self, tmp_path, size):
        path = str(tmp_path / 'epoch_1.pth')
        save(path)
        os.truncate(path, size % osp.getsize(path))
        with pytest.raises(InvalidValueError, match='damaged'):
            read_training_state(path)

    def test_other_things(self, tmp_path):
        path = str(tmp_path / 'epoch_1.pth')
        for content in (b'\0' * 5000, b'<html>', b'PK\x05\x06' + b'\0' * 18):
            with open(path, 'wb') as file:
                file.write(content)
            with pytest.raises(InvalidValueError, match='damaged'):
                read_training_state(path)
        os.mkdir(str(tmp_path / 'folder'))
        with pytest.raises(InvalidValueError, match="folder' is a folder"):
            read_training_state(str(tmp_path / 'folder'))

    @pytest.mark.parametrize(
        'key',
        ['state_dict', 'optimizer', 'message_hub', 'meta.epoch', 'meta.iter'])
    def test_not_all_of_the_state(self, tmp_path, key):
        path = str(tmp_path / 'epoch_1.pth')
        save_without(path, key)
        with pytest.raises(
                InvalidValueError,
                match='does not hold the state of a training: it has no '
                f'`{key}`$'):
            read_training_state(path)

    def test_weights_alone(self, tmp_path):
        path = str(tmp_path / 'student.pth')
        torch.save(dict(weight=torch.zeros(1)), path)
        with pytest.raises(
                InvalidValueError,
                match='it has no `state_dict`, no `optimizer`, no '
                '`message_hub`, no `meta.epoch`, no `meta.iter`$'):
            read_training_state(path)


class TestFindTrainingState:

    def test_last(self, work_dir):
        assert found(work_dir) == ('epoch_10.pth', [])

    def test_nothing_there(self, tmp_path):
        assert find_training_state(str(tmp_path)) == (None, [])
        assert find_training_state(str(tmp_path / 'gone')) == (None, [])

    def test_damaged_ones_are_passed_over_newest_first(self, work_dir):
        os.truncate(work_dir / 'epoch_10.pth', 2000)
        name, problems = found(work_dir)
        assert name == 'epoch_3.pth'
        assert len(problems) == 1 and 'epoch_10.pth' in problems[0]
        overwrite_weights(str(work_dir / 'epoch_3.pth'))
        name, problems = found(work_dir)
        assert name == 'epoch_2.pth'
        assert 'epoch_3.pth' in problems[1] and 'Bad CRC' in problems[1]

    def test_none_is_whole(self, work_dir):
        for epoch in (1, 2, 3):
            os.truncate(work_dir / f'epoch_{epoch}.pth', 2000)
        save_without(str(work_dir / 'epoch_10.pth'), 'optimizer')
        with pytest.raises(InvalidValueError) as error:
            find_training_state(str(work_dir))
        message = str(error.value)
        for epoch in (1, 2, 3):
            assert f"epoch_{epoch}.pth' cannot be read, it is damag" in message
        assert "epoch_10.pth' does not hold the state" in message
        assert '\n' not in message

    def test_folders_are_no_checkpoints(self, tmp_path):
        (tmp_path / 'epoch_1.pth').mkdir()
        with pytest.raises(InvalidValueError, match='epoch_1.pth.*folder'):
            find_training_state(str(tmp_path))

    def test_links_to_what_is_gone(self, work_dir):
        os.symlink('gone.pth', work_dir / 'epoch_11.pth')
        assert found(work_dir) == ('epoch_10.pth', [])
        os.remove(work_dir / 'last_checkpoint')
        for epoch in (1, 2, 3, 10):
            os.remove(work_dir / f'epoch_{epoch}.pth')
        with pytest.raises(InvalidValueError, match='epoch_11.pth'):
            find_training_state(str(work_dir))

    def test_an_earlier_one_is_named(self, work_dir):
        """A later training in the same folder has written less so far."""
        name_last(work_dir, 2, time=20)
        os.utime(work_dir / 'epoch_2.pth', (19, 19))
        assert found(work_dir) == ('epoch_2.pth', [])

    def test_killed_between_writing_and_naming(self, work_dir):
        name_last(work_dir, 3)
        assert found(work_dir) == ('epoch_10.pth', [])
        # The same moment, as on file systems that count in seconds.
        os.utime(work_dir / 'epoch_10.pth', (3, 3))
        assert found(work_dir) == ('epoch_10.pth', [])

    def test_time_decides_before_the_number_without_a_name(self, work_dir):
        os.remove(work_dir / 'last_checkpoint')
        assert found(work_dir) == ('epoch_10.pth', [])
        os.utime(work_dir / 'epoch_2.pth', (20, 20))
        assert found(work_dir) == ('epoch_2.pth', [])
        for epoch in (1, 2, 3, 10):
            os.utime(work_dir / f'epoch_{epoch}.pth', (20, 20))
        assert found(work_dir) == ('epoch_10.pth', [])

    def test_names_of_others(self, work_dir):
        os.remove(work_dir / 'last_checkpoint')
        for name in ('best_epoch_3.pth', 'epoch_12.pth.tmp-4711',
                     'epoch_last.pth', 'epoch_12.pth.bak'):
            shutil.copy(work_dir / 'epoch_1.pth', work_dir / name)
        assert found(work_dir) == ('epoch_10.pth', [])

    def test_iterations(self, work_dir):
        save(str(work_dir / 'iter_500.pth'))
        os.remove(work_dir / 'last_checkpoint')
        assert found(work_dir) == ('iter_500.pth', [])

    @pytest.mark.parametrize('content, problem', [
        (b'\xff\xfe\x00', 'cannot be read .*decode'),
        (b'', 'is empty'),
        (b' \n', 'is empty'),
        (b'a\0b\nc', 'which does not exist'),
        (b'/gone/epoch_11.pth', "names '/gone/epoch_11.pth', which does not"),
    ])
    def test_pointer_is_garbage(self, work_dir, content, problem):
        (work_dir / 'last_checkpoint').write_bytes(content)
        name, (line, ) = found(work_dir)
        assert name == 'epoch_10.pth'
        assert re.search(f'last_checkpoint.* {problem}', line)

    def test_pointer_is_a_folder(self, work_dir):
        os.remove(work_dir / 'last_checkpoint')
        (work_dir / 'last_checkpoint').mkdir()
        name, (line, ) = found(work_dir)
        assert name == 'epoch_10.pth' and 'directory' in line

    def test_pointer_alone(self, work_dir):
        for epoch in (1, 2, 3, 10):
            os.remove(work_dir / f'epoch_{epoch}.pth')
        with pytest.raises(InvalidValueError, match='which does not exist'):
            find_training_state(str(work_dir))

    def test_moved_work_dir(self, work_dir, tmp_path):
        moved = shutil.move(str(work_dir), str(tmp_path / 'moved'))
        state, problems = find_training_state(moved)
        assert state.path == osp.join(moved, 'epoch_10.pth')
        assert problems == []

    def test_copied_work_dir(self, work_dir, tmp_path):
        """The copy's own file, not the original that is named."""
        copy = shutil.copytree(str(work_dir), str(tmp_path / 'copy'))
        state, problems = find_training_state(copy)
        assert state.path == osp.join(copy, 'epoch_10.pth')

    def test_checkpoints_in_another_folder(self, tmp_path):
        """As with `default_hooks.checkpoint.out_dir`."""
        (tmp_path / 'run').mkdir()
        (tmp_path / 'out').mkdir()
        save(str(tmp_path / 'out' / 'model_1.pth'))
        (tmp_path / 'run' / 'last_checkpoint').write_text(
            str(tmp_path / 'out' / 'model_1.pth'))
        assert found(tmp_path / 'run') == ('model_1.pth', [])
