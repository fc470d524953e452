"""Label folders of YOLO: round trips, and each wrong line by its place."""
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.evaluation.formats import (read_yolo_annotations,
                                         read_yolo_results)
from tests.test_evaluation.test_formats.label_folders import (
    random_annotations, random_results, write, write_sizes, write_yolo)

UNIT = 2.0**-53  # largest relative error of one operation in float64
seeds = st.integers(0, 2**32 - 1)


def rounding_of(boxes):
    """Bound on the error of a box that went through fractions and back.

    Written as c = (x + w / 2) / W and f = w / W, read as (c - f / 2) W and
    f W. c has two roundings of relative size UNIT and f one; the difference
    and the product add two to x. In pixels: 2 (x + w / 2) + w / 2 + 2 x
    units, and 2 w units for the side. A per cent more covers UNIT squared.
    """
    corner, side = np.abs(boxes[:, :2]), boxes[:, 2:]
    return 1.01 * UNIT * np.concatenate(
        (4 * corner + 1.5 * side, 2 * side), axis=1)


def boxes_of(records):
    return np.array([one['bbox'] for one in records]).reshape(-1, 4)


def without_boxes(records):
    return [{
        key: value
        for key, value in one.items() if key not in ('bbox', 'id')
    } for one in records]


def in_order(records, annotations):
    images = [one['id'] for one in annotations['images']]
    return sorted(records, key=lambda one: images.index(one['image_id']))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_objects_survive_a_round_trip(seed):
    annotations = random_annotations(seed)
    with tempfile.TemporaryDirectory() as folder:
        labels = write_yolo(f'{folder}/labels', annotations,
                            annotations['annotations'])
        sizes = write_sizes(f'{folder}/sizes.csv', annotations)
        found = read_yolo_annotations(labels, sizes)
    assert found['images'] == annotations['images']
    assert found['categories'] == annotations['categories']
    expected = in_order(annotations['annotations'], annotations)
    assert without_boxes(found['annotations']) == without_boxes(expected)
    boxes = boxes_of(expected)
    error = np.abs(boxes_of(found['annotations']) - boxes)
    assert (error <= rounding_of(boxes)).all()


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans())
def test_detections_survive_a_round_trip(seed, with_names):
    annotations = random_annotations(seed)
    records = random_results(seed, annotations)
    with tempfile.TemporaryDirectory() as folder:
        labels = write_yolo(f'{folder}/labels', annotations, records,
                            with_names)
        found = read_yolo_results(labels, annotations,
                                  annotations['categories'])
    expected = in_order(records, annotations)
    # Scores and ids exactly, in the order of the lines.
    assert without_boxes(found) == without_boxes(expected)
    boxes = boxes_of(expected)
    assert (np.abs(boxes_of(found) - boxes) <= rounding_of(boxes)).all()


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_six_digits_of_ultralytics_cost_less_than_a_hundredth_of_a_pixel(seed):
    """Its %g is wrong by 5e-7 at most, in numbers up to 1."""
    annotations = random_annotations(seed)
    records = random_results(seed, annotations)
    with tempfile.TemporaryDirectory() as folder:
        labels = write_yolo(
            f'{folder}/labels', annotations, records, form='%g'.__mod__)
        found = read_yolo_results(labels, annotations,
                                  annotations['categories'])
    expected = in_order(records, annotations)
    sizes = {
        one['id']: [one['width'], one['height']]
        for one in annotations['images']
    }
    sides = np.array([sizes[one['image_id']]
                      for one in expected]).reshape(-1, 2)
    bound = np.concatenate((7.5e-7 * sides, 5e-7 * sides), axis=1) + 1e-9
    assert (np.abs(boxes_of(found) - boxes_of(expected)) <= bound).all()
    for one, other in zip(found, expected):
        assert abs(one['score'] - other['score']) <= 5.01e-7


def test_a_line_by_hand(tmp_path):
    labels = write(
        tmp_path / 'labels',
        {'a.txt': '1 0.5 0.25 0.5 0.5 0.75\n\n0 0.5 0.5 1 1 0.125\n'})
    annotations = dict(
        images=[dict(id=7, file_name='val/a.jpg', width=80, height=40)],
        categories=[dict(id=90, name='x'),
                    dict(id=3, name='y')])
    assert read_yolo_results(
        labels, annotations, annotations['categories']) == [
            dict(image_id=7, category_id=3, bbox=[20, 0, 40, 20], score=0.75),
            dict(image_id=7, category_id=90, bbox=[0, 0, 80, 40], score=0.125)
        ]


def test_labels_written_as_floats_are_labels(tmp_path):
    """As numpy.savetxt writes them."""
    labels = write(tmp_path / 'labels', {'a.txt': '1.000e+00 .5 .5 1 1'})
    sizes = write(tmp_path, {'sizes.csv': 'a.jpg,10,10'}) + '/sizes.csv'
    found = read_yolo_annotations(labels, sizes)
    assert found['annotations'][0]['category_id'] == 2
    # Without names the labels are their own.
    assert [one['name'] for one in found['categories']] == ['0', '1']


def test_images_without_labels_are_background(tmp_path):
    for name in ('a.jpg', 'b.png', 'c.PNG'):
        (tmp_path / 'images' / 'val').mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (64, 48)).save(tmp_path / 'images' / 'val' / name)
    labels = write(tmp_path / 'labels' / 'val', {
        'b.txt': '0 .5 .5 .5 .5',
        'c.txt': ''
    })
    # Found as `images` in place of `labels`.
    found = read_yolo_annotations(labels)
    assert [one['id'] for one in found['images']] == ['a', 'b', 'c']
    assert found['annotations'] == [
        dict(
            id=1,
            image_id='b',
            category_id=1,
            bbox=[16, 12, 32, 24],
            iscrowd=0)
    ]


@pytest.mark.parametrize('names', ['data.yaml', 'classes.txt'])
def test_names_of_ultralytics_layout(tmp_path, names):
    pytest.importorskip('yaml')
    text = {
        'data.yaml': 'nc: 2\nnames:\n  0: cat\n  1: dog\n',
        'classes.txt': 'cat\ndog\n'
    }[names]
    write(tmp_path, {names: text, 'sizes.csv': 'a.jpg,10,10'})
    labels = write(tmp_path / 'labels' / 'val', {'a.txt': '1 .5 .5 .5 .5'})
    found = read_yolo_annotations(labels, str(tmp_path / 'sizes.csv'))
    assert found['categories'] == [
        dict(id=1, name='cat'), dict(id=2, name='dog')
    ]


WRONG_LINES = [
    ('0 .5 .5 .5', 'must be `class cx cy w h conf`, but has 4 columns'),
    ('0 .5 .5 .5 .5', 'confidence is missing.*save_conf=True'),
    ('0 .5 .5 .5 .5 .9 17', '7 columns; polygons, .* track ids'),
    ('0 .1 .1 .2 .1 .2 .2 .9', '8 columns; polygons'),
    ('cat .5 .5 .5 .5 .9', "all numbers, but got 'cat .5"),
    ('0 .5 .5 .5 .5 high', 'all numbers'),
    ('-1 .5 .5 .5 .5 .9', "class must be a whole number .*'-1'"),
    ('0.5 .5 .5 .5 .5 .9', 'class must be a whole number'),
    ('nan .5 .5 .5 .5 .9', 'class must be a whole number'),
    ('inf .5 .5 .5 .5 .9', 'class must be a whole number'),
    ('3 .5 .5 .5 .5 .9', 'label must be one of 3 .* but got 3'),
    ('1e300 .5 .5 .5 .5 .9', 'label must be one of 3'),
    ('0 nan .5 .5 .5 .9', 'must be fractions of the image'),
    ('0 inf .5 .5 .5 .9', 'must be fractions of the image'),
    ('0 320 240 64 48 .9', 'fractions .*pixels must be divided'),
    ('0 .5 .5 -.5 .5 .9', 'w and h must not be negative'),
    ('0 .5 .5 .5 .5 1.5', r'conf must be in \[0, 1\], but got 1.5'),
    ('0 .5 .5 .5 .5 nan', r'conf must be in \[0, 1\]'),
]


@pytest.mark.parametrize('line, message', WRONG_LINES)
def test_wrong_lines_of_detections(tmp_path, line, message):
    annotations = random_annotations(0, num_images=1)
    labels = write(tmp_path / 'labels',
                   {'image 0.txt': f'0 .5 .5 .5 .5 .5\n\n{line}\n'})
    with pytest.raises(
            InvalidValueError,
            match=rf"^line 3 of .*image 0\.txt'.*{message}"):
        read_yolo_results(labels, annotations, annotations['categories'])


@pytest.mark.parametrize('line, message', [
    ('0 .5 .5 .5 .5 .9', 'objects have no confidence.*given as ground truth'),
    ('0 .1 .1 .2 .1 .2 .2', '7 columns; polygons'),
    ('2 .5 .5 .5 .5', 'class must be below 2, the number of class names'),
])
def test_wrong_lines_of_objects(tmp_path, line, message):
    write(tmp_path, {'sizes.csv': 'a.jpg,10,10', 'classes.txt': 'x\ny'})
    labels = write(tmp_path / 'labels', {'a.txt': f'{line}\n'})
    with pytest.raises(InvalidValueError, match=f'line 1 of .*{message}'):
        read_yolo_annotations(labels, str(tmp_path / 'sizes.csv'))


def test_a_huge_label_without_names(tmp_path):
    write(tmp_path, {'sizes.csv': 'a.jpg,10,10'})
    labels = write(tmp_path / 'labels', {'a.txt': '1e12 .5 .5 .5 .5'})
    with pytest.raises(InvalidValueError, match='below 10000 where there'):
        read_yolo_annotations(labels, str(tmp_path / 'sizes.csv'))


def test_sizes_are_asked_for(tmp_path):
    labels = write(tmp_path / 'gt', {'a.txt': '0 .5 .5 .5 .5'})
    with pytest.raises(InvalidValueError, match='needs the sizes.*--images'):
        read_yolo_annotations(labels)
    with pytest.raises(MissingFileError, match='gone'):
        read_yolo_annotations(labels, str(tmp_path / 'gone'))
    annotations = dict(
        images=[dict(id=1, file_name='a.jpg', width=0)],
        categories=[dict(id=1, name='x')])
    predictions = write(tmp_path / 'dt', {'a.txt': '0 .5 .5 .5 .5 .5'})
    with pytest.raises(InvalidValueError, match=r'a\.txt.*size.*--images'):
        read_yolo_results(predictions, annotations, annotations['categories'])
    write(tmp_path, {'sizes.json': '{"a.jpg": [10, 20]}'})
    found = read_yolo_results(predictions, annotations,
                              annotations['categories'],
                              str(tmp_path / 'sizes.json'))
    assert found[0]['bbox'] == [2.5, 5, 5, 10]


def test_labels_without_an_image(tmp_path):
    write(tmp_path, {'sizes.csv': 'a.jpg,10,10'})
    labels = write(tmp_path / 'labels', {'b.txt': '0 .5 .5 .5 .5'})
    with pytest.raises(InvalidValueError, match="none .* is called 'b'"):
        read_yolo_annotations(labels, str(tmp_path / 'sizes.csv'))
    annotations = random_annotations(0)
    with pytest.raises(InvalidValueError, match="b.txt.*called 'b'; were"):
        read_yolo_results(labels, annotations, annotations['categories'])


def test_two_images_of_one_name(tmp_path):
    labels = write(tmp_path / 'labels', {'a.txt': '0 .5 .5 .5 .5 .5'})
    annotations = random_annotations(0, num_images=2)
    for image, name in zip(annotations['images'], ('x/a.jpg', 'y\\a.png')):
        image['file_name'] = name
    with pytest.raises(InvalidValueError, match="are both 'a'"):
        read_yolo_results(labels, annotations, annotations['categories'])


def test_classes_become_categories_by_name(tmp_path):
    annotations = dict(
        images=[dict(id=1, file_name='a.jpg', width=10, height=10)],
        categories=[
            dict(id=5, name='dog'),
            dict(id=6, name='cat'),
            dict(id=7, name='cow')
        ])
    labels = write(
        tmp_path / 'labels', {
            'a.txt': '0 .5 .5 1 1 .1\n1 .5 .5 1 1 .2\n2 .5 .5 1 1 .3',
            'classes.txt': 'car\ncat\ndog'
        })
    with pytest.warns(UserWarning) as warned:
        found = read_yolo_results(labels, annotations,
                                  annotations['categories'])
    assert [(one['category_id'], one['score']) for one in found] == [(6, .2),
                                                                     (5, .3)]
    messages = [str(one.message) for one in warned]
    assert len(messages) == 2
    assert "lack 1 of the 3 categories of the annotations (['cow'])" in (
        messages[0])
    assert "1 detections of 1 classes" in messages[1]
    assert "['car']" in messages[1]


def test_classes_that_differ(tmp_path):
    annotations = random_annotations(0, num_images=1)
    labels = write(tmp_path / 'labels', {
        'image 0.txt': '0 .5 .5 1 1 .1',
        'classes.txt': 'car'
    })
    with pytest.raises(
            InvalidValueError,
            match=r"classes\.txt' must be among.*class 0.*but got \['car'\]"):
        read_yolo_results(labels, annotations, annotations['categories'])
    annotations['categories'][1]['name'] = 'class 0'
    write(labels, {'classes.txt': 'class 0\nclass 2'})
    with pytest.raises(InvalidValueError, match="1 and 2 are both 'class 0'"):
        read_yolo_results(labels, annotations, annotations['categories'])


def test_a_file_that_is_no_text(tmp_path):
    labels = tmp_path / 'labels'
    labels.mkdir()
    (labels / 'image 0.txt').write_bytes(b'\xff\xfe0\x00')
    annotations = random_annotations(0, num_images=1)
    with pytest.raises(InvalidValueError, match='image 0.txt.*cannot be read'):
        read_yolo_results(str(labels), annotations, annotations['categories'])
