"""Class probabilities in pickles and in COCO results files."""
import json
import pickle
import warnings

import numpy as np
import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.class_probabilities import (
    class_probabilities_from_coco, evaluate_class_probabilities,
    read_class_probabilities, write_results_with_class_probabilities)
from tcal_det.evaluation.file_evaluation import evaluate_files
from tcal_det.evaluation.functional import ground_truth_from_coco
from tcal_det.evaluation.metrics.detection_dump import AtomicDumpDetResults

# Category ids fall, so that their order is not that of the labels.
ANNOTATIONS = dict(
    images=[dict(id=4, width=100, height=100),
            dict(id=2, width=100, height=100)],
    categories=[
        dict(id=9, name='first'),
        dict(id=5, name='second'),
        dict(id=1, name='third')
    ],
    annotations=[
        dict(id=1, image_id=4, category_id=9, bbox=[0, 0, 10, 10], area=100,
             iscrowd=0),
        dict(id=2, image_id=2, category_id=1, bbox=[5, 5, 10, 20], area=200,
             iscrowd=0)
    ])  # yapf: disable
ROWS = [[.75, .125, .0625, .0625], [.125, .25, .5, .125]]


@pytest.fixture
def files(tmp_path):
    """Annotations, and what the dump of tools/test.py writes."""
    ground_truth = tmp_path / 'gt.json'
    ground_truth.write_text(json.dumps(ANNOTATIONS))

    def write(rows=ROWS, **more):
        samples = [
            dict(
                img_id=image_id,
                pred_instances=dict(
                    bboxes=torch.tensor([box]),
                    scores=torch.tensor([max(row[:3])]),
                    labels=torch.tensor([int(np.argmax(row[:3]))]),
                    class_probs=torch.tensor([row]),
                    **more))
            for image_id, box, row in zip((4, 2), ([0., 0, 10, 10],
                                                   [5., 5, 15, 25]), rows)
        ]
        path = str(tmp_path / 'results.pkl')
        dump = AtomicDumpDetResults(out_file_path=path)
        dump.process({}, samples)
        dump.compute_metrics(dump.results)
        return str(ground_truth), path

    return write


def test_dump_has_the_rows(files):
    _, path = files()
    with open(path, 'rb') as file:
        samples = pickle.load(file)
    assert [
        sample['pred_instances']['class_probs'].tolist() for sample in samples
    ] == [[row] for row in ROWS]


def test_columns_are_put_in_the_order_of_the_ids(files):
    _, detections, probs = read_class_probabilities(*files())
    assert probs.tolist() == [[.0625, .125, .75, .0625], [.5, .25, .125, .125]]
    assert detections.scores.tolist() == [.75, .5]


def test_figures(files):
    result = evaluate_class_probabilities(*files())
    assert result.has_background and result.num_measured == 2
    assert result.brier == pytest.approx(
        (.0625 + .015625 + 2 * .00390625 + .015625 + .0625 + .25 + .015625) /
        2)
    assert result.top_label.ece == pytest.approx((.25 + .5) / 2)


def test_through_a_results_file(files, tmp_path):
    """The same figures, and other commands read the file as ever."""
    ground_truth, results = files()
    out = str(tmp_path / 'results.json')
    assert write_results_with_class_probabilities(ground_truth, results,
                                                  out) == 2
    records = json.loads((tmp_path / 'results.json').read_text())
    assert [record['scores'] for record in records] == ROWS
    assert [record['category_id'] for record in records] == [9, 1]
    direct, written = (
        evaluate_class_probabilities(ground_truth, path)
        for path in (results, out))
    assert (direct.brier, direct.top_label.ece,
            direct.classwise.ece) == (written.brier, written.top_label.ece,
                                      written.classwise.ece)
    plain, same = (
        evaluate_files(ground_truth, path).report.overall
        for path in (results, out))
    assert plain == pytest.approx(same, abs=0, nan_ok=True)


def test_detector_of_some_of_the_classes(files):
    ground_truth, results = files([[.75, .25], [.25, .75]])
    _, detections, probs = read_class_probabilities(ground_truth, results,
                                                    ['first', 'third'])
    assert probs.tolist() == [[.25, .75], [.75, .25]]
    assert detections.class_index.tolist() == [1, 0]


def test_pickle_of_a_detector_without_the_option(files, tmp_path):
    ground_truth, path = files()
    with open(path, 'rb') as file:
        samples = pickle.load(file)
    for sample in samples:
        del sample['pred_instances']['class_probs']
    with open(path, 'wb') as file:
        pickle.dump(samples, file)
    with pytest.raises(
            InvalidTypeError, match='test_cfg.class_probabilities=True'):
        evaluate_class_probabilities(ground_truth, path)


@pytest.mark.parametrize('rows, message', [
    (torch.zeros(2, 3), r'one row for each of the 1 detections'),
    (torch.zeros(1), r'must have the shape \(D, C\)'),
])
def test_rows_of_a_pickle_have_another_shape(files, rows, message):
    ground_truth, path = files()
    with open(path, 'rb') as file:
        samples = pickle.load(file)
    samples[1]['pred_instances']['class_probs'] = rows
    with open(path, 'wb') as file:
        pickle.dump(samples, file)
    with pytest.raises(InvalidValueError, match=f'image 2.*{message}'):
        evaluate_class_probabilities(ground_truth, path)


def rows_of(*rows, category_id=9):
    records = [
        dict(
            image_id=4,
            category_id=category_id,
            bbox=[0, 0, 1, 1],
            score=0.5,
            scores=row) for row in rows
    ]
    return class_probabilities_from_coco(records, [9, 5, 1],
                                         ground_truth_from_coco(ANNOTATIONS))


@pytest.mark.parametrize('row, error, message', [
    ([.5, .2], InvalidValueError, 'must have 3 numbers.*or 4 with back'),
    ([.5, .2, .1, .1, .1], InvalidValueError, 'but got 5: were the results'),
    ([.5, .2, .1, .2], InvalidValueError, 'as many in each record, but got 4'),
    ([.5, .2, -.1], InvalidValueError, r'must be in \[0, 1\]'),
    ([.5, .2, float('nan')], InvalidValueError, r'must be in \[0, 1\]'),
    ([.5, .2, '0.3'], InvalidTypeError, 'must be a list of numbers'),
    ([.5, .2, True], InvalidTypeError, 'must be a list of numbers'),
    (.5, InvalidTypeError, 'must be a list of numbers'),
    (None, InvalidTypeError, 'must be a list of numbers'),
])
def test_wrong_rows_of_a_results_file(row, error, message):
    with pytest.raises(error, match=rf'results\[1\].*{message}'):
        rows_of([.5, .2, .3], row)


def test_record_without_a_row():
    with pytest.raises(InvalidValueError, match=r'results\[0\].*`scores`'):
        class_probabilities_from_coco([dict(category_id=9)], [9, 5, 1],
                                      ground_truth_from_coco(ANNOTATIONS))


def test_no_records():
    assert class_probabilities_from_coco(
        [], [9, 5, 1], ground_truth_from_coco(ANNOTATIONS)).shape == (0, 3)


def test_second_class_of_a_box_is_no_mistake():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rows_of([.5, .2, .3], [.3, .5, .2])


def test_columns_in_another_order():
    """Most detections then have another class than their row."""
    with pytest.warns(UserWarning, match='for 67% of the detections'):
        rows_of([.5, .2, .3], [.3, .5, .2], [.3, .2, .5])
