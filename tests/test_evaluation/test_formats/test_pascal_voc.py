"""Pascal VOC: round trips, the devkit's coordinates, and wrong files."""
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcal_det.errors import InvalidValueError
from tcal_det.evaluation.formats import read_voc_annotations, read_voc_results
from tests.test_evaluation.test_formats.label_folders import (
    random_annotations, random_results, voc_corners, write, write_voc)

UNIT = 2.0**-53  # largest relative error of one operation in float64
seeds = st.integers(0, 2**32 - 1)


def boxes_of(records):
    return np.array([one['bbox'] for one in records]).reshape(-1, 4)


def rounding_of(boxes):
    """Bound on the error of a box written as corners and read again.

    x + 1 and back: two roundings of at most UNIT (|x| + 1). x + width, its
    difference to the corner (itself rounded), and + 1: three roundings of
    numbers of at most |x| + width + 1, and that of the corner.
    """
    corner, side = np.abs(boxes[:, :2]), boxes[:, 2:]
    return 1.01 * UNIT * np.concatenate(
        (2 * (corner + 1), 4 * (corner + side + 1)), axis=1)


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans())
def test_objects_survive_a_round_trip(seed, are_whole):
    annotations = random_annotations(seed)
    rng = np.random.default_rng(seed)
    for one in annotations['annotations']:
        one['iscrowd'] = int(rng.integers(2))
        if are_whole:
            # A box of the devkit has at least a pixel.
            one['bbox'] = [
                round(value) + i // 2 for i, value in enumerate(one['bbox'])
            ]
    with tempfile.TemporaryDirectory() as folder:
        labels = write_voc(f'{folder}/xml', annotations)
        names = write(
            folder, {
                'classes.txt':
                '\n'.join(one['name'] for one in annotations['categories'])
            }) + '/classes.txt'
        found = read_voc_annotations(labels, names=names)
    assert found['images'] == annotations['images']
    assert found['categories'] == annotations['categories']
    expected = annotations['annotations']
    for one, other in zip(found['annotations'], expected):
        assert {**one, 'bbox': None} == {**other, 'bbox': None}
    boxes = boxes_of(expected)
    error = np.abs(boxes_of(found['annotations']) - boxes)
    assert (error <= (0 if are_whole else rounding_of(boxes))).all()


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_detections_survive_a_round_trip(seed):
    annotations = random_annotations(seed)
    records = random_results(seed, annotations)
    names = {one['id']: one['name'] for one in annotations['categories']}
    lines = {name: [] for name in names.values()}
    for one in records:
        values = (one['score'], *voc_corners(one['bbox']))
        # Images are called by their name, which has a space in COCO's list.
        stem = one['image_id'].replace(' ', '_')
        lines[names[one['category_id']]].append(' '.join(
            [stem, *map(repr, values)]))
    for image in annotations['images']:
        image['file_name'] = image['file_name'].replace(' ', '_')
    with tempfile.TemporaryDirectory() as folder:
        results = write(
            f'{folder}/main', {
                f'comp4_det_test_{name}.txt': '\n'.join(text)
                for name, text in lines.items()
            })
        found = read_voc_results(results, annotations)
    # By class; the order within a class is that of the file.
    expected = sorted(records, key=lambda one: one['category_id'])
    assert [{
        **one, 'bbox': None
    } for one in found] == [{
        **one, 'bbox': None
    } for one in expected]
    boxes = boxes_of(expected)
    assert (np.abs(boxes_of(found) - boxes) <= rounding_of(boxes)).all()


def test_coordinates_are_those_of_the_devkit(tmp_path):
    """Corners (47, 239), (195, 371), as supervision 0.31.2 reads them."""
    folder = write(
        tmp_path, {
            'q.xml':
            '<annotation><filename>old name.jpg</filename><size>'
            '<width>500</width><height>400</height></size><object>'
            '<name> dog </name><bndbox><ymax>371</ymax><xmin>48</xmin>'
            '<ymin>240</ymin><xmax>195</xmax></bndbox></object>'
            '</annotation>'
        })
    assert read_voc_annotations(folder) == dict(
        images=[dict(id='q', file_name='q', width=500, height=400)],
        categories=[dict(id=1, name='dog')],
        annotations=[
            dict(
                id=1,
                image_id='q',
                category_id=1,
                bbox=[47, 239, 148, 132],
                iscrowd=0)
        ])


def test_sizes_that_a_file_lacks(tmp_path):
    write(tmp_path, {'sizes.csv': 'a.jpg,30,20'})
    folder = write(
        tmp_path / 'xml', {
            'a.xml': '<annotation/>',
            'b.xml': '<annotation><size><width>0</width></size></annotation>'
        })
    found = read_voc_annotations(folder, str(tmp_path / 'sizes.csv'))
    assert found['images'] == [
        dict(id='a', file_name='a', width=30, height=20),
        dict(id='b', file_name='b')
    ]


def voc_object(name='<name>dog</name>', difficult='', corners=(1, 2, 3, 4)):
    tags = ('xmin', 'ymin', 'xmax', 'ymax')
    box = ''.join(f'<{tag}>{one}</{tag}>' for tag, one in zip(tags, corners))
    return (f'<object>{name}{difficult}<bndbox>{box}</bndbox></object>')


WRONG_OBJECTS = [
    (voc_object(name=''), 'must have a <name>'),
    (voc_object(difficult='<difficult>yes</difficult>'),
     "<difficult> must be 0 or 1, but got 'yes'"),
    (voc_object(corners=(1, 2, 3)), 'must have xmin, ymin, xmax, ymax'),
    (voc_object(corners=(1, 2, 'nan', 4)), 'numbers of at most 1e'),
    (voc_object(corners=(1, 2, 'inf', 4)), 'numbers of at most 1e'),
    (voc_object(corners=(1, 2, 'wide', 4)), 'numbers of at most 1e'),
    (voc_object(corners=(50, 60, 20, 10)), 'xmin <= xmax.*as x, y, width'),
    ('<object><name>dog</name></object>', 'must have xmin'),
]


@pytest.mark.parametrize('text, message', WRONG_OBJECTS)
def test_wrong_objects(tmp_path, text, message):
    folder = write(tmp_path,
                   {'a.xml': f'<annotation>{voc_object()}{text}</annotation>'})
    with pytest.raises(
            InvalidValueError,
            match=rf"^`object\[1\]` of .*a\.xml'.*{message}"):
        read_voc_annotations(folder)


@pytest.mark.parametrize('text, message', [
    ('<annotation><object>', 'cannot be read as XML.*completely'),
    ('', 'cannot be read as XML'),
    ('<annotations/>', 'must be Pascal VOC XML.*<.annotations'),
])
def test_wrong_files(tmp_path, text, message):
    folder = write(tmp_path, {'a.xml': text})
    with pytest.raises(InvalidValueError, match=rf"a\.xml' .*{message}"):
        read_voc_annotations(folder)


def test_a_class_without_a_name_in_the_list(tmp_path):
    folder = write(tmp_path, {
        'a.xml': f'<annotation>{voc_object()}</annotation>',
        'classes.txt': 'cat'
    })
    with pytest.raises(InvalidValueError, match="lack 'dog' of image 'a'"):
        read_voc_annotations(folder, names=folder + '/classes.txt')


@pytest.mark.parametrize('line, message', [
    ('a .5 1 2 3', 'has 5 columns'),
    ('a .5 1 2 3 4 5', 'has 7 columns'),
    ('a 7 1 2 3 4', r'confidence must be .*\[0, 1\].*logits'),
    ('a nan 1 2 3 4', 'confidence must be'),
    ('a high 1 2 3 4', "confidence must be .* got 'high'"),
    ('a .5 1 2 x 4', 'must have xmin'),
    ('a .5 50 60 20 10', 'xmin <= xmax'),
    ('z .5 1 2 3 4', "none is called 'z'"),
])
def test_wrong_results(tmp_path, line, message):
    annotations = dict(
        images=[dict(id=1, file_name='a.jpg')],
        categories=[dict(id=1, name='dog')])
    folder = write(tmp_path,
                   {'comp4_det_val_dog.txt': f'a .5 1 2 3 4\n\n{line}\n'})
    with pytest.raises(
            InvalidValueError,
            match=rf"^line 3 of .*comp4_det_val_dog\.txt'.*{message}"):
        read_voc_results(folder, annotations)


def test_classes_of_results_that_the_annotations_lack(tmp_path):
    annotations = dict(
        images=[dict(id=1, file_name='a.jpg')],
        categories=[dict(id=4, name='dog')])
    folder = write(
        tmp_path, {
            'comp4_det_test_dog.txt': 'a .5 1 2 3 4',
            'comp3_det_test_big cat.txt': 'a .5 1 2 3 4\na .5 1 2 3 4'
        })
    with pytest.warns(UserWarning, match=r"2 detections .*\['big cat'\]"):
        found = read_voc_results(folder, annotations)
    assert found == [
        dict(image_id=1, category_id=4, bbox=[0, 1, 3, 3], score=.5)
    ]


def test_entities_are_not_expanded(tmp_path):
    """500 bytes whose name would have 10 ** 8 characters."""
    entities = ''.join(f'<!ENTITY {new} "{f"&{old};" * 10}">'
                       for old, new in zip('abcdefg', 'bcdefgh'))
    (tmp_path / '7.xml').write_text(
        f'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">{entities}]>'
        '<annotation><object><name>&h;</name></object></annotation>')
    with pytest.raises(
            InvalidValueError, match="7.xml' must be XML without <!DOCTYPE>"):
        read_voc_annotations(str(tmp_path))


def test_external_entities_are_not_read(tmp_path):
    (tmp_path / '7.xml'
     ).write_text('<!DOCTYPE annotation SYSTEM "other.dtd"><annotation/>')
    with pytest.raises(InvalidValueError, match='without <!DOCTYPE>'):
        read_voc_annotations(str(tmp_path))
