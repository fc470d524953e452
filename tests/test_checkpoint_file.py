"""Checkpoints are read as torch reads them, but for what could run code."""
import json
import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader

from tcal_det import checkpoint_file
from tcal_det.checkpoint_file import read_checkpoint, read_checkpoints_safely
from tcal_det.errors import InvalidValueError, MissingFileError
from tests.payloads import KINDS, Call, payloads

FORMATS = dict(present=True, old=False)


@pytest.fixture(params=list(FORMATS))
def write(tmp_path, request):
    """Save in torch's present or old format; return the path."""

    def save(content, name='checkpoint.pth'):
        path = str(tmp_path / name)
        torch.save(
            content,
            path,
            _use_new_zipfile_serialization=FORMATS[request.param])
        return path

    return save


def read(path):
    return read_checkpoint(path, 'checkpoint')


def state_dict():
    torch.manual_seed(0)
    shared = torch.randn(4, 3)
    state = {
        str(dtype): torch.arange(-3, 3).to(dtype)
        for dtype in (torch.float64, torch.float32, torch.float16,
                      torch.bfloat16, torch.int64, torch.uint8, torch.bool,
                      torch.complex64)
    }
    state.update(
        transposed=shared.t(),
        row=shared[1],
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 4),
        parameter=torch.nn.Parameter(torch.randn(2)))
    return state


def test_state_dict_is_bit_equal(write):
    path = write(dict(state_dict=state_dict()))
    state = read(path)['state_dict']
    expected = torch.load(path, weights_only=False)['state_dict']
    assert list(state) == list(expected)
    for key, tensor in expected.items():
        assert state[key].dtype == tensor.dtype
        assert state[key].stride() == tensor.stride()
        assert torch.equal(state[key], tensor)
    assert state['row'].data_ptr() > state['transposed'].data_ptr()


def test_versions_of_modules_are_kept(write):
    """BatchNorm and deformable convolutions read them when they load."""
    path = write(dict(state_dict=torch.nn.BatchNorm2d(2).state_dict()))
    assert read(path)['state_dict']._metadata['']['version'] == 2


def test_plain_values_are_kept(write):
    meta = dict(
        epoch=3,
        classes=('a', 'b'),
        lr=[0.1, None],
        mean=np.arange(3.0),
        best=np.float64(0.25))
    loaded = read(write(dict(state_dict={}, meta=meta)))['meta']
    assert np.array_equal(loaded.pop('mean'), meta.pop('mean'))
    assert loaded == meta


def test_log_history_is_kept_and_needs_no_tcal_det(write, tmp_path):
    hub = MessageHub('test_log_history')
    for value in (3.0, 1.0, 2.0):
        hub.update_scalar('train/loss', value)
    path = write(dict(message_hub=hub.state_dict()))
    content = read(path)
    history = content['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer
    assert history.statistics('mean', 2) == 1.5
    assert history.statistics('min') == 1.0
    again = str(tmp_path / 'again.pth')
    torch.save(content, again, _use_new_zipfile_serialization=False)
    with open(again, 'rb') as file:
        assert b'tcal_det' not in file.read()


def test_whatever_else_a_checkpoint_carries_is_left_out(write):
    content = dict(
        state_dict=dict(a=torch.ones(2)),
        meta=dict(epoch=1, hook=RuntimeInfoHook(), hooks=[RuntimeInfoHook]),
        args=Call(pytest.approx, 3))
    loaded = read(write(content))
    assert loaded == dict(state_dict=loaded['state_dict'], meta=dict(epoch=1))


@pytest.mark.parametrize('kind', KINDS)
def test_code_is_not_run(write, tmp_path, kind):
    mark = tmp_path / 'mark'
    path = write(
        dict(state_dict=state_dict(), meta=dict(x=payloads(mark)[kind])))
    content = read(path)
    assert not mark.exists() and content['meta'] == {}
    assert list(content['state_dict']) == list(state_dict())
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize('kind', KINDS)
def test_code_in_the_place_of_the_weights(write, tmp_path, kind):
    mark = tmp_path / 'mark'
    path = write(payloads(mark)[kind])
    with pytest.raises(InvalidValueError, match='must hold a state dict, but'):
        read(path)
    assert not mark.exists()


def test_hooks_of_tensors_are_dropped(write, tmp_path):
    mark = tmp_path / 'mark'
    weight = torch.ones(2)
    crafted = Call(torch._utils._rebuild_tensor_v2, weight.storage(), 0, (2, ),
                   (1, ), True, {0: payloads(mark)['function']})
    loaded = read(write(dict(state_dict=dict(weight=crafted))))
    weight = loaded['state_dict']['weight'].requires_grad_()
    assert not weight._backward_hooks
    weight.sum().backward()
    assert not mark.exists()


def test_tensor_larger_than_its_storage(write):
    crafted = Call(torch._utils._rebuild_tensor_v2,
                   torch.ones(2).storage(), 0, (10**6, ), (1, ), False, {})
    with pytest.raises(InvalidValueError, match='damaged or not a checkpoint'):
        read(write(dict(state_dict=dict(weight=crafted))))


def test_config_that_mmengine_would_run_on_resuming(write, tmp_path):
    mark = tmp_path / 'mark'
    path = write(
        dict(
            state_dict={},
            meta=dict(epoch=1,
                      config=f'import os\nos.mkdir({str(mark)!r})\n')))
    schemes = dict(CheckpointLoader._schemes)
    try:
        read_checkpoints_safely()
        content = CheckpointLoader.load_checkpoint(path, 'cpu')
    finally:
        CheckpointLoader._schemes = schemes
    assert content['meta'] == dict(epoch=1) and not mark.exists()


@pytest.mark.parametrize('name', [
    'x.pth', 'http://host/x.pth', 'https://host/x.pth', 's3://x.pth',
    'mine:s3://x.pth', 'petrel://x.pth', 'pavi://x'
])
def test_every_address_is_read_safely(name):
    schemes = dict(CheckpointLoader._schemes)
    try:
        read_checkpoints_safely()
        loader = CheckpointLoader._get_checkpoint_loader(name)
    finally:
        CheckpointLoader._schemes = schemes
    assert loader is checkpoint_file.load_from_restricted


@pytest.mark.parametrize('damage', ['half', 'empty', 'text'])
def test_damaged(write, damage):
    path = write(dict(state_dict=dict(a=torch.arange(10_000.0))))
    os.truncate(path, os.path.getsize(path) // 2 if damage == 'half' else 0)
    if damage == 'text':
        with open(path, 'w') as file:
            file.write('a text')
    with pytest.raises(InvalidValueError, match='it is damaged or not a'):
        read(path)


def test_damaged_weights_in_a_whole_archive(tmp_path):
    """The old format has no checksums."""
    path = str(tmp_path / 'checkpoint.pth')
    torch.save(dict(state_dict=dict(a=torch.arange(10_000.0))), path)
    with open(path, 'r+b') as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(b'\0' * 64)
    assert torch.load(path)['state_dict']['a'].shape == (10_000, )
    with pytest.raises(InvalidValueError, match='content is damaged: Bad CRC'):
        read(path)


def test_torchscript(tmp_path):
    path = str(tmp_path / 'program.pth')
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(InvalidValueError, match='is a TorchScript program'):
        read(path)


def test_missing(tmp_path):
    with pytest.raises(MissingFileError, match='does not exist: give a path'):
        read(str(tmp_path / 'gone.pth'))


def test_no_internet(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(
            MissingFileError,
            match='could not be downloaded.*elsewhere, and give a path'):
        read('http://127.0.0.1:9/detector.pth')


def test_downloaded_once(monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    urls = []

    def download(url, path, **options):
        urls.append(url)
        torch.save(dict(a=torch.ones(1)), path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        assert read('https://host/folder/detector.pth?x=1')['a'].item() == 1
    assert urls == ['https://host/folder/detector.pth?x=1']
    cached = tmp_path / 'hub' / 'checkpoints' / 'detector.pth'
    cached.write_bytes(b'an error page')
    with pytest.raises(InvalidValueError, match=f'delete .*{cached.name}'):
        read('https://host/folder/detector.pth')


def test_safetensors(tmp_path):
    path = str(tmp_path / 'weights.safetensors')
    state = {
        key: value.detach().clone().contiguous()
        for key, value in state_dict().items() if not value.is_complex()
    }
    meta = dict(dataset_meta=dict(classes=['a']))
    safetensors.torch.save_file(state, path, dict(meta=json.dumps(meta)))
    content = read(path)
    assert content['meta'] == meta
    for key, tensor in state.items():
        assert torch.equal(content['state_dict'][key], tensor)


def test_safetensors_without_metadata_and_damaged(tmp_path):
    path = str(tmp_path / 'weights.safetensors')
    safetensors.torch.save_file(dict(a=torch.ones(3)), path)
    assert read(path)['meta'] == {}
    os.truncate(path, os.path.getsize(path) - 4)
    with pytest.raises(InvalidValueError, match='it is damaged or not a'):
        read(path)


def test_cyclic_content(write):
    content = dict(a=torch.ones(1))
    content['self'] = content
    with pytest.raises(InvalidValueError, match='it contains itself'):
        read(write(content))


def test_pickle_without_torch_format(tmp_path):
    path = tmp_path / 'plain.pth'
    path.write_bytes(pickle.dumps(dict(a=1)))
    with pytest.raises(InvalidValueError, match='it is damaged or not a'):
        read(str(path))


@pytest.mark.parametrize('content, message', [
    (dict(state_dict=3), '`state_dict` must be a dict, but its type is int'),
    (dict(state_dict=[1]),
     '`state_dict` must be a dict, but its type is list'),
    (dict(state_dict={3: 1}), 'weights by name, but one has the name 3'),
    (dict(state_dict={},
          meta='x'), '`meta` must be a dict, but its type is str'),
    ({
        (1, 2): 3
    }, r'weights by name, but one has the name \(1, 2\)'),
    ([1], 'must hold a state dict, but holds a list'),
])
def test_other_content(write, content, message):
    with pytest.raises(InvalidValueError, match=message):
        read(write(content))
