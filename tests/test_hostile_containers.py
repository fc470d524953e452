"""Files made to be seen in two ways, or to change what reads them.

Each of these once ran code, wrote outside of the output folder, read memory
that is not the file's, or changed a class for the whole process.
"""
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from tcal_det.checkpoint_file import (CheckpointUnpickler,
                                      load_from_restricted, read_checkpoint)
from tcal_det.config_file import parse_config_text
from tcal_det.engine.student_checkpoint import publish_student
from tcal_det.errors import InvalidValueError
from tcal_det.restricted_pickle import load_plain_pickle
from tests.payloads import Call

SYSTEM = dict(
    protocol_version=1001,
    little_endian=sys.byteorder == 'little',
    type_sizes=dict(short=2, int=4, long=4))


class WithAttributes:
    """Pickles as a container whose instance has attributes."""

    def __init__(self, items, attributes, kind=OrderedDict):
        self.items, self.attributes, self.kind = items, attributes, kind

    def __reduce__(self):
        return (self.kind, (), self.attributes, None,
                iter(list(self.items.items())))


class Unknown:
    """Data of a class that is not read."""


def text(value):
    value = value.encode()
    return b'X' + struct.pack('<I', len(value)) + value


def old_format(body):
    """A file in torch's old format around the opcodes of its content."""
    parts = (0x1950a86a20f9469cfc6c, 1001, SYSTEM)
    return b''.join(pickle.dumps(part, 2)
                    for part in parts) + body + pickle.dumps([], 2)


def written(folder, content):
    path = folder / 'hostile.pth'
    path.write_bytes(content)
    return str(path)


def test_attribute_that_stands_before_a_method(tmp_path):
    """`meta.pop` once removed nothing, and mmengine ran `meta.config`."""
    mark, path = tmp_path / 'mark', str(tmp_path / 'hostile.pth')
    program = f'__import__("os").mkdir({str(mark)!r})\n'
    meta = WithAttributes(
        dict(epoch=1, config=program), dict(pop=defaultdict, get=Counter))
    torch.save(dict(state_dict={}, meta=meta), path)
    content = load_from_restricted(path)
    assert content['meta'] == dict(epoch=1)
    assert not vars(content['meta'])
    # The attack is one: the attribute is in the file, and mmengine runs such
    # a text.
    untouched = torch.load(path, weights_only=False)['meta']
    assert untouched.pop is defaultdict
    Config.fromstring(untouched['config'], '.py')
    assert mark.exists()


def two_directories(inner):
    """An archive with one directory for zipfile and another for torch.

    zipfile takes the directory before the end record, torch's reader the one
    at the offset that the record gives.
    """
    name, decoy = b'archive/data.pkl', pickle.dumps({}, 2)
    end = inner.rfind(b'PK\x05\x06')
    count, size, offset = struct.unpack('<HII', inner[end + 10:end + 20])
    if 0xffffffff in (size, offset):
        wide = inner.rfind(b'PK\x06\x06', 0, end)
        count, size, offset = struct.unpack('<QQQ', inner[wide + 32:wide + 56])
    entries, directory = inner[:offset], inner[offset:offset + size]
    checksum, length = zlib.crc32(decoy), len(decoy)
    local = struct.pack('<IHHHHHIIIHH', 0x04034b50, 20, 0, 0, 0, 0x21,
                        checksum, length, length, len(name), 0) + name + decoy
    padding = size - 46 - len(name)
    other = struct.pack('<IHHHHHHIIIHHHHHII', 0x02014b50, 20, 20, 0, 0, 0,
                        0x21, checksum, length, length, len(name), 0, padding,
                        0, 0, 0, offset - size) + name + b' ' * padding
    return entries + local + directory + other + struct.pack(
        '<IHHHHIIH', 0x06054b50, 0, 0, count, count, size, offset + len(local),
        0)


def script():
    """A TorchScript program."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def test_archive_that_zipfile_and_torch_see_differently(tmp_path, monkeypatch):
    path = written(tmp_path, two_directories(script()))
    ran = []
    monkeypatch.setattr(torch.jit, 'load', lambda *_, **__: ran.append(1))
    assert read_checkpoint(path, 'checkpoint') == {}
    assert not ran
    # What torch does with such a file.
    torch.load(path, weights_only=False)
    assert ran


def test_the_same_inside_of_a_results_file(monkeypatch):
    content = two_directories(script())
    results = pickle.dumps([Call(torch.storage._load_from_bytes, content)])
    monkeypatch.setattr(torch.jit, 'load', None)
    with pytest.raises(pickle.UnpicklingError, match='instead of a storage'):
        load_plain_pickle(io.BytesIO(results))


@pytest.mark.parametrize('names', ['collections\nCounter', 'numpy\nndarray'])
def test_patch_of_source_code(tmp_path, names, monkeypatch):
    """Torch compares the source of a container that a file names."""
    monkeypatch.chdir(tmp_path)
    target = str(tmp_path / 'elsewhere')
    body = (b'\x80\x02c' + names.encode() + b'\nq\x00N}(' +
            text('dump_patches') + b'\x88' + text('__name__') + text(target) +
            b'u\x86b0(' + text('module') + b'h\x00' + text('source.py') +
            text('import os\n') + b'tQ0}.')
    path = written(tmp_path, old_format(body))
    with pytest.raises(InvalidValueError, match='sets attributes'):
        read_checkpoint(path, 'checkpoint')
    assert os.listdir(str(tmp_path)) == ['hostile.pth']
    assert not hasattr(Counter, 'dump_patches')


@pytest.mark.parametrize('names', [
    'collections\nCounter', 'collections\nOrderedDict', 'numpy\nndarray',
    'numpy\ndtype', 'torch._utils\n_rebuild_tensor_v2', 'torch\nfloat32',
    'torch\nFloatStorage', 'mmengine.logging.history_buffer\nHistoryBuffer',
    'somebody\nElse'
])
@pytest.mark.parametrize('is_slot', [True, False])
def test_attributes_of_what_a_pickle_names(tmp_path, names, is_slot):
    """Those of a class would be the whole process's."""
    attributes = b'}' + text('hostile_mark') + b'K\x01s'
    state = b'N' + attributes + b'\x86' if is_slot else attributes
    body = b'\x80\x02c' + names.encode() + b'\n' + state + b'b0}.'
    path = written(tmp_path, old_format(body))
    with suppress(InvalidValueError):
        read_checkpoint(path, 'checkpoint')
    module, name = names.split('\n')
    reached = [
        Counter, OrderedDict, HistoryBuffer,
        CheckpointUnpickler(io.BytesIO()).find_class(module, name)
    ]
    assert not any(hasattr(one, 'hostile_mark') for one in reached)
    again = str(tmp_path / 'good.pth')
    hub = dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1])))
    torch.save(
        dict(
            state_dict=OrderedDict(a=torch.ones(2)),
            message_hub=hub,
            milestones=[Counter([3])],
            mean=np.arange(2.0)), again)
    content = read_checkpoint(again, 'checkpoint')
    assert content['state_dict']['a'].tolist() == [1.0, 1.0]
    assert content['milestones'] == [Counter([3])]
    assert content['mean'].tolist() == [0.0, 1.0]
    history = content['message_hub']['log_scalars']['loss']
    assert history.current() == 1.0


def test_log_history_that_is_set_twice(tmp_path):
    """Its methods are those of a class, and so of every history."""
    body = (b'\x80\x02}' + text('message_hub') +
            b'cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81')
    for state in (dict(_log_history=[1.0], _count_history=[1], max_length=9),
                  dict(
                      statistics_methods=dict(mean=OrderedDict),
                      _log_history='text',
                      _count_history=[1],
                      max_length=9)):
        body += pickle.dumps(state, 2)[2:-1] + b'b'
    path = written(tmp_path, old_format(body + b's.'))
    before = dict(HistoryBuffer._statistics_methods)
    with pytest.raises(InvalidValueError, match='other things than numbers'):
        read_checkpoint(path, 'checkpoint')
    assert HistoryBuffer._statistics_methods == before


def test_tar_that_looks_like_an_archive(tmp_path):
    """Links in it would touch files elsewhere."""
    victim = tmp_path / 'victim'
    victim.write_text('')
    victim.chmod(0o600)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        link = tarfile.TarInfo('storages')
        link.type, link.linkname, link.mode = (tarfile.LNKTYPE, str(victim),
                                               0o777)
        tar.addfile(link)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as opened:
        opened.writestr('a/data.pkl', b'')
    path = written(tmp_path, buffer.getvalue() + archive.getvalue())
    assert zipfile.is_zipfile(path) and tarfile.is_tarfile(path)
    with pytest.raises(InvalidValueError, match='damaged or not a checkpoint'):
        read_checkpoint(path, 'checkpoint')
    assert victim.stat().st_mode & 0o777 == 0o600


def test_storage_that_says_more_than_it_has(tmp_path):
    """Once it was filled with other memory of the process."""
    whole, path = str(tmp_path / 'whole.pth'), str(tmp_path / 'hostile.pth')
    torch.save(dict(state_dict=dict(a=torch.zeros(100_000))), whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, 'w') as out:
        for name in source.namelist():
            content = source.read(name)
            out.writestr(name,
                         b'ABCD' if name.endswith('/data/0') else content)
    with pytest.raises(InvalidValueError, match='4 bytes instead of 400000'):
        read_checkpoint(path, 'checkpoint')


def tensor(offset, size, stride):
    return Call(torch._utils._rebuild_tensor_v2,
                torch.arange(6.0).storage(), offset, size, stride, False, {})


@pytest.mark.parametrize('offset, size, stride', [
    (0, (7, ), (1, )),
    (6, (1, ), (1, )),
    (0, (2, 2), (6, 1)),
    (-1, (2, ), (1, )),
    (5, (2, ), (-1, )),
    (0, (-1, ), (1, )),
    (0, (2, ), (1, 1)),
    (2**63, (1, ), (1, )),
    (0, (2**62, 4), (1, 1)),
])
@pytest.mark.parametrize('is_present_format', [True, False])
def test_tensor_outside_of_its_storage(tmp_path, offset, size, stride,
                                       is_present_format):
    path = str(tmp_path / 'hostile.pth')
    torch.save(
        dict(state_dict=dict(a=tensor(offset, size, stride))),
        path,
        _use_new_zipfile_serialization=is_present_format)
    with pytest.raises(
            InvalidValueError, match='invalid tensor|is larger than'):
        read_checkpoint(path, 'checkpoint')


@pytest.mark.parametrize('place', [
    deque([Unknown()]),
    np.array([Unknown(), None], object),
    WithAttributes({}, dict(items=defaultdict, x=1)),
    WithAttributes(dict(a=Unknown()), dict(items=OrderedDict)),
    WithAttributes(dict(a=1), dict(_metadata=3)),
    [[Unknown()]],
    ({
        'a': Unknown()
    }, ),
    OrderedDict,
    np.ndarray,
    torch.float32,
    torch.device('cpu'),
])
def test_nothing_else_is_in_what_was_read(tmp_path, place):
    """Published, it opens in a Python without tcal_det and runs nothing."""
    path = str(tmp_path / 'hostile.pth')
    torch.save(
        dict(state_dict=dict(a=torch.ones(1)), meta=dict(epoch=3, x=place)),
        path)
    published = publish_student(path, str(tmp_path / 'student'))
    with open(published, 'rb') as file:
        assert b'tcal_det' not in file.read()
    content = torch.load(published, weights_only=False)
    assert content['meta']['epoch'] == 3
    plain = (int, str, dict, OrderedDict, list, tuple, type(None))
    left = [content['meta'].get('x')]
    while left:
        one = left.pop()
        assert type(one) in plain and not getattr(one, '__dict__', None)
        left += one.values() if isinstance(
            one, dict) else (one if isinstance(one, (list, tuple)) else [])
    assert publish_student(path, str(tmp_path / 'student'), 'safetensors')


@pytest.mark.parametrize('config', [
    "model=dict({\"x': __import__('os').mkdir('MARK'), 'y\":1})",
    "model=dict({('x', \"': __import__('os').mkdir('MARK'), '\"): 1})",
    'model=dict({"x\\n": 1})',
    "_base_='MARK.py'\nmodel=dict(type='x')",
    "filename='x'\nmodel=dict()",
    'pretty_text=1\nmodel=dict()',
    'model=' + 'dict(a=' * 90 + '1' + ')' * 90,
    'model=dict(a=' + '[' * 150 + ']' * 150 + ')',
    'model=dict(a=0x' + 'f' * 5000 + ')',
])
def test_config_that_becomes_a_program(tmp_path, config):
    """A key is written without escaping it."""
    mark, path = tmp_path / 'mark', str(tmp_path / 'hostile.pth')
    config = config.replace('MARK', str(mark))
    torch.save(
        dict(
            state_dict=dict(a=torch.ones(1)),
            meta=dict(cfg=config, config=f'import os\nos.mkdir({mark!r})')),
        path)
    meta = torch.load(
        publish_student(path, str(tmp_path / 'student')),
        weights_only=True)['meta']
    assert 'config' not in meta
    if 'cfg' in meta:
        # As mmdet's DetInferencer does.
        Config.fromstring(meta['cfg'], '.py')
        parse_config_text(meta['cfg'])
    assert not mark.exists()


@pytest.mark.parametrize('value', [
    torch.zeros(2, dtype=torch.complex128),
    torch.zeros(1).expand(10**13),
])
def test_weights_that_safetensors_does_not_have(tmp_path, value):
    path = str(tmp_path / 'odd.pth')
    torch.save(dict(state_dict=dict(a=value)), path)
    with pytest.raises(InvalidValueError, match='cannot be written as .safe'):
        publish_student(path, str(tmp_path / 'student'), 'safetensors')


@pytest.mark.parametrize('sample', [
    pytest.param(1 << 60_000, id='number'),
    pytest.param(dict(img_id=1 << 60_000, pred_instances={}), id='image'),
    OrderedDict,
    np.ndarray,
])
def test_results_that_cannot_be_printed(sample):
    with pytest.raises(pickle.UnpicklingError):
        load_plain_pickle(io.BytesIO(pickle.dumps([sample])))


def test_numbers_that_are_shared_stay_shared(tmp_path):
    """A bomb of references does not grow, and tied weights stay tied."""
    path = str(tmp_path / 'tied.pth')
    weight, nested = torch.arange(4.0), [1]
    for _ in range(60):
        nested = [nested, nested]
    torch.save(
        dict(state_dict=dict(a=weight, b=weight[1:]), meta=dict(x=nested)),
        path)
    state = read_checkpoint(path, 'checkpoint')['state_dict']
    state['a'][1] = 7
    assert state['b'][0] == 7


def test_download_does_not_become_the_weights_of_torchvision(
        tmp_path, monkeypatch):
    """A file in torch's cache is known by its last name."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(
        torch.hub, 'download_url_to_file',
        lambda url, path, **_: torch.save(dict(a=torch.ones(1)), path))
    url = 'https://elsewhere.example/resnet50-0676ba61.pth'
    assert 'a' in read_checkpoint(url, 'checkpoint')
    cache = tmp_path / 'hub' / 'checkpoints'
    assert not (cache / 'resnet50-0676ba61.pth').exists()
    # A user's own copy there is taken.
    torch.save(dict(b=torch.ones(1)), str(cache / 'resnet50-0676ba61.pth'))
    assert 'b' in read_checkpoint(url, 'checkpoint')


def test_stack_is_not_overrun_by_depth():
    """In a process of its own, as a crash would end this one."""
    program = ('import io\n'
               'from tcal_det.restricted_pickle import load_plain_pickle\n'
               "body = b'\\x80\\x02' + b']' * 200000 + b'a' * 199999 + b'.'\n"
               'try:\n    load_plain_pickle(io.BytesIO(body))\n'
               "except RecursionError:\n    print('one line')\n")
    result = subprocess.run([sys.executable, '-c', program],
                            stdout=subprocess.PIPE,
                            env=dict(
                                os.environ,
                                PYTHONPATH=os.pathsep.join(sys.path)),
                            universal_newlines=True)
    assert (result.returncode, result.stdout) == (0, 'one line\n')
