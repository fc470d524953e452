"""Crops of digits with labels of known noise."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from benchmarks.study.classifiers import data
from benchmarks.study.classifiers.data import (draw_labels, label_distribution,
                                               make_crops, tempered)
from tools.dataset_converters import digit_scenes

PARTNER = {3: 8, 8: 3, 4: 9, 9: 4, 1: 7, 7: 1}


@pytest.fixture(scope='module')
def crops():
    return make_crops('val', 80, seed=9000)


def test_label_distribution_by_hand():
    matrix = label_distribution()
    assert matrix[3].tolist() == [0, 0, 0, 0.7, 0, 0, 0, 0, 0.3, 0]
    assert matrix[9].tolist() == [0, 0, 0, 0, 0.3, 0, 0, 0, 0, 0.7]
    assert matrix[7].tolist() == [0, 0.3, 0, 0, 0, 0, 0, 0.7, 0, 0]
    for certain in (0, 2, 5, 6):
        assert matrix[certain].tolist() == np.eye(10)[certain].tolist()
    assert (matrix == matrix.T).all()


def test_frequencies_of_drawn_labels_are_the_distribution():
    """Monte Carlo: within 4 standard errors in each of the 100 cells."""
    num = 20000
    uniform = np.random.default_rng(9000).random((10, num))
    for digit in range(10):
        drawn = draw_labels(np.full(num, digit), uniform[digit])
        frequency = np.bincount(drawn, minlength=10) / num
        expected = label_distribution()[digit]
        error = np.sqrt(expected * (1 - expected) / num)
        assert (np.abs(frequency - expected) <= 4 * error).all()


def test_the_edges_of_the_random_numbers():
    # Of a 3: below 0.7 it stays, from there on it is an 8; of an 8 the 3
    # comes first, with 0.3.
    uniform = np.array([0, 0.69, 0.71, np.nextafter(1, 0)])
    assert draw_labels(np.full(4, 3), uniform).tolist() == [3, 3, 8, 8]
    assert draw_labels(np.full(4, 8), uniform).tolist() == [3, 8, 8, 8]
    assert draw_labels(np.full(4, 6), uniform).tolist() == [6] * 4


def test_labels_are_swapped_within_pairs_only(crops):
    changed = crops.labels != crops.clean_labels
    assert 0 < changed.sum() < len(changed)
    for clean, noisy in zip(crops.clean_labels[changed],
                            crops.labels[changed]):
        assert PARTNER[clean] == noisy


def test_posterior_is_the_row_of_the_digit_not_of_the_label(crops):
    expected = np.zeros((len(crops.labels), 10))
    for row, digit in zip(expected, crops.clean_labels):
        row[digit] = 0.7 if digit in PARTNER else 1
        if digit in PARTNER:
            row[PARTNER[digit]] = 0.3
    assert (crops.posterior == expected).all()


def test_tempered_by_hand():
    probs = np.array([[0.7, 0.3, 0]])
    sharper = tempered(probs, 0.5)
    assert sharper == pytest.approx(np.array([[0.49, 0.09, 0]]) / 0.58)
    cubes = np.cbrt([0.7, 0.3])
    assert tempered(probs, 3)[0, :2] == pytest.approx(cubes / cubes.sum())
    assert tempered(probs, 3)[0, 2] == 0
    assert tempered(probs, 1) == pytest.approx(probs)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.floats(0.1, 10),
    st.floats(0.1, 10))
def test_tempered_is_a_softmax_and_temperatures_multiply(
        logits, first, second):
    logits = np.array([logits])
    once = tempered(softmax(logits, axis=1), first)
    np.testing.assert_allclose(
        once, softmax(logits / first, axis=1), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        tempered(softmax(logits, axis=1), first * second),
        softmax(logits / first / second, axis=1),
        rtol=1e-6,
        atol=1e-12)


def test_crops_are_standardised(crops):
    assert crops.pixels.dtype == np.float32
    assert crops.pixels.mean(axis=1) == pytest.approx(0, abs=1e-5)
    assert crops.pixels.std(axis=1) == pytest.approx(1, abs=1e-4)


def test_a_crop_does_not_depend_on_their_number(crops):
    few = make_crops('val', 5, seed=9000)
    assert (few.pixels == crops.pixels[:5]).all()
    assert (few.labels == crops.labels[:5]).all()
    assert (few.pixels == crops.first(5).pixels).all()
    other = make_crops('val', 5, seed=9001)
    assert not (other.pixels == few.pixels).any(axis=1).all()


def test_digits_of_the_splits_are_disjoint():
    found = {
        split: {digit.tobytes()
                for digit in data.digits_of(split)[0]}
        for split in data.SPLITS
    }
    for first in found:
        for second in found:
            assert first == second or not found[first] & found[second]
    train = digit_scenes.split_digits(0)['train'][0]
    assert found['student'] | found['other'] == {
        digit.tobytes()
        for digit in train
    }
    for split in data.SPLITS:
        assert set(data.digits_of(split)[1]) == set(range(10))


def test_the_crop_is_the_square_about_the_box(monkeypatch):
    monkeypatch.setattr(data, 'MARGIN', (1, 1))
    monkeypatch.setattr(data, 'SHIFT', 0)
    # Grey grows by 3 from column to column.
    scene = np.repeat(3 * np.arange(64, dtype=np.uint8)[None, :, None], 64, 0)
    scene = np.repeat(scene, 3, 2)
    # Centre 30, longer side 32: columns 14 to 46, two a pixel of the crop.
    crop = data.crop_digit(np.random.default_rng(0), scene, [24, 8, 12, 32])
    centres = 14 + 2 * (np.arange(16) + 0.5) - 0.5
    assert crop[8] == pytest.approx(3 * centres, abs=1)
    assert (crop == crop[:1]).all()


def test_a_crop_of_one_grey_stays_finite():
    assert (data.standardize(np.full((16, 16), 90, np.uint8)) == 0).all()
