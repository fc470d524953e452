"""The demo's data: real digits, disjoint splits, boxes that fit."""
import json
import os
import os.path as osp
import sys

import cv2
import numpy as np
import pytest

from tcal_det.errors import InvalidValueError
from tools.dataset_converters import digit_scenes
from tools.dataset_converters.digit_scenes import (compose_scene,
                                                   write_digit_scenes)

SCENES = dict(train=4, val=2, test=2)


def read(folder, split):
    path = osp.join(folder, 'annotations', f'{split}.json')
    with open(path) as file:
        return json.load(file)


def test_digits_of_the_splits_are_disjoint_and_all_classes_occur():
    splits = digit_scenes.split_digits(seed=0)
    images = [{image.tobytes()
               for image in split[0]} for split in splits.values()]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
    for _, labels in splits.values():
        assert set(labels) == set(range(10))


def test_boxes_hug_the_ink():
    """On a scene of one digit, what differs from the background alone."""
    rng = np.random.default_rng(3)
    digits = np.full((1, 8, 8), 16.0)
    image, objects = compose_scene(rng, digits, np.array([7]), 96, 1)
    (label, (x, y, width, height)), = objects
    assert label == 7
    # The same random background without the digit, with other noise.
    background, _ = compose_scene(
        np.random.default_rng(3), digits, np.array([7]), 96, 0)
    background = background.astype(int)
    changed = np.abs(image - background).mean(axis=2)
    inside = np.zeros((96, 96), bool)
    inside[y:y + height, x:x + width] = True
    assert changed[inside].mean() > 25
    assert changed[~inside].mean() < 10


class PlacedRng:
    """Places digits at given corners; all else is random."""

    def __init__(self, *corners):
        self.rng = np.random.default_rng(0)
        # Of each digit: which one it is, x and y.
        self.numbers = [number for x, y in corners for number in (0, x, y)]

    def integers(self, *limits):
        return self.numbers.pop(0)

    def __getattr__(self, name):
        return getattr(self.rng, name)


@pytest.mark.parametrize('overlap, is_kept', [(4, True), (5, True), (6, False),
                                              (10, False)])
def test_a_digit_of_which_less_than_half_is_seen_is_no_object(
        overlap, is_kept, monkeypatch):
    """Squares of 10 pixels, the second over columns of the first."""
    monkeypatch.setattr(digit_scenes, 'digit_mask', lambda *args: np.ones(
        (10, 10), np.float32))
    rng = PlacedRng((20, 30), (30 - overlap, 30), (0, 0))
    _, objects = compose_scene(rng, np.zeros((1, 8, 8)), np.array([7]), 64, 3)
    expected = [[20, 30, 10, 10], [30 - overlap, 30, 10, 10], [0, 0, 10, 10]]
    if not is_kept:
        del expected[1]
    assert [box for _, box in objects] == expected


def test_same_seed_same_scenes_whatever_their_number(tmp_path):
    first, second = str(tmp_path / 'a'), str(tmp_path / 'b')
    write_digit_scenes(first, SCENES, size=64, show_progress=False)
    write_digit_scenes(
        second, dict(SCENES, train=6), size=64, show_progress=False)
    for split in ('train', 'test'):
        mine, its = read(first, split), read(second, split)
        last = mine['images'][-1]['id']
        assert mine['annotations'] == [
            annotation for annotation in its['annotations']
            if annotation['image_id'] <= last
        ]
        image = osp.join(split, '00001.jpg')
        assert np.array_equal(
            cv2.imread(osp.join(first, image)),
            cv2.imread(osp.join(second, image)))


def test_other_classes_are_other_annotations_of_the_same_scenes(tmp_path):
    """By name: the order is another, digits are missing, one is none."""
    for name, classes in (('all', '0123456789'), ('some', '97x31')):
        write_digit_scenes(
            str(tmp_path / name), SCENES, show_progress=False, classes=classes)
    whole, part = (
        read(str(tmp_path / name), 'train') for name in ('all', 'some'))
    assert [one['name'] for one in part['categories']] == list('97x31')

    def objects(content):
        names = {one['id']: one['name'] for one in content['categories']}
        return [(one['image_id'], names[one['category_id']], one['bbox'])
                for one in content['annotations']]

    known = [one for one in objects(whole) if one[1] in '9731']
    assert known and objects(part) == known
    assert len(known) < len(objects(whole))
    image = osp.join('train', '00001.jpg')
    assert ((tmp_path / 'all' / image).read_bytes() == (tmp_path / 'some' /
                                                        image).read_bytes())


@pytest.mark.parametrize('classes', [('1', '1'), ('x', 'y'), ()])
def test_classes_that_are_none(tmp_path, classes):
    with pytest.raises(InvalidValueError, match='`classes` must be different'):
        write_digit_scenes(str(tmp_path / 'x'), SCENES, classes=classes)


def test_boxes_lie_in_their_scene(tmp_path):
    folder = str(tmp_path / 'digits')
    write_digit_scenes(folder, SCENES, size=80, show_progress=False)
    for split, count in SCENES.items():
        content = read(folder, split)
        assert len(content['images']) == count
        assert len(content['categories']) == 10
        for annotation in content['annotations']:
            x, y, width, height = annotation['bbox']
            assert x >= 0 and width > 0 and x + width <= 80
            assert y >= 0 and height > 0 and y + height <= 80


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(digit_scenes, 'compose_scene', stop)
    with pytest.raises(KeyboardInterrupt):
        write_digit_scenes(str(tmp_path / 'digits'), SCENES)
    assert not os.listdir(str(tmp_path))


@pytest.mark.parametrize('arguments, message', [
    (dict(num_scenes=dict(train=0, val=1, test=1)), '`num_scenes`'),
    (dict(num_scenes=SCENES, size=8), r'`size` must be in \[64, 4096\].*8'),
    (dict(num_scenes=SCENES, size=10**9), '`size` must be in'),
    (dict(num_scenes=SCENES, seed=-1), '`seed` must be >= 0'),
    (dict(num_scenes=SCENES, digits_per_scene=(3, 2)), '`digits_per_scene`'),
])
def test_bad_numbers(tmp_path, arguments, message):
    with pytest.raises(InvalidValueError, match=message):
        write_digit_scenes(str(tmp_path / 'digits'), **arguments)


def test_pictures_that_are_not_written_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imencode', lambda *args: (False, None))
    with pytest.raises(InvalidValueError, match='JPEG'):
        write_digit_scenes(
            str(tmp_path / 'digits'), SCENES, size=64, show_progress=False)
    assert not os.listdir(str(tmp_path))


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    out = str(tmp_path / 'file' / 'digits')
    with pytest.raises(InvalidValueError, match='`out` .*cannot be made'):
        write_digit_scenes(out, SCENES, show_progress=False)


def test_without_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(InvalidValueError, match='pip install scikit-learn'):
        write_digit_scenes(str(tmp_path / 'digits'), SCENES)
    assert not os.listdir(str(tmp_path))
