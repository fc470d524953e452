"""Predictions are written whole or not at all."""
import os
import pickle
from unittest import mock

import numpy as np
import pytest
import torch

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.metrics import detection_dump


def samples():
    return [
        dict(
            img_id=3,
            pred_instances=dict(
                bboxes=torch.tensor([[0., 0., 2., 2.]]),
                scores=torch.tensor([0.5]),
                labels=torch.tensor([1])))
    ]


def dump_of(path):
    dump = detection_dump.AtomicDumpDetResults(out_file_path=str(path))
    dump.process({}, samples())
    return dump


def test_content(tmp_path):
    path = tmp_path / 'results.pkl'
    assert dump_of(path).evaluate(size=1) == {}
    sample, = pickle.loads(path.read_bytes())
    assert sample['img_id'] == 3
    assert np.array_equal(sample['pred_instances']['bboxes'], [[0, 0, 2, 2]])
    assert os.listdir(str(tmp_path)) == ['results.pkl']


def test_full_disk(tmp_path):
    path = tmp_path / 'results.pkl'
    path.write_bytes(b'the old ones')

    def write_half(obj, file, file_format):
        with open(file, 'wb') as opened:
            opened.write(b'half')
        raise OSError(28, 'No space left on device')

    with mock.patch.object(detection_dump, 'dump', write_half), pytest.raises(
            InvalidValueError, match='cannot be written: .*No space left'):
        dump_of(path).evaluate(size=1)
    assert path.read_bytes() == b'the old ones'
    assert os.listdir(str(tmp_path)) == ['results.pkl']
