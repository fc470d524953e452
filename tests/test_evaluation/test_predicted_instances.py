"""Predictions of one image: what is well-formed counts, the rest is named."""
import numpy as np
import pytest
import torch

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.predicted_instances import predicted_instances
from tcal_det.evaluation.results_file import records_from_samples

BOXES = [[1., 2., 4., 8.], [0., 0., 0.5, 0.25]]
SCORES, LABELS = [0.5, 0.25], [1, 0]


def pred(**changes):
    return dict(dict(bboxes=BOXES, scores=SCORES, labels=LABELS), **changes)


def sample(image_id=7, **changes):
    return dict(img_id=image_id, pred_instances=pred(**changes))


@pytest.mark.parametrize('container', [
    list, np.array, torch.tensor, lambda values: torch.tensor(
        values,
        requires_grad=isinstance(np.array(values).flat[0], np.floating)),
    lambda values: torch.tensor(values).to(
        torch.bfloat16
        if isinstance(np.array(values).flat[0], np.floating) else torch.uint8),
    lambda values: np.array(values, dtype=object).tolist()
])
def test_well_formed_predictions(container):
    given = {key: container(values) for key, values in pred().items()}
    boxes, scores, labels = predicted_instances(given, 'image 7', 2)
    # By hand: x, y, width, height.
    assert boxes.tolist() == [[1, 2, 3, 6], [0, 0, 0.5, 0.25]]
    assert scores.tolist() == SCORES and labels.tolist() == LABELS
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float64,
                                                         np.float64, np.int64)


@pytest.mark.parametrize('empty', [
    dict(bboxes=[], scores=[], labels=[]),
    dict(bboxes=np.zeros((0, 4)), scores=[], labels=[]),
    dict(
        bboxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long)),
])
def test_no_detections(empty):
    boxes, scores, labels = predicted_instances(empty, 'image 7', 2)
    assert boxes.shape == (0, 4) and len(scores) == len(labels) == 0


@pytest.mark.parametrize('changes, error, parts', [
    (dict(labels=[1, -1]), InvalidValueError, ['label', '-1 at [1]']),
    (dict(labels=[2, 0]), InvalidValueError,
     ['label must be one of the 2 classes', '2 at [0]']),
    (dict(labels=torch.tensor([1, 2**40])), InvalidValueError,
     ['label', f'{2**40} at [1]']),
    (dict(labels=[1., 0.]), InvalidTypeError, ['labels', 'whole numbers']),
    (dict(labels=[True, False]), InvalidTypeError, ['labels']),
    (dict(labels=[1, False]), InvalidTypeError, ['labels']),
    (dict(labels=[torch.tensor([1]), torch.tensor([0])]), InvalidTypeError,
     ['labels']),
    (dict(scores=[[torch.tensor(SCORES)]]), InvalidTypeError, ['scores']),
    (dict(labels=['1', '0']), InvalidTypeError, ['labels']),
    (dict(labels=[1]), InvalidValueError, ['shapes', '(1,)']),
    (dict(labels=torch.tensor(1)), InvalidValueError, ['shapes', '()']),
    (dict(labels=[[1], [0]]), InvalidValueError, ['shapes', '(2, 1)']),
    (dict(labels=[[1], [0, 0]]), InvalidTypeError, ['labels']),
    (dict(scores=SCORES[:1]), InvalidValueError, ['shapes', '(1,)']),
    (dict(scores=[0.5, float('nan')]), InvalidValueError,
     ['score', 'nan at [1]']),
    (dict(scores=[0.5, 1.5]), InvalidValueError, ['score', '1.5 at [1]']),
    (dict(scores=[0.5, -0.1]), InvalidValueError, ['score', '-0.1 at [1]']),
    (dict(scores=['0.5', '0.5']), InvalidTypeError, ['scores']),
    (dict(scores=[1j, 1j]), InvalidTypeError, ['scores']),
    (dict(scores=None), InvalidTypeError, ['scores']),
    (dict(bboxes=BOXES[:1]), InvalidValueError, ['shapes', '(1, 4)']),
    (dict(bboxes=[row + [0.]
                  for row in BOXES]), InvalidValueError, ['shapes', '(2, 5)']),
    (dict(bboxes=BOXES[0]), InvalidValueError, ['shapes', '(4,)']),
    (dict(bboxes=[[], []]), InvalidValueError, ['shapes', '(2, 0)']),
    (dict(bboxes=[BOXES]), InvalidValueError, ['shapes', '(1, 2, 4)']),
    (dict(bboxes='12'), InvalidTypeError, ['bboxes']),
    (dict(bboxes=[BOXES[0], [0, 0, float('inf'), 1]]), InvalidValueError,
     ['box', 'inf', 'at [1]']),
    (dict(bboxes=[[0, 0, 1, float('nan')], BOXES[0]]), InvalidValueError,
     ['box', 'nan', 'at [0]']),
    (dict(bboxes=[BOXES[0], [0, 0, 1e10, 1]]), InvalidValueError,
     ['box', '1e+09', 'at [1]']),
    (dict(bboxes=[BOXES[0], [-1e308, 0, 1e308, 1]]), InvalidValueError,
     ['box', '1e+09', 'at [1]']),
    (dict(bboxes=[BOXES[0], [0, 0, 1e-200, 1]]), InvalidValueError,
     ['box', '1e-100', 'at [1]']),
    (dict(bboxes=[BOXES[0], [4, 0, 3, 1]]), InvalidValueError,
     ['x1 <= x2', '[4.0, 0.0, 3.0, 1.0] at [1]']),
])
def test_malformed_predictions(changes, error, parts):
    with pytest.raises(error) as caught:
        records_from_samples([sample(3), sample(7, **changes)], [20, 10])
    message = str(caught.value)
    assert message.startswith('`results[1]` (image 7): ')
    assert len(message) < 400 and '\n' not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    'wrong',
    [None, 3, 'text', [],
     dict(bboxes=BOXES, scores=SCORES),
     torch.zeros(3)])
def test_no_predictions(wrong):
    with pytest.raises(
            InvalidTypeError, match=r'image 7\).*bboxes, scores and labels'):
        records_from_samples([dict(img_id=7, pred_instances=wrong)], [1])


@pytest.mark.parametrize('wrong', [
    None, 3, 'text', [], [7, {}],
    dict(img_id=7),
    dict(pred_instances=pred()),
    torch.zeros(3)
])
def test_no_sample(wrong):
    with pytest.raises(
            InvalidTypeError, match=r'`results\[1\]` of a pickle.*`img_id`'):
        records_from_samples([sample(), wrong], [20, 10])


@pytest.mark.parametrize(
    'image_id',
    [None, True, 1.5, [7], torch.tensor(7), {}])
def test_no_image_id(image_id):
    with pytest.raises(
            InvalidTypeError, match=r'`results\[0\]`: `img_id` must be'):
        records_from_samples([sample(image_id)], [20, 10])


@pytest.mark.parametrize('again', [7, 7.0, np.int64(7)])
def test_an_image_twice(again):
    with pytest.raises(InvalidValueError) as caught:
        records_from_samples(
            [sample(7),
             sample(2**53),
             sample(2**53 + 1),
             sample(again)], [20, 10])
    message = str(caught.value)
    for part in ('`results[0]`', '`results[3]`', 'image ', '7'):
        assert part in message


def test_labels_count_the_categories_in_order():
    records = records_from_samples([sample(7), sample(3)], ['b', 'a'])
    assert records == [
        dict(
            image_id=image_id, category_id=category_id, bbox=box, score=score)
        for image_id in (7, 3)
        for category_id, box, score in (('a', [1, 2, 3, 6], 0.5),
                                        ('b', [0, 0, 0.5, 0.25], 0.25))
    ]
