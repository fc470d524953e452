"""Pictures of errors: which images, which boxes, and small enough."""
import base64
import io

import numpy as np
import pytest
from PIL import Image

from tcal_det.errors import InvalidValueError, MissingFileError
from tcal_det.evaluation.functional import match_detections
from tcal_det.evaluation.functional.error_split import error_split
from tcal_det.report import image_paths
from tcal_det.report.example_images import (false_positive_images,
                                            missed_object_images)
from tests.test_report.report_scenes import make_scene

A, B, C = (0, 0, 20, 20), (40, 0, 20, 20), (0, 60, 20, 20)


@pytest.fixture
def scene():
    """Image 1: A right, B missed. Image 2: C wrong. Image 3: two missed."""
    images = [dict(id=i, width=100, height=80) for i in (1, 2, 3)]
    return make_scene([(1, 0, A), (1, 0, B), (2, 0, A), (3, 1, A), (3, 1, B)],
                      [(1, 0, A, 0.9), (2, 0, A, 0.95), (2, 1, C, 0.8),
                       (2, 1, B, 0.5), (2, 1, (70, 50, 9, 9), 0.1),
                       (1, 0, C, 0.3)],
                      images=images)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = {}
    for number in (1, 2, 3):
        path = tmp_path / f'{number}.png'
        pixels = rng.integers(0, 256, (560, 700, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(str(path))
        paths[number] = str(path)
    return paths


def picture(example):
    head, data = example.data_uri.split(',')
    assert head == 'data:image/jpeg;base64'
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_false_positives(scene, files):
    matches = match_detections(*scene, 0.5)
    split = error_split(*scene, matches)
    first, second = false_positive_images(*scene, matches, split, files, 5)
    # One picture for each image, the surest error first.
    assert (first.title, second.title) == ('2.png', '1.png')
    assert first.reason == 'b, score 0.80: no object there'
    # .5 is at least half of .8, .1 is not.
    assert [(box.kind, box.label)
            for box in first.boxes] == [('object', ''), ('false', 'b 0.80'),
                                        ('false', 'b 0.50')]
    box = first.boxes[1]
    assert (box.x, box.y, box.width, box.height) == C
    assert len(false_positive_images(*scene, matches, split, files, 1)) == 1


def test_missed_objects(scene, files):
    matches = match_detections(*scene, 0.5)
    first, second = missed_object_images(scene[0], matches, 0.5, files, 5)
    assert (first.title, second.title) == ('3.png', '1.png')
    assert first.reason == '2 of 2 objects missed'
    assert [box.kind for box in first.boxes] == ['missed', 'missed']
    # An object that is found is shown as such.
    assert [(box.kind, box.x) for box in second.boxes] == [('object', 0),
                                                           ('missed', 40)]


def test_small_jpeg_in_the_size_of_the_annotations(scene, files):
    matches = match_detections(*scene, 0.5)
    example, _ = missed_object_images(scene[0], matches, 0.5, files, 5)
    image = picture(example)
    assert image.format == 'JPEG' and image.size == (560, 448)
    # Boxes count in the pixels of the annotations, not of the file.
    assert (example.width, example.height) == (100, 80)


def test_size_of_the_file_where_the_annotations_have_none(files):
    scene = make_scene([(1, 0, A)], [], images=[dict(id=1)])
    example, = missed_object_images(scene[0], match_detections(*scene, 0.5),
                                    float('nan'), files, 5)
    assert (example.width, example.height) == (700, 560)


def test_missing_and_damaged_images(scene, files, tmp_path):
    matches = match_detections(*scene, 0.5)

    def pictures():
        return missed_object_images(scene[0], matches, 0.5, files, 5)

    files[3] = str(tmp_path / 'absent.png')
    with pytest.raises(MissingFileError, match='absent.png'):
        pictures()
    damaged = tmp_path / 'damaged.png'
    damaged.write_bytes(b'not an image')
    files[3] = str(damaged)
    with pytest.raises(InvalidValueError, match='damaged.png'):
        pictures()
    del files[3]
    with pytest.raises(InvalidValueError, match='image 3'):
        pictures()


def test_paths_of_a_folder(tmp_path):
    annotations = dict(images=[
        dict(id=7, file_name='a/b.jpg'),
        dict(id='x', file_name='c.jpg'),
        dict(id=9)
    ])
    assert image_paths(annotations, str(tmp_path)) == {
        7: str(tmp_path / 'a' / 'b.jpg'),
        'x': str(tmp_path / 'c.jpg')
    }
    assert image_paths(annotations, None) is None
    with pytest.raises(MissingFileError, match='--images'):
        image_paths(annotations, str(tmp_path / 'absent'))
