"""Boxes of dense heads are those of the heads' own detections."""
import pytest
import torch
import torch.nn as nn
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from tcal_det.errors import InvalidTypeError
from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.head_adapters.decoded_boxes import (PredictedBoxes,
                                                         _descending_scores,
                                                         clip_to_images,
                                                         label_by_overlap)
from tests.dense_cases import HEADS, NUM_CLASSES, batch, build, tiny_model

SCORED_BY_IOU = ['RTMDetSepBNHead', 'TOODHead', 'YOLOXHead']
EVERYTHING = ConfigDict(
    score_thr=-1.0,
    nms_pre=10**6,
    min_bbox_size=-1,
    nms=dict(type='nms', iou_threshold=2.0),
    iou_thr=2.0,
    top_k=10**6,
    max_per_img=10**6)
# No detection reaches its border.
HUGE = (10**6, 10**6)
# These detect after an NMS only, one that suppresses nothing.
WITH_NMS = ('PAAHead', 'YOLACTHead')
# By their scores over all levels together.
OVER_ALL_LEVELS = ('YOLOV3Head', *WITH_NMS)


def make_head(name, changes=None):
    cfg = tiny_model(name)
    cfg.bbox_head.update(changes or {})
    detector = build(cfg).eval()
    head = detector.bbox_head
    if name == 'SSDHead':
        # mmdet's prediction asks for it, but its head has none.
        head.loss_cls = nn.Identity()
    # Of PAA: boxes as predicted, no means of several.
    head.with_score_voting = False
    with torch.no_grad():
        for key, weight in head.named_parameters():
            # Sizes that differ from prior to prior.
            if weight.dim() > 1 and 'reg' in key and 'convs' not in key:
                weight.normal_(0, 0.05)
        return detector, detector.extract_feat(batch(name)[0])


def rows(level, columns):
    return level.permute(0, 2, 3, 1).flatten(1).view(len(level), -1, columns)


def probabilities(name, head, outputs):
    """Of the classes, by level, from the class maps alone, (N, P, K)."""
    if name == 'YOLOV3Head':
        return [
            rows(level, 5 + NUM_CLASSES)[..., 5:].sigmoid()
            for level in outputs[0]
        ]
    levels = [rows(level, head.cls_out_channels) for level in outputs[0]]
    if name == 'TOODHead':
        return levels
    if head.cls_out_channels > NUM_CLASSES:
        return [level.softmax(-1)[..., :-1] for level in levels]
    return [level.sigmoid() for level in levels]


def own_detections(name, head, outputs):
    """Of mmdet, of all priors and classes."""
    if name in ('PAAHead', 'YOLOXHead'):
        # Else scores would be changed by the centerness.
        certain = [torch.full_like(level, 1e4) for level in outputs[2]]
        outputs = (outputs[0], outputs[1], certain)
    return head.predict_by_feat(
        *outputs,
        batch_img_metas=[dict(img_shape=HUGE)] * len(outputs[0][0]),
        cfg=EVERYTHING,
        rescale=False,
        with_nms=name in WITH_NMS)


def pairs_by_score(name, levels):
    """Positions of prior and class, in the order of the detections.

    And whether no other pair has the same score, up to rounding.
    """
    if name == 'YOLOXHead':
        probs = torch.cat(levels)
        places = torch.arange(len(probs))
        return places, probs.argmax(dim=1), places >= 0
    if name in OVER_ALL_LEVELS:
        levels = [torch.cat(levels)]
    priors, labels, are_single, start = [], [], [], 0
    for probs in levels:
        scores, order = probs.flatten().sort(descending=True)
        falls = -scores.diff() > 1e-6 * scores[1:]
        end = falls.new_ones(1)
        are_single.append(torch.cat([end, falls]) & torch.cat([falls, end]))
        priors.append(start + order // NUM_CLASSES)
        labels.append(order % NUM_CLASSES)
        start += len(probs)
    return torch.cat(priors), torch.cat(labels), torch.cat(are_single)


CASES = [(name, {})
         for name in HEADS] + [('FCOSHead', dict(norm_on_bbox=True)),
                               ('CondInstBboxHead', dict(norm_on_bbox=True))]


@pytest.mark.parametrize('name, changes', CASES)
@torch.no_grad()
def test_each_detection_has_the_box_of_its_prior(name, changes):
    """The detections come by score, and their scores tell their priors."""
    detector, features = make_head(name, changes)
    head = detector.bbox_head
    outputs = head(features)
    boxes = torch.cat(PredictedBoxes(head, outputs).decode(), dim=1)
    levels = probabilities(name, head, outputs)
    results = own_detections(name, head, outputs)
    assert len(boxes) == len(results) == 2
    for image, (mine, result) in enumerate(zip(boxes, results)):
        priors, labels, is_single = pairs_by_score(
            name, [level[image] for level in levels])
        assert len(result.labels) == len(labels)
        assert is_single.float().mean() > 0.9
        assert torch.equal(result.labels[is_single], labels[is_single])
        torch.testing.assert_close(
            mine.clamp(min=0)[priors[is_single]],
            result.bboxes.clamp(min=0)[is_single],
            rtol=1e-4,
            atol=1e-2)
        # The case says something.
        assert len(mine.round().unique(dim=0)) > len(mine) / 4
    assert not torch.equal(boxes[0], boxes[1])


@pytest.mark.parametrize('name, changes', CASES)
@torch.no_grad()
def test_training_gives_the_same_boxes(name, changes):
    detector, features = make_head(name, changes)
    head = detector.bbox_head
    expected = PredictedBoxes(head, head(features)).decode()
    # Of this module alone: its norms and dropouts stay as they are.
    head.training = True
    boxes = PredictedBoxes(head, head(features)).decode()
    for mine, other in zip(boxes, expected):
        assert torch.equal(mine, other)


def test_is_float32_without_graph_also_under_autocast():
    """GFL's integral is a matrix product, which autocast would round."""
    detector, features = make_head('GFLHead')
    head = detector.bbox_head.train()
    outputs = head(features)
    expected = PredictedBoxes(head, outputs).decode()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        boxes = PredictedBoxes(head, outputs).decode()
    for mine, other in zip(boxes, expected):
        assert torch.equal(mine, other)
        assert mine.dtype == torch.float32 and not mine.requires_grad
    half = [[level.bfloat16() for level in part] for part in outputs]
    for mine in PredictedBoxes(head, half).decode():
        assert mine.dtype == torch.float32


def test_places_of_a_large_image_differ():
    """The scores by which the places are told, with 9 anchors at 1333."""
    scores = _descending_scores(201600, 'cpu').logit().sigmoid()
    assert (scores.diff() < 0).all()
    assert (_descending_scores(10**6, 'cpu').logit().sigmoid().diff()
            < 0).all()


def test_head_that_leaves_out_boxes_is_named():
    detector, features = make_head('RetinaHead')
    head = detector.bbox_head
    own = head.predict_by_feat
    head.predict_by_feat = lambda *args, **kwargs: [
        result[1:] for result in own(*args, **kwargs)
    ]
    with pytest.raises(InvalidTypeError, match='RetinaHead must predict'):
        PredictedBoxes(head, head(features)).decode()


def test_clips_to_each_image():
    samples = []
    for shape in ((20, 30, 3), (10, 40)):
        sample = DetDataSample()
        sample.set_metainfo(dict(img_shape=shape))
        samples.append(sample)
    boxes = torch.tensor([[-5., 5., 50., 60.]]).repeat(2, 1, 1)
    assert clip_to_images(boxes, samples).tolist() == [[[0, 5, 30, 20]],
                                                       [[0, 5, 40, 10]]]


class TestLabelByOverlap:

    def label(self, boxes, objects, labels, ignored=()):
        sample = DetDataSample(
            gt_instances=InstanceData(
                bboxes=torch.tensor(objects, dtype=torch.float).view(-1, 4),
                labels=torch.tensor(labels, dtype=torch.long)),
            ignored_instances=InstanceData(
                bboxes=torch.tensor(ignored, dtype=torch.float).view(-1, 4)))
        return tuple(values.tolist() for values in label_by_overlap(
            torch.tensor([boxes], dtype=torch.float), [sample], NUM_CLASSES))

    def test_best_object_and_its_iou_by_hand(self):
        """Half of a box of 10 x 10; a third; the better of two; none."""
        labels, quality, weight = self.label(
            [[0, 0, 10, 5], [5, 0, 15, 10], [0, 0, 10, 10], [50, 50, 60, 60]],
            [[0, 0, 10, 10], [0, 0, 10, 40]], [2, 0])
        assert labels == [2, 2, 2, NUM_CLASSES]
        assert quality == pytest.approx([1 / 2, 1 / 3, 1, 0])
        assert weight == [1, 1, 1, 1]

    def test_box_in_a_crowd_is_ignored_unless_it_is_right(self):
        labels, quality, weight = self.label(
            [[0, 0, 10, 10], [2, 2, 8, 8], [8, 8, 28, 28]], [[0, 0, 10, 10]],
            [1], [[0, 0, 10, 10]])
        assert weight == [1, 0, 1]
        assert labels == [1, 1, 1]

    def test_no_object(self):
        labels, quality, weight = self.label([[0, 0, 10, 10]], [], [])
        assert (labels, quality, weight) == ([NUM_CLASSES], [0], [1])


@pytest.mark.parametrize('name', SCORED_BY_IOU)
@torch.no_grad()
def test_labels_do_not_depend_on_the_scores(name):
    detector = build(tiny_model(name)).eval()
    images, data_samples = batch(name)
    adapter = adapter_for(detector, 'teacher')
    assert adapter.reason_against_labelling() is None
    groups = adapter.label(images, data_samples, 'train')
    for key, parameter in detector.bbox_head.named_parameters():
        if 'cls' in key and parameter.shape == (NUM_CLASSES, ):
            parameter.data += torch.linspace(-3, 3, NUM_CLASSES)
    others = adapter.label(images, data_samples, 'train')
    changed = []
    for one, other in zip(groups, others):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.quality, other.quality)
        changed.append(not torch.equal(one.logits, other.logits))
        assert one.logits.shape == (len(one.labels), NUM_CLASSES)
        assert one.image_index.bincount().tolist() == [len(one.labels) // 2
                                                       ] * 2
    assert all(changed)
    found = torch.cat([one.labels for one in groups]) < NUM_CLASSES
    assert 0 < found.sum() < len(found)


def test_paa_is_refused():
    adapter = adapter_for(build(tiny_model('PAAHead')), 'teacher')
    assert 'by its own scores' in adapter.reason_against_labelling()
