"""One entry for all formats: equal arrays, and mistakes in one line."""
import json
import os.path as osp
import pickle
import re
import warnings

import numpy as np
import pytest

from tcal_det.errors import (InvalidTypeError, InvalidValueError,
                             MissingFileError, UserError)
from tcal_det.evaluation.formats import (find_format,
                                         load_annotations_and_results,
                                         read_annotations)
from tcal_det.evaluation.functional import evaluate_detections
from tcal_det.evaluation.results_file import read_annotations_and_results
from tests.test_evaluation.test_formats.label_folders import (
    random_annotations, random_results, voc_corners, write, write_sizes,
    write_voc, write_yolo)

GOLDEN = osp.join(
    osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))), 'data',
    'golden')


def write_json(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def write_voc_results(folder, annotations, records):
    names = {one['id']: one['name'] for one in annotations['categories']}
    files = {f'comp4_det_val_{name}.txt': [] for name in names.values()}
    for one in records:
        values = (one['score'], *voc_corners(one['bbox']))
        files[f'comp4_det_val_{names[one["category_id"]]}.txt'].append(
            ' '.join([one['image_id'], *map(repr, values)]))
    return write(folder, {
        name: '\n'.join(lines)
        for name, lines in files.items()
    })


def write_pickle(path, annotations, records):
    labels = {
        one['id']: label
        for label, one in enumerate(annotations['categories'])
    }
    samples = []
    for image in annotations['images']:
        mine = [one for one in records if one['image_id'] == image['id']]
        boxes = np.array([one['bbox'] for one in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        samples.append(
            dict(
                img_id=image['id'],
                pred_instances=dict(
                    bboxes=boxes,
                    scores=np.array([one['score'] for one in mine]),
                    labels=np.array(
                        [labels[one['category_id']] for one in mine], int))))
    path.write_bytes(pickle.dumps(samples))
    return str(path)


@pytest.fixture
def data(tmp_path):
    """One scene in every format: {format: path}, annotations and records."""
    annotations = random_annotations(3, num_images=30)
    for number, image in enumerate(annotations['images']):
        # VOC's results are split at spaces.
        old, image['id'] = image['id'], f'image_{number:02d}'
        image['file_name'] = image['id'] + '.png'
        for one in annotations['annotations']:
            if one['image_id'] == old:
                one['image_id'] = image['id']
    rng = np.random.default_rng(0)
    records = [
        dict(
            one,
            bbox=[value * rng.uniform(.95, 1.05) for value in one['bbox']],
            score=float(rng.random())) for one in annotations['annotations']
    ] + random_results(3, annotations)
    for one in records:
        one.pop('id', None)
        one.pop('iscrowd', None)
    return dict(
        annotations=annotations,
        records=records,
        sizes=write_sizes(tmp_path / 'sizes.csv', annotations),
        truth=dict(
            json=write_json(tmp_path / 'gt.json', annotations),
            yolo=write_yolo(tmp_path / 'gt_yolo', annotations,
                            annotations['annotations']),
            voc=write_voc(tmp_path / 'gt_voc', annotations)),
        results=dict(
            json=write_json(tmp_path / 'dt.json', records),
            pickle=write_pickle(tmp_path / 'dt.pkl', annotations, records),
            yolo=write_yolo(tmp_path / 'dt_yolo', annotations, records),
            voc_results=write_voc_results(tmp_path / 'dt_voc', annotations,
                                          records)))


def load_quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return load_annotations_and_results(*args, **kwargs)


def sorted_rows(part):
    """Rows of objects or detections in an order that rounding keeps."""
    scores = getattr(part, 'scores', np.zeros(len(part.boxes)))
    rows = np.column_stack(
        (part.image_index, part.class_index, scores, part.boxes))
    return rows[np.lexsort(np.round(rows, 6).T[::-1])]


@pytest.mark.parametrize('results', ['json', 'pickle', 'yolo', 'voc_results'])
@pytest.mark.parametrize('truth', ['json', 'yolo', 'voc'])
def test_all_formats_give_the_same(data, truth, results):
    expected = read_annotations_and_results(data['truth']['json'],
                                            data['results']['json'])
    found = load_quietly(
        data['truth'][truth], data['results'][results], images=data['sizes'])
    for part, other in zip(found[:2], expected):
        np.testing.assert_allclose(
            sorted_rows(part), sorted_rows(other), rtol=1e-12, atol=1e-9)
    assert list(found[0].image_ids) == list(expected[0].image_ids)
    assert (found[0].image_sizes == expected[0].image_sizes).all()
    assert found[0].category_names == expected[0].category_names
    assert [one['name']
            for one in found[2]] == ['class 0', 'class 1', 'class 2']
    figures, reference = (
        evaluate_detections(*loaded[:2], position_min_samples=1).overall
        for loaded in (found, expected))
    for key, value in reference.items():
        assert figures[key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


@pytest.mark.parametrize('results', ['json', 'yolo', 'voc_results'])
@pytest.mark.parametrize('truth', ['json', 'yolo', 'voc'])
def test_chosen_classes(data, truth, results):
    chosen = ['class 2', 'class 0']
    expected = read_annotations_and_results(data['truth']['json'],
                                            data['results']['json'], chosen)
    found = load_quietly(
        data['truth'][truth],
        data['results'][results],
        chosen,
        images=data['sizes'])
    for part, other in zip(found[:2], expected):
        np.testing.assert_allclose(
            sorted_rows(part), sorted_rows(other), rtol=1e-12, atol=1e-9)
    assert found[0].category_names == ('class 0', 'class 2')
    with pytest.raises(InvalidValueError, match="'cat'.*in '"):
        load_quietly(
            data['truth'][truth],
            data['results'][results], ['cat'],
            images=data['sizes'])


def test_labels_without_names(data, tmp_path):
    """They count the chosen classes, or all of another YOLO folder."""
    annotations = data['annotations']
    records = [one for one in data['records'] if one['category_id'] != 1]
    some = dict(annotations, categories=annotations['categories'][1:])
    nameless = write_yolo(tmp_path / 'a' / 'b' / 'c', some, records, False)
    expected = load_quietly(data['truth']['json'],
                            write_json(tmp_path / 'some.json', records))
    chosen = ['class 1', 'class 2']
    found = load_quietly(data['truth']['json'], nameless, chosen)
    assert sorted_rows(
        found[1])[:,
                  1].tolist() == (sorted_rows(expected[1])[:, 1] - 1).tolist()
    same = write_yolo(tmp_path / 'd' / 'e' / 'f', annotations, records, False)
    found = load_quietly(
        data['truth']['yolo'], same, chosen, images=data['sizes'])
    assert sorted_rows(
        found[1])[:,
                  1].tolist() == (sorted_rows(expected[1])[:, 1] - 1).tolist()


def test_golden_json_is_read_as_before():
    paths = [
        osp.join(GOLDEN, f'det_ties_{kind}.json') for kind in ('gt', 'dt')
    ]
    for found, expected in zip(
            load_quietly(*paths), read_annotations_and_results(*paths)):
        if hasattr(found, 'boxes'):
            assert vars(found).keys() == vars(expected).keys()
            for key, value in vars(found).items():
                np.testing.assert_array_equal(value, vars(expected)[key])
        else:
            assert found == expected


def test_images_called_by_a_number(data, tmp_path):
    """Ultralytics' predictions.json has 7 for 0007.jpg."""
    write(tmp_path, {'s.csv': '0007.jpg,10,10\n12.jpg,10,10\nx.jpg,10,10'})
    labels = write(tmp_path / 'labels', {
        '0007.txt': '0 .5 .5 1 1',
        '12.txt': '1 .5 .5 1 1'
    })
    sizes = str(tmp_path / 's.csv')
    records = [
        dict(image_id=image, category_id=1, bbox=[0, 0, 1, 1], score=.5)
        for image in (7, 12, 'x', '0007')
    ]
    results = write_json(tmp_path / 'r.json', records)
    truth, found, _ = load_quietly(labels, results, images=sizes)
    assert truth.image_ids[found.image_index].tolist() == [
        '0007', '12', 'x', '0007'
    ]
    write(tmp_path, {'s.csv': '0007.jpg,10,10\n12.jpg,9,9\n7.png,10,10'})
    with pytest.raises(InvalidValueError, match=r'results\[0\]`: `image_id'):
        load_quietly(labels, results, images=sizes)


def test_formats(data, tmp_path):
    for kind, path in {**data['results'], **data['truth']}.items():
        assert find_format(path, 'x') == kind
    # A file of class names is no label file.
    write(data['truth']['voc'], {'classes.txt': 'a'})
    assert find_format(data['truth']['voc'], 'x') == 'voc'


def complaint(*args, **kwargs):
    """The one line of a mistake."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(UserError) as error:
            load_annotations_and_results(*args, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_ground_truth_and_results_swapped(data):
    truth, results, sizes = (
        data[key] for key in ('truth', 'results', 'sizes'))
    for kind, message in (
        ('json', '`annotations` must be a dict .* results must be'),
        ('pickle', "results '.*dt.pkl'; are ground truth and results swap"),
        ('yolo', '6 columns; objects have no confidence: were pred'),
        ('voc_results', "results '.*dt_voc'; are ground truth and results")):
        assert re.search(
            message, complaint(results[kind], results['json'],
                               images=sizes)), kind
    for kind, message in (
        ('json', 'an annotation file; was the ground truth passed as'),
        ('yolo', 'has 5 columns; the confidence is missing'),
        ('voc', "annotations '.*gt_voc'; are ground truth and results sw")):
        assert re.search(message,
                         complaint(truth['json'], truth[kind],
                                   images=sizes)), kind


@pytest.mark.parametrize('content, message', [
    ({
        'boxes': [[1, 2, 3, 4]],
        'scores': [.5],
        'labels': [1]
    }, "a dict with the keys ['boxes', 'labels', 'scores']; write one dict"),
    ([{
        'boxes': [[1, 2, 3, 4]],
        'scores': [.5],
        'labels': [1]
    }], "`results[0]` must have `image_id`, but got the keys ['boxes', "),
    ('text', '`results` must be a list of records, but got str'),
])
def test_results_of_another_form(data, tmp_path, content, message):
    path = write_json(tmp_path / 'odd.json', content)
    for kind in ('json', 'voc'):
        assert message in complaint(data['truth'][kind], path)


def test_files_and_folders(data, tmp_path):
    truth, results = data['truth']['json'], data['results']['json']
    for empty in ('empty', 'empty.json', 'empty.pkl'):
        (tmp_path / empty).mkdir()
        path = str(tmp_path / empty)
        for args in ((path, results), (truth, path)):
            assert f'{path!r} that is empty' in complaint(*args)
    write(tmp_path / 'top' / 'labels', {})
    assert "that contains only folders; did you mean '" in complaint(
        truth, str(tmp_path / 'top'))
    images = write(tmp_path / 'images', {'a.jpg': ''})
    assert "with 'a.jpg' and no such files" in complaint(images, results)
    both = write(tmp_path / 'both', {'a.txt': '', 'a.xml': ''})
    assert 'with .txt and .xml files' in complaint(both, results)
    mixed = write(tmp_path / 'mixed', {
        'comp4_det_test_a.txt': '',
        'b.txt': ''
    })
    assert "either VOC results (comp4_det_...) or YOLO labels, but got "\
        "'comp4_det_test_a.txt' and 'b.txt'" in complaint(truth, mixed)
    assert 'give its folder' in complaint(truth, osp.join(both, 'a.txt'))
    assert 'give its folder' in complaint(osp.join(both, 'a.xml'), results)
    with pytest.raises(MissingFileError, match="ground truth '.*gone' does"):
        load_annotations_and_results(str(tmp_path / 'gone'), results)
    with pytest.raises(MissingFileError, match="results '.*gone' does not"):
        load_annotations_and_results(truth, str(tmp_path / 'gone'))
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(MissingFileError, match='link'):
        load_annotations_and_results(truth, str(tmp_path / 'link'))


def test_a_yolo_folder_without_sizes(data):
    assert 'needs the sizes of the images' in complaint(
        data['truth']['yolo'], data['results']['json'])


def test_labels_of_another_order(data, tmp_path):
    truth, records = data['truth']['json'], data['records']
    annotations = data['annotations']
    turned = dict(
        annotations,
        categories=[annotations['categories'][k] for k in (1, 2, 0)])
    folder = write_yolo(tmp_path / 'a' / 'b' / 'c', turned, records, False)
    message = complaint(truth, folder)
    assert 'labels must stand for the categories of the annotations' in message
    assert 'boxes that lie on an object have its class' in message
    assert '--names' in message and repr(folder) in message
    names = write(
        tmp_path,
        {'names.txt': '\n'.join(one['name'] for one in turned['categories'])})
    load_quietly(truth, folder, names=osp.join(names, 'names.txt'))
    message = complaint(truth,
                        write_pickle(tmp_path / 'turned.pkl', turned, records))
    assert 'labels must stand for' in message and '--classes' in message
    message = complaint(data['truth']['voc'],
                        write_pickle(tmp_path / 'turned.pkl', turned, records))
    assert 'labels must stand for' in message and '--classes' in message


def test_category_ids_of_another_order_are_a_warning(data, tmp_path):
    """They were written on purpose, and may be meant."""
    records = [
        dict(one, category_id=one['category_id'] % 3 + 1)
        for one in data['records']
    ]
    path = write_json(tmp_path / 'shifted.json', records)
    with pytest.warns(UserWarning, match='only .* boxes that lie on an obj'):
        load_annotations_and_results(data['truth']['json'], path)


def test_a_pickle_of_fewer_classes(data, tmp_path):
    """Of classes 3 to 5 of 80: it was counted as 0 to 2, with a warning."""
    annotations = json.loads(json.dumps(data['annotations']))
    annotations['categories'] = [
        dict(id=k + 1, name=f'category {k}') for k in range(80)
    ]
    for one in annotations['annotations']:
        one['category_id'] += 3
    truth = write_json(tmp_path / 'wide.json', annotations)
    assert 'name the classes that the detector knows' in complaint(
        truth, data['results']['pickle'])
    known = [f'category {k}' for k in (3, 4, 5)]
    found = load_quietly(truth, data['results']['pickle'], known)
    assert found[0].category_names == tuple(known)
    for one in annotations['annotations']:
        one['category_id'] -= 3
    truth = write_json(tmp_path / 'wide.json', annotations)
    # The first classes: right, but worth a warning.
    with pytest.warns(UserWarning, match='labels up to 2'):
        load_annotations_and_results(truth, data['results']['pickle'])


@pytest.mark.parametrize('kind', ['json', 'yolo', 'voc'])
def test_corners_are_warned_of(data, tmp_path, kind):
    records = [
        dict(one, bbox=[x, y, x + w, y + h]) for one in data['records']
        for x, y, w, h in [one['bbox']]
    ]
    path = write_json(tmp_path / 'corners.json', records)
    with pytest.warns(UserWarning, match=r'of the results leave.* x2 - x1'):
        load_annotations_and_results(
            data['truth'][kind], path, images=data['sizes'])


def test_annotations_as_coco(data):
    """What a report draws images from."""
    for kind, path in data['truth'].items():
        found = read_annotations(path, data['sizes'])
        assert found['images'] == data['annotations']['images'], kind
        assert found['categories'] == data['annotations']['categories'], kind


def test_a_pickle_of_other_images(data, tmp_path):
    samples = [
        dict(
            img_id=1,
            pred_instances=dict(
                bboxes=[[0, 0, 1, 1]], scores=[.5], labels=[0]))
    ]
    path = tmp_path / 'other.pkl'
    path.write_bytes(pickle.dumps(samples))
    for kind in ('json', 'voc'):
        with pytest.raises((InvalidTypeError, InvalidValueError),
                           match='one of the 30 image ids'):
            load_annotations_and_results(data['truth'][kind], str(path))
