import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (BinTable, bin_edges, bin_index,
                                            calibration_error)
from tcal_det.fileio import plain_json
from tests.test_evaluation.test_functional.golden_files import load_golden


@pytest.mark.parametrize('closed', ['left', 'right'])
@pytest.mark.parametrize('num_bins', [5, 10, 15, 25])
def test_bins_of_values_on_edges(closed, num_bins):
    golden = load_golden('cls_edges')
    expected = golden['expected'][f'{closed}_b{num_bins}']['bin']
    index = bin_index(golden['inputs']['conf'], num_bins, closed)
    assert index.tolist() == expected


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 1), st.integers(1, 40))
def test_a_value_lies_between_the_edges_of_its_bin(value, num_bins):
    edges = bin_edges(num_bins)
    right = bin_index([value], num_bins, 'right')[0]
    assert edges[right] < value <= edges[right + 1] or (value == right == 0)
    left = bin_index([value], num_bins, 'left')[0]
    assert edges[left] <= value < edges[left + 1] or (value == 1
                                                      and left == num_bins - 1)


def test_float32_score_is_taken_as_stored():
    # 0.7 in float32 is below .7, 0.3 is above .3: other bins than in float64
    index = bin_index(np.array([0.3], dtype=np.float32), 10)
    assert index.tolist() == [3]
    assert bin_index([0.3], 10).tolist() == [2]


@pytest.mark.parametrize('value', [-1e-9, 1 + 1e-9, np.nan, np.inf])
def test_value_outside_the_unit_interval_is_refused(value):
    with pytest.raises(InvalidValueError, match=r'`values` must be in \[0'):
        bin_index([0.5, value], 10)


def test_options_are_checked():
    with pytest.raises(InvalidValueError, match="'right' or 'left'"):
        bin_index([0.5], 10, closed='both')
    with pytest.raises(
            InvalidValueError, match=r'`num_bins` must be in \[1, 1000\]'):
        bin_index([0.5], 0)
    with pytest.raises(InvalidTypeError, match='`num_bins`.*whole number'):
        bin_index([0.5], 2.5)
    with pytest.raises(InvalidTypeError, match='array of numbers'):
        bin_index(['high'], 2)


def test_empty_bins_are_nan_and_null_in_json():
    table = calibration_error([0.1, 0.9], [0, 1], num_bins=3).bins
    np.testing.assert_array_equal(table.count, [1, 0, 1])
    np.testing.assert_array_equal(table.mean_confidence, [.1, np.nan, .9])
    np.testing.assert_array_equal(table.mean_target, [0, np.nan, 1])
    text = json.dumps(plain_json(table.to_dict()), allow_nan=False)
    assert json.loads(text)['mean_target'] == [0, None, 1]


def test_merged_table_equals_the_table_of_all_samples():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(100), rng.integers(0, 2, 100)
    whole = calibration_error(confidence, correct).bins
    parts = [
        calibration_error(confidence[part], correct[part]).bins
        for part in (slice(0, 7), slice(7, 60), slice(60, 100))
    ]
    merged = BinTable.merge(parts)
    np.testing.assert_array_equal(merged.count, whole.count)
    np.testing.assert_allclose(merged.mean_target, whole.mean_target)
    np.testing.assert_allclose(merged.mean_confidence, whole.mean_confidence)


def test_tables_of_other_bins_do_not_merge():
    tables = [
        calibration_error([0.5], [1], num_bins=bins).bins for bins in (5, 10)
    ]
    with pytest.raises(InvalidValueError, match='same edges'):
        BinTable.merge(tables)
    with pytest.raises(InvalidValueError, match='at least one'):
        BinTable.merge([])
