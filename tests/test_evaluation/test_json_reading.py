import gc
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation import json_reading
from tcal_det.evaluation.results_file import read_annotations_and_results

DECODERS = ['json'] + ['msgspec'] * (json_reading.msgspec is not None)
# What cuts may be mistaken about.
PIECES = st.sampled_from(
    ['{', '}', '[', ']', ',', ' ', '\n', '"', ':', '},{', ', {', '"a":1', '1'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers()
    | st.text(max_size=5) | st.sampled_from(['},{', ',{"a', '[{', '\ud800']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(['a', 'b', ',{']), inner, max_size=3),
    max_leaves=8)
RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=100)


@pytest.fixture(params=DECODERS, autouse=True)
def decoder(request, monkeypatch):
    if request.param == 'json':
        monkeypatch.setattr(json_reading, 'msgspec', None)
    return request.param


def blocks_of(text, size, tmp_path, monkeypatch):
    path = tmp_path / 'records.json'
    path.write_text(text, encoding='utf-8')
    monkeypatch.setattr(json_reading, '_BLOCK_SIZE', size)
    return list(json_reading.iter_record_blocks(str(path)))


@RELAXED
@given(VALUES)
@example([2**64, -2**63 - 1, 10**30, 0.1, -0.0, 5e-324])
@example([float('nan'), float('inf')])
def test_content_is_that_of_json(tmp_path, value):
    path = tmp_path / 'value.json'
    path.write_text(json.dumps(value))
    # As text: NaN is not equal to itself, and 1 is equal to True and 1.0.
    assert repr(json_reading.load_json(str(path))) == repr(
        json.loads(path.read_text()))


@RELAXED
@given(
    st.lists(VALUES | st.dictionaries(st.sampled_from(['a', 'b']), VALUES)),
    st.integers(1, 60), st.sampled_from([None, 1]))
def test_blocks_join_to_the_whole(tmp_path, monkeypatch, values, size, indent):
    text = json.dumps(values, indent=indent)
    try:
        blocks = blocks_of(text, size, tmp_path, monkeypatch)
    except ValueError:
        return  # read as a whole
    assert repr(sum(blocks, [])) == repr(json.loads(text))


@RELAXED
@given(st.lists(PIECES, max_size=12).map(''.join), st.integers(1, 8))
@example('[,{}]', 1)
@example('[{},,{}]', 1)
@example('[{}],[{}]', 1)
@example('{},{}', 1)
@example('[{}, "},{"]', 3)
def test_what_is_no_json_is_no_list_of_blocks(tmp_path, monkeypatch, text,
                                              size):
    try:
        blocks = blocks_of(text, size, tmp_path, monkeypatch)
    except ValueError:
        return
    assert sum(blocks, []) == json.loads(text)


@pytest.mark.parametrize('indent', [None, 2])
def test_records_come_in_blocks(tmp_path, monkeypatch, indent):
    records = [
        dict(image_id=i, bbox=[1, 2, 3.5, 4], note=dict(text='a{b'))
        for i in range(500)
    ]
    text = json.dumps(records, indent=indent)
    blocks = blocks_of(text, 1000, tmp_path, monkeypatch)
    assert sum(blocks, []) == records
    # Small ones, but for files above 64 times that size.
    assert max(map(len, blocks)) * len(text) / len(records) < max(
        3000,
        len(text) / 20)
    assert blocks_of('[]', 1000, tmp_path, monkeypatch) == [[]]


def test_the_collector_runs_again_after_a_mistake(tmp_path):
    path = tmp_path / 'bad.json'
    path.write_text('[1,')
    with pytest.raises(ValueError, match='Expecting value'):
        json_reading.load_json(str(path))
    assert gc.isenabled()


@pytest.mark.parametrize('bad, complaint', [
    (dict(score=2), r'`results\[150\]`: `score` must be in'),
    (dict(bbox=[1, 2, 3]), r'`results\[150\]`: `bbox` must be 4'),
    (dict(image_id=10**30), r'`results\[150\]`: `image_id` must be one of'),
])
def test_messages_count_over_all_blocks(golden, tmp_path, monkeypatch, bad,
                                        complaint):
    annotations = golden('det_small_gt.json')
    results = golden('det_small_dt.json') * 100
    results[150] = dict(results[150], **bad)
    paths = [str(tmp_path / name) for name in ('gt.json', 'dt.json')]
    for path, content in zip(paths, (annotations, results)):
        with open(path, 'w') as file:
            json.dump(content, file)
    monkeypatch.setattr(json_reading, '_BLOCK_SIZE', 500)
    with pytest.raises((InvalidValueError, TypeError), match=complaint):
        read_annotations_and_results(*paths)
