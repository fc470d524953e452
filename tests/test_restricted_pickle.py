"""Pickles are read as pickle reads them, but for what could run code."""
import io
import pickle
from collections import Counter, OrderedDict, deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tcal_det.restricted_pickle import load_plain_pickle
from tests.payloads import KINDS, Call, payloads

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def load(content):
    return load_plain_pickle(io.BytesIO(content))


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_what_test_py_writes(protocol):
    samples = [
        dict(
            img_id=7,
            ori_shape=(480, 640),
            scale_factor=(0.5, 0.5),
            homography_matrix=np.eye(3, dtype=np.float32),
            pred_instances=dict(
                bboxes=torch.rand(2, 4),
                scores=torch.tensor([0.5, 0.25]).half(),
                labels=torch.tensor([0, 3]),
                masks=[dict(size=[4, 4], counts=b'\x00\xfe04'), b'']))
    ]
    sample, = load(pickle.dumps(samples, protocol))
    expected, = samples
    pred, expected_pred = (
        one.pop('pred_instances') for one in (sample, expected))
    for name in ('bboxes', 'scores', 'labels'):
        assert pred[name].dtype == expected_pred[name].dtype
        assert torch.equal(pred[name], expected_pred[name])
    assert pred['masks'] == expected_pred['masks']
    assert np.array_equal(
        sample.pop('homography_matrix'), expected.pop('homography_matrix'))
    assert sample == expected


def test_image_without_detections():
    # mmdet takes the scores from the last column of its boxes.
    boxes = torch.zeros(0, 5)
    sample = dict(bboxes=boxes[:, :4], scores=boxes[:, -1])
    found = load(pickle.dumps([sample]))[0]
    assert found['bboxes'].shape == (0, 4)
    assert found['scores'].shape == (0, )
    assert found['scores'].dtype == torch.float32


def test_tensor_whose_last_dimension_is_empty():
    """Its strides are those of one column."""
    found = load(pickle.dumps([torch.zeros(3, 0)]))[0]
    assert found.shape == (3, 0)


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('value', [
    np.float32(0.1),
    np.int64(-3),
    np.bool_(True),
    np.str_('zebra'), {1, 2},
    frozenset([3]),
    OrderedDict(a=1),
    Counter([3, 3, 5]),
    deque([1, 2], maxlen=3),
    np.array(['ab', 'c']),
    np.array([1, None, 'x'], dtype=object),
    np.zeros((0, 4)),
    np.array(2.5)
])
def test_plain_values(value, protocol):
    loaded = load(pickle.dumps(value, protocol))
    expected = pickle.loads(pickle.dumps(value, protocol))
    assert isinstance(loaded, type(expected))
    assert np.array_equal(loaded, expected) or loaded == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    array=st.sampled_from(
        '|b1 <i4 >i4 <u2 <f2 <f4 >f8 <c8 <U3 |S2'.split()).flatmap(
            lambda dtype: arrays(dtype, array_shapes(min_side=0))),
    is_fortran=st.booleans(),
    protocol=st.sampled_from(PROTOCOLS))
def test_arrays(array, is_fortran, protocol):
    array = np.asfortranarray(array) if is_fortran else array
    loaded = load(pickle.dumps(array, protocol))
    assert loaded.shape == array.shape
    # numpy's own way to compare NaN and byte orders: the bytes.
    native = array.astype(loaded.dtype)
    assert native.tobytes() == loaded.tobytes()
    assert loaded.dtype.newbyteorder('=') == array.dtype.newbyteorder('=')


def test_what_is_read_can_be_written_without_this_package():
    loaded = load(pickle.dumps(dict(a=np.arange(3.0), b=np.float32(1))))
    again = pickle.dumps(loaded)
    assert b'tcal_det' not in again
    assert type(pickle.loads(again)['a']) is np.ndarray


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('kind', KINDS)
def test_code_is_not_run(kind, protocol, tmp_path):
    mark = tmp_path / 'mark'
    content = pickle.dumps([dict(img_id=payloads(mark)[kind])], protocol)
    with pytest.raises(pickle.UnpicklingError, match='could run code'):
        load(content)
    assert not mark.exists()
    # The payload does what the test says it does.
    pickle.loads(content)
    assert mark.exists()


def test_code_inside_of_a_tensor(tmp_path):
    mark = tmp_path / 'mark'
    inner = io.BytesIO()
    torch.save(payloads(mark)['function'], inner)
    content = pickle.dumps(
        Call(torch.storage._load_from_bytes, inner.getvalue()))
    with pytest.raises(pickle.UnpicklingError, match='mkdir; only tensors'):
        load(content)
    assert not mark.exists()


def test_something_else_inside_of_a_tensor():
    inner = io.BytesIO()
    torch.save(dict(a=1), inner)
    with pytest.raises(pickle.UnpicklingError, match='a dict instead of'):
        load(
            pickle.dumps(
                Call(torch.storage._load_from_bytes, inner.getvalue())))


def array_state(
        dtype=('f8', False, True),
        dtype_state=(3, '<', None, None, None, -1, -1, 0),
        shape=(2, ),
        items=b'\0' * 16):
    """The pickle of an array whose every part a file can choose."""

    class Dtype:

        def __reduce__(self):
            return np.dtype, dtype, dtype_state

    class Array:

        def __reduce__(self):
            reconstruct = np.arange(1).__reduce__()[0]
            return (reconstruct, (np.ndarray, (0, ), b'b'), (1, shape, Dtype(),
                                                             False, items))

    return pickle.dumps(Array(), 2)


def test_array_as_it_should_be():
    assert load(array_state()).tolist() == [0.0, 0.0]


@pytest.mark.parametrize('parts', [
    dict(shape=(3, )),
    dict(shape=(2**62, 4)),
    dict(shape=(-1, -2)),
    dict(items=b''),
    dict(items=[0.0, 0.0]),
    dict(dtype=('V8', False, True)),
    dict(dtype=([('a', 'f8')], False, True)),
    dict(dtype=('O', False, True)),
    dict(dtype_state=(3, '<', None, ('a', ), dict(a=('f8', 99)), 8, 1, 0)),
    dict(dtype_state=(3, '<', ('f8', (99, )), None, None, -1, -1, 0)),
    dict(dtype_state=(3, '?', None, None, None, -1, -1, 0)),
])
def test_crafted_arrays(parts):
    with pytest.raises(pickle.UnpicklingError, match='it holds an array of'):
        load(array_state(**parts))


def test_crafted_bytes():
    import _codecs
    with pytest.raises(pickle.UnpicklingError, match="encoding 'rot13'"):
        load(pickle.dumps(Call(_codecs.encode, 'x', 'rot13')))
