"""Results of other libraries, by stand-ins with the same attributes.

The supervision stand-in has the attributes, types and None of
``supervision.Detections`` 0.31.2; that of ultralytics has those of 8.3's
``Results`` and ``Boxes``, whose classes are floats. mmdet's samples are real
ones where it is installed.
"""
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from tcal_det.errors import InvalidTypeError, InvalidValueError
from tcal_det.evaluation.functional import (Detections, GroundTruth,
                                            evaluate_detections,
                                            ground_truth_from_coco)

torch = pytest.importorskip('torch')

BOXES = [[1.5, 2, 11.5, 22], [3, 4, 5, 8]]
SIZED = [[1.5, 2, 10, 20], [3, 4, 2, 4]]


def truth(image_ids=(7, 9), categories=((3, 'cat'), (1, 'dog'))):
    return ground_truth_from_coco(
        dict(
            images=[dict(id=i, width=100, height=80) for i in image_ids],
            categories=[dict(id=k, name=name) for k, name in categories],
            annotations=[]))


def supervised(boxes=BOXES, scores=(.75, .5), labels=(1, 0), names=None):
    return SimpleNamespace(
        xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        mask=None,
        confidence=None if scores is None else np.array(scores, np.float32),
        class_id=None if labels is None else np.array(labels, int),
        tracker_id=None,
        data={} if names is None else {'class_name': np.array(names)},
        metadata={})


def torchvision(boxes=BOXES, scores=(.75, .5), labels=(1, 3), **options):
    return dict(
        boxes=torch.tensor(boxes, **options).reshape(-1, 4),
        scores=torch.tensor(scores, **options),
        labels=torch.tensor(labels, dtype=torch.int64))


def ultralytics(path='images/0007.jpg', names=None, classes=(1., 0.)):
    return SimpleNamespace(
        path=path,
        names=names or {
            0: 'dog',
            1: 'cat'
        },
        boxes=SimpleNamespace(
            xyxy=torch.tensor(BOXES),
            conf=torch.tensor([.75, .5]),
            cls=torch.tensor(classes)))


def rows(detections):
    return list(
        zip(detections.image_index.tolist(), detections.class_index.tolist(),
            detections.boxes.tolist(), detections.scores.tolist()))


# Categories by id: 1 (dog) is class 0, 3 (cat) is class 1.
def test_supervision_by_its_own_names():
    found = Detections.from_supervision(
        [supervised(names=['cat', 'dog']),
         supervised([], [], [])], [9, 7], truth())
    assert rows(found) == [(1, 1, SIZED[0], .75), (1, 0, SIZED[1], .5)]


def test_supervision_names_only_what_it_found():
    """That the other classes have no name there is worth no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = Detections.from_supervision(
            [supervised(names=['cat', 'cat'], labels=(4, 4))], [7],
            truth(image_ids=[7]))
    assert rows(found) == [(0, 1, SIZED[0], .75), (0, 1, SIZED[1], .5)]


def test_supervision_by_names_given():
    found = Detections.from_supervision(
        [supervised(), supervised([], None, None)], [7, 9], truth(),
        ['cat', 'dog'])
    assert rows(found) == [(0, 0, SIZED[0], .75), (0, 1, SIZED[1], .5)]


def test_supervision_by_order():
    found = Detections.from_supervision(
        [supervised(), supervised([], [], [])], [7, 9], truth())
    assert rows(found) == [(0, 1, SIZED[0], .75), (0, 0, SIZED[1], .5)]


def test_supervision_is_not_imported():
    assert 'supervision' not in sys.modules
    assert 'ultralytics' not in sys.modules


def test_an_order_that_cannot_be_right():
    """Boxes lie on the objects, with the labels the other way round."""
    rng = np.random.default_rng(0)
    classes = rng.integers(2, size=30)
    boxes = [[10. * k, 0, 8, 8] for k in range(30)]
    ground_truth = ground_truth_from_coco(
        dict(
            images=[dict(id=7)],
            categories=[dict(id=1, name='dog'),
                        dict(id=3, name='cat')],
            annotations=[
                dict(image_id=7, category_id=(1, 3)[label], bbox=box)
                for label, box in zip(classes, boxes)
            ]))
    corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    result = supervised(corners, np.full(30, .5), 1 - classes)
    with pytest.raises(InvalidValueError, match='only 0 of 30.*`label_names`'):
        Detections.from_supervision([result], [7], ground_truth)
    found = Detections.from_supervision([result], [7], ground_truth,
                                        ['cat', 'dog'])
    assert (found.class_index == classes).all()
    result.class_id = classes
    Detections.from_supervision([result], [7], ground_truth)
    torch_result = dict(
        boxes=corners, scores=[.5] * 30, labels=[(3, 1)[k] for k in classes])
    with pytest.raises(InvalidValueError, match='only 0 of 30.*`label_names`'):
        Detections.from_torchvision([torch_result], [7], ground_truth)


def test_torchvision_labels_are_category_ids():
    found = Detections.from_torchvision(
        [torchvision([], [], []), torchvision()], [7, 9], truth())
    assert rows(found) == [(1, 0, SIZED[0], .75), (1, 1, SIZED[1], .5)]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_tensors_of_any_kind(dtype):
    result = torchvision(dtype=dtype)
    result['boxes'].requires_grad_()
    found = Detections.from_torchvision(
        [result, torchvision([], [], [])], [7, 9], truth())
    assert rows(found) == [(0, 0, SIZED[0], .75), (0, 1, SIZED[1], .5)]


def test_arrays_that_are_no_tensors():
    """Any library's, by __array__."""

    class Array:

        def __init__(self, values):
            self.values = values

        def __len__(self):
            return len(self.values)

        def __array__(self, dtype=None, copy=None):
            return np.array(self.values, dtype=dtype)

    result = dict(
        boxes=Array(BOXES), scores=Array([.75, .5]), labels=Array([1, 3]))
    found = Detections.from_torchvision([result], [9], truth(image_ids=[9]))
    assert rows(found) == [(0, 0, SIZED[0], .75), (0, 1, SIZED[1], .5)]


def test_torchvision_by_names():
    """``weights.meta['categories']`` names the background, and some twice."""
    with pytest.warns(UserWarning, match=r"1 detections .*\['N/A'\]"):
        found = Detections.from_torchvision(
            [torchvision(labels=(3, 2)),
             torchvision([], [], [])], [7, 9], truth(),
            ['__background__', 'cat', 'N/A', 'dog', 'N/A'])
    assert rows(found) == [(0, 0, SIZED[0], .75)]


def test_torchvision_background():
    with pytest.raises(
            InvalidValueError,
            match=r'results\[0\]` \(image 7\): label must be one of 2.*but '
            'got 0; torchvision labels are used as category ids, with 0 as '
            'background'):
        Detections.from_torchvision([torchvision(labels=(1, 0))], [7],
                                    truth(image_ids=[7]))


def test_ultralytics():
    """Image and classes are found by name; ids are numbers here."""
    found = Detections.from_ultralytics(
        [ultralytics('/x/0009.png'),
         ultralytics('C:\\x\\7.jpg')], truth())
    assert rows(found) == [(1, 1, SIZED[0], .75), (1, 0, SIZED[1], .5),
                           (0, 1, SIZED[0], .75), (0, 0, SIZED[1], .5)]


def test_ultralytics_where_ids_are_texts():
    ground_truth = truth(image_ids=['0009', '0007'])
    with pytest.warns(UserWarning, match='1 of the 2 images'):
        found = Detections.from_ultralytics([ultralytics()], ground_truth)
    assert rows(found)[0][0] == 0
    found = Detections.from_ultralytics(
        [ultralytics(), ultralytics()], ground_truth, ['0009', '0007'],
        ['cat', 'dog'])
    assert rows(found)[0] == (1, 0, SIZED[0], .75)


def test_ultralytics_with_more_classes_than_the_annotations():
    result = ultralytics(
        names={
            5: 'bus',
            0: 'dog',
            1: 'cat'
        }, classes=(5., 1.))
    with pytest.warns(UserWarning, match=r"1 detections of 1 .*\['bus'\]"):
        found = Detections.from_ultralytics([result], truth(image_ids=[7]))
    assert rows(found) == [(0, 1, SIZED[1], .5)]


def test_ultralytics_with_other_classes():
    with pytest.raises(InvalidValueError, match="must be among.*'dog', 'cat'"):
        Detections.from_ultralytics([ultralytics()], truth([7], [(1, 'car')]))
    with pytest.warns(UserWarning, match=r"lack 1 of the 3 .*\['cow'\]"):
        Detections.from_ultralytics([ultralytics()],
                                    truth([7], [(1, 'dog'), (2, 'cat'),
                                                (3, 'cow')]))


WRONG_LISTS = [
    # A dict of arrays, as Hugging Face's and torchvision's of one image.
    (torchvision(), r"a dict with the keys \['boxes', 'scores', 'labels'\]; "
     r'for a single image pass \[results\]'),
    (supervised(), r'a SimpleNamespace; for a single image pass \[results\]'),
    (ultralytics(), r'for a single image pass \[results\]'),
    (SimpleNamespace(pred_instances=None), 'for a single image pass'),
    (iter([]), r'convert a generator by list\(results\)'),
    ('results.json', 'one result for each image, but got a str'),
]


@pytest.mark.parametrize('results, message', WRONG_LISTS)
def test_wrong_lists(results, message):
    for read in (Detections.from_supervision, Detections.from_torchvision):
        with pytest.raises(InvalidTypeError, match=message):
            read(results, [7], truth())
    for read in (Detections.from_ultralytics, Detections.from_mmdetection):
        with pytest.raises(InvalidTypeError, match=message):
            read(results, truth())


@pytest.mark.parametrize('results, image_ids, message', [
    ([torchvision()], [7, 9], 'same length, but got 1 and 2'),
    ([torchvision()], [8], r'`image_ids\[0\]`.*one of the 2 image ids'),
    ([torchvision()] * 2, [7, 7], 'have each image once'),
])
def test_wrong_images(results, image_ids, message):
    with pytest.raises(InvalidValueError, match=message):
        Detections.from_torchvision(results, image_ids, truth())


@pytest.mark.parametrize('result, message', [
    (torchvision(scores=(.5, 2.)), r'score must be in \[0, 1\]'),
    (torchvision(boxes=[[5., 5, 1, 1], [0, 0, 1, 1]]), 'x1 <= x2'),
    (torchvision(scores=(.5, )), 'must have the shapes'),
    (dict(torchvision(), labels=torch.tensor([.5, 1])), 'whole numbers'),
    (dict(torchvision(), boxes='wide'), "boxes must be an array .*'wide'"),
    (dict(torchvision(), scores=[None, 1]), 'scores must be an array'),
    (dict(boxes=1), 'a dict with boxes, scores and labels'),
    (torch.zeros(3), 'a dict with boxes, scores and labels'),
    (supervised(), 'a dict with boxes, scores and labels'),
])
def test_wrong_results(result, message):
    with pytest.raises((InvalidTypeError, InvalidValueError),
                       match=rf'^`results\[0\]`.*{message}'):
        Detections.from_torchvision([result], [7], truth(image_ids=[7]))


def test_wrong_objects():
    with pytest.raises(InvalidTypeError, match='a dict without xyxy'):
        Detections.from_supervision([torchvision()], [7], truth())
    with pytest.raises(InvalidValueError, match='but confidence is None'):
        Detections.from_supervision([supervised(scores=None)], [7], truth())
    with pytest.raises(InvalidValueError, match='but class_id is None'):
        Detections.from_supervision([supervised(labels=None)], [7], truth())
    with pytest.raises(
            InvalidTypeError, match='must have boxes, but got None'):
        Detections.from_ultralytics([SimpleNamespace(boxes=None, names={})],
                                    truth())
    with pytest.raises(InvalidTypeError, match='without names'):
        Detections.from_ultralytics([SimpleNamespace(boxes=None)], truth())
    with pytest.raises(InvalidValueError, match='give `image_ids`'):
        Detections.from_ultralytics([ultralytics(path=None)], truth())
    with pytest.raises(InvalidValueError, match='label must be one of 2'):
        Detections.from_supervision([supervised(labels=[2, 0])], [7],
                                    truth([7]))


def test_boxes_of_larger_images():
    large = [[10., 10, 300, 300], [20, 20, 300, 300]]
    with pytest.warns(UserWarning, match='100% of the boxes .* leave'):
        Detections.from_torchvision([torchvision(large)], [7], truth([7]))


def mmdetection(image_id, boxes=BOXES, scores=(.75, .5), labels=(1, 0)):
    structures = pytest.importorskip('mmdet.structures')
    from mmengine.structures import InstanceData
    return structures.DetDataSample(
        metainfo={} if image_id is None else dict(img_id=image_id),
        pred_instances=InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            scores=torch.tensor(scores, requires_grad=bool(scores)),
            labels=torch.tensor(labels, dtype=torch.int64)))


def test_mmdetection():
    """Labels are in the order of the categories, or of the names given."""
    samples = [mmdetection(9), mmdetection(7, [], (), ())]
    found = Detections.from_mmdetection(samples, truth())
    assert rows(found) == [(1, 1, SIZED[0], .75), (1, 0, SIZED[1], .5)]
    found = Detections.from_mmdetection(
        samples, truth(), image_ids=[7, 9], label_names=('cat', 'dog'))
    assert rows(found) == [(0, 0, SIZED[0], .75), (0, 1, SIZED[1], .5)]


def test_mmdetections_samples_without_what_is_needed():
    with pytest.raises(InvalidValueError, match='img_id.*give `image_ids`'):
        Detections.from_mmdetection([mmdetection(None)], truth())
    # As inference_detector numbers every image.
    with pytest.raises(InvalidValueError, match='`image_ids` must have each'):
        Detections.from_mmdetection([mmdetection(0)] * 2, truth([0, 1]))
    with pytest.raises(InvalidTypeError, match='a dict without pred_inst'):
        Detections.from_mmdetection([{}], truth())
    sample = mmdetection(7)
    del sample.pred_instances.scores
    with pytest.raises(InvalidTypeError, match='Data without scores'):
        Detections.from_mmdetection([sample], truth())


def test_ground_truth_of_torchvision():
    targets = [
        dict(
            boxes=torch.tensor(BOXES),
            labels=torch.tensor([2, 1]),
            iscrowd=torch.tensor([0, 1]),
            area=torch.tensor([150., 6.])),
        dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=int)),
    ]
    found = GroundTruth.from_torchvision(
        targets,
        image_ids=torch.tensor([9, 7]),
        class_names=['__background__', 'dog', 'cat'],
        image_sizes=[(100, 80), (40, 30)])
    assert found.image_ids.tolist() == [7, 9]
    assert found.image_sizes.tolist() == [[40, 30], [100, 80]]
    assert found.category_ids.tolist() == [1, 2]
    assert found.category_names == ('dog', 'cat')
    assert found.image_index.tolist() == [1, 1]
    assert found.class_index.tolist() == [1, 0]
    assert found.boxes.tolist() == SIZED
    assert found.iscrowd.tolist() == [False, True]
    assert found.area.tolist() == [150, 6]


def test_ground_truth_of_supervision():
    """What supervision reads from a data set has neither score nor name."""
    found = GroundTruth.from_supervision(
        [supervised(scores=None),
         supervised([], None, None)], ['a', 'b'], ['dog', 'cat'])
    assert found.image_ids.tolist() == ['a', 'b']
    assert np.isnan(found.image_sizes).all()
    assert found.category_names == ('dog', 'cat')
    assert found.class_index.tolist() == [1, 0]
    assert found.boxes.tolist() == SIZED
    assert found.area.tolist() == [200, 8]
    assert not found.iscrowd.any()


def test_a_loop_needs_two_lists():
    """Equal boxes, scores 1: an AP of 1 and no calibration error."""
    targets, results, ids = [], [], []
    for image_id in range(3):
        objects = dict(boxes=torch.tensor(BOXES), labels=torch.tensor([1, 2]))
        targets.append(objects)
        results.append(dict(objects, scores=torch.ones(2)))
        ids.append(image_id)
    ground_truth = GroundTruth.from_torchvision(
        targets, ids, {
            1: 'dog',
            2: 'cat'
        }, image_sizes=[(100, 80)] * 3)
    detections = Detections.from_torchvision(results, ids, ground_truth)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        overall = evaluate_detections(ground_truth, detections).overall
    assert overall['mAP'] == pytest.approx(1)
    assert overall['d_ece'] == overall['laece_0'] == 0


TARGET = dict(boxes=BOXES, labels=[1, 2])


@pytest.mark.parametrize('target, options, message', [
    (TARGET, dict(image_ids=[7, 9]), 'same length, but got 1 and 2'),
    (TARGET, dict(class_names=['a', 'b']), r'`class_names` .*but got 2'),
    (TARGET, dict(class_names='cell'), 'a list of the names'),
    (TARGET, dict(image_sizes=[100, 80]), r'the shape \(1, 2\), width'),
    (TARGET, dict(image_sizes=['wide']), 'must be an array or tensor'),
    (dict(TARGET, boxes=[[5, 5, 1, 1]] * 2), {}, 'x1 <= x2'),
    (dict(TARGET, labels=[1]), {}, r'but got \(2, 4\) and \(1,\)'),
    (dict(TARGET, labels=[.5, 1]), {}, 'whole numbers'),
    (dict(TARGET, iscrowd=[0]), {}, r'iscrowd must have the shape \(2,\)'),
    (dict(TARGET, iscrowd=[0, 2]), {}, '`iscrowd` must be 0 or 1'),
    (dict(boxes=BOXES), {}, 'a dict with boxes and labels'),
])
def test_wrong_targets(target, options, message):
    arguments = dict(image_ids=[7], class_names=['a', 'b', 'c'])
    arguments.update(options)
    with pytest.raises((InvalidTypeError, InvalidValueError), match=message):
        GroundTruth.from_torchvision([target], **arguments)


def test_wrong_lists_of_targets():
    with pytest.raises(
            InvalidTypeError,
            match=r'`targets` must be a list with one target .*\[targets\]'):
        GroundTruth.from_torchvision(TARGET, [7], ['a', 'b', 'c'])
    with pytest.raises(InvalidValueError, match='class_id is None'):
        GroundTruth.from_supervision([supervised(labels=None)], [7], ['a'])
