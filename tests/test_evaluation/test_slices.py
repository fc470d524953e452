"""A slice is what an evaluation of its images alone says."""
import json
import math

import numpy as np
import pytest

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError)
from tcal_det.evaluation.functional import ground_truth_from_coco
from tcal_det.evaluation.slices import (attribute_from_file, image_attribute,
                                        image_slices, slice_by)
from tests.image_scenes import all_figures, arrays_of, image_scene

# 15 images by id, then values by hand.
SCENE = image_scene(4, num_images=15)
WEATHER = ['rain', 'sun', None, 'rain', 'fog'] * 3


def with_field(values, field='weather'):
    """The scene with a field in those image records that have a value."""
    annotations, results = SCENE
    images = [
        dict(image, **({} if value is None else {
            field: value
        })) for image, value in zip(annotations['images'], values)
    ]
    return dict(annotations, images=images), results


def figures_of_images(image_ids, **options):
    """Figures of these images, from records without the others."""
    annotations, results = SCENE
    return all_figures(
        dict(
            annotations,
            images=[i for i in annotations['images'] if i['id'] in image_ids],
            annotations=[
                a for a in annotations['annotations']
                if a['image_id'] in image_ids
            ]), [r for r in results if r['image_id'] in image_ids], **options)


@pytest.mark.filterwarnings('ignore:undefined')
@pytest.mark.parametrize('options', [{}, dict(score_thr=.3, d_ece_bins=5)])
def test_row_is_the_evaluation_of_its_images_alone(options):
    annotations, results = with_field(WEATHER)
    rows = slice_by(
        image_attribute(annotations, 'weather'),
        *arrays_of(annotations, results), **options)
    assert [row.value for row in rows] == ['fog', 'rain', 'sun', None]
    assert [row.images for row in rows] == [3, 6, 3, 3]
    for row in rows:
        ids = [
            image['id'] for image, value in zip(annotations['images'], WEATHER)
            if value == row.value
        ]
        assert row.figures == pytest.approx(
            figures_of_images(ids, **options), abs=1e-12, nan_ok=True)
        objects = [
            a for a in annotations['annotations']
            if a['image_id'] in ids and not a['iscrowd']
        ]
        assert row.objects == len(objects)
        assert row.classes_with_objects == len(
            {a['category_id']
             for a in objects})
        assert row.detections == sum(r['image_id'] in ids for r in results)
    assert any(not math.isnan(row.figures['mAP']) for row in rows)


def test_numbers_are_sorted_into_ranges_with_closed_upper_ends():
    values = [10, 10.5, 20, 20.5, -3, None, 1e9, 10, 20, 5, 0, 30, 15, 25, 11]
    # No image lies between 40 and 50, and no row tells of it.
    parts = image_slices(*arrays_without_results(values), [], [10, 20, 40, 50])
    assert [(part.value, part.counts['images'])
            for part in parts] == [('<= 10', 5), ('(10, 20]', 5),
                                   ('(20, 40]', 3), ('> 50', 1), (None, 1)]


def arrays_without_results(values):
    annotations, _ = with_field(values)
    return (image_attribute(annotations,
                            'weather'), ground_truth_from_coco(annotations))


@pytest.mark.parametrize('values, expected', [
    ([True, False, None] * 5, [False, True, None]),
    ([2, 10, 1.5] * 5, [1.5, 2, 10]),
    (['b', 'a', ''] * 5, ['', 'a', 'b']),
])
def test_values_of_each_kind_ascend(values, expected):
    parts = image_slices(*arrays_without_results(values), [])
    assert [part.value for part in parts] == expected
    assert sum(part.counts['images'] for part in parts) == 15


@pytest.mark.parametrize('values, edges, error, message', [
    ([['wet']] + ['x'] * 14, None, InvalidTypeError, r"but has \['wet'\] for"),
    ([math.nan] + [1] * 14, None, InvalidTypeError, 'finite numbers'),
    ([1, 'x'] + [1] * 13, None, InvalidTypeError, 'one kind, but has a number '
     r'for image \d+ and a text for image \d+'),
    ([True, 1] + [1] * 13, None, InvalidTypeError, 'a boolean for image'),
    (['x'] * 15, [1], InvalidTypeError, "numbers, but got the value 'x'"),
    ([1] * 15, [2, 2], InvalidValueError, '`edges` must be numbers in'),
    ([1] * 15, [], InvalidValueError, '`edges` must be numbers in'),
    ([1] * 15, [math.inf], InvalidValueError, '`edges` must be a finite'),
])
def test_values_and_edges_that_cannot_be_sorted(values, edges, error, message):
    with pytest.raises(error, match=message):
        image_slices(*arrays_without_results(values), [], edges)


def test_too_many_values():
    images = [dict(id=i, serial=i) for i in range(51)]
    annotations = dict(
        images=images, categories=[dict(id=1, name='one')], annotations=[])
    ground_truth = ground_truth_from_coco(annotations)
    attribute = image_attribute(annotations, 'serial')
    with pytest.raises(InvalidValueError, match='at most 50 values, but has'):
        image_slices(attribute, ground_truth, [])
    fifty_and_none = dict(attribute)
    fifty_and_none[0] = None
    assert len(image_slices(fifty_and_none, ground_truth, [])) == 51
    assert len(image_slices(attribute, ground_truth, [], [25])) == 2


def test_field_that_no_record_has():
    annotations, _ = with_field(WEATHER)
    with pytest.raises(
            InvalidValueError,
            match=r'\(file_name, height, id, weather, width\).*but got '
            "'daytime'"):
        image_attribute(annotations, 'daytime')


def test_attribute_of_other_images():
    annotations, _ = SCENE
    with pytest.raises(InvalidValueError, match='for ids of the images'):
        image_slices({'x.jpg': 1}, ground_truth_from_coco(annotations), [])


def write(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def test_file_names_images_by_file_name_or_by_id(tmp_path):
    annotations, _ = SCENE
    ids = [image['id'] for image in annotations['images']]
    path = write(tmp_path / 'attribute.json', {
        f'{ids[0]}.jpg': 'rain',
        str(ids[1]): 'sun',
        'of_another_split.jpg': 'fog'
    })
    assert attribute_from_file(path, annotations) == {
        ids[0]: 'rain',
        ids[1]: 'sun'
    }


@pytest.mark.parametrize('content, error, message', [
    ([1], InvalidTypeError, 'must hold an object'),
    ({
        'x': 1
    }, InvalidValueError, r"but has \['x'\]"),
    ({
        '{0}': 1,
        '{0}.jpg': 2
    }, InvalidValueError, 'must name an image once'),
])
def test_wrong_attribute_files(tmp_path, content, error, message):
    annotations, _ = SCENE
    if isinstance(content, dict):
        first = annotations['images'][0]['id']
        content = {key.format(first): v for key, v in content.items()}
    path = write(tmp_path / 'attribute.json', content)
    with pytest.raises(error, match=message):
        attribute_from_file(path, annotations)


def test_missing_attribute_file():
    with pytest.raises(MissingFileError, match="attribute 'no.json' does not"):
        attribute_from_file('no.json', SCENE[0])


def test_slices_of_several_sets_of_detections():
    annotations, results = with_field(WEATHER)
    ground_truth, whole = arrays_of(annotations, results)
    _, half = arrays_of(annotations, results[::2])
    parts = image_slices(
        image_attribute(annotations, 'weather'), ground_truth, [whole, half])
    for number, one in enumerate((whole, half)):
        assert sum(len(part.detections[number]) for part in parts) == len(one)
        scores = np.concatenate(
            [part.detections[number].scores for part in parts])
        assert sorted(scores) == sorted(one.scores)
