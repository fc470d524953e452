"""Rows of class probabilities are those of the boxes that were kept.

Expected rows are computed from the outputs of the heads, and found by the
boxes of all priors, queries and RoIs.
"""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.dense_heads import (CenterNetHead, CornerHead, GARetinaHead,
                                      GroundingDINOHead)
from mmdet.models.roi_heads.bbox_heads import (BBoxHead, MultiInstanceBBoxHead,
                                               SABLHead)
from mmengine.config import ConfigDict

from tcal_det.models.detectors.kept_rows import kept_rows
from tcal_det.models.detectors.replaced_methods import methods_replaced
from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.head_adapters.decoded_boxes import (PredictedBoxes,
                                                         clip_to_images)
from tests.class_probability_cases import (NUM_CLASSES, QUERY, SOFTMAX,
                                           batch_of, of_labels, pair, predict)


def assert_rows_of_boxes(found, boxes, rows):
    """The nearest of all boxes of an image is one with these rows."""
    assert len(found) > 0
    for box, row in zip(found.bboxes, found.class_probs):
        distance = (boxes - box).abs().amax(dim=1)
        nearest = distance <= distance.min() + 1e-5
        assert distance.min() < 1e-3
        difference = (rows[nearest] - row).abs().amax(dim=1)
        assert difference.min() < 1e-6


@pytest.mark.parametrize('name', [
    'RetinaHead', 'SoftmaxRetinaHead', 'FCOSHead', 'SABLRetinaHead',
    'YOLOXHead', 'YOLOV3Head', 'YOLACTHead'
])
def test_rows_are_those_of_the_priors(name):
    """Maps and boxes of all priors, read from the head's output."""
    _, mine = pair(name)
    outputs = []
    handle = mine.bbox_head.register_forward_hook(
        lambda _, args, output: outputs.append(copy.deepcopy(output)))
    images, samples = batch_of(name, scale_factor=(1.0, 1.0))
    detections = predict(mine, images, samples)
    handle.remove()
    if name == 'SABLRetinaHead':
        # Its boxes are of two parts, which the reader of boxes refuses.
        boxes = None
    else:
        boxes = torch.cat(
            PredictedBoxes(mine.bbox_head, outputs[0]).decode(), dim=1)
        if name not in ('YOLOXHead', 'YOLOV3Head'):
            boxes = clip_to_images(boxes, samples)
    columns = NUM_CLASSES + (name in SOFTMAX)
    for index, found in enumerate(detections):
        rows = []
        for level in outputs[0][0]:
            level = level[index].permute(1, 2, 0)
            if name == 'YOLOV3Head':
                level = level.reshape(-1, columns + 5)[:, 5:]
            level = level.reshape(-1, columns)
            if name in SOFTMAX:
                level = level.softmax(dim=1)
            else:
                level = level.sigmoid()
            rows.append(level)
        rows = torch.cat(rows)
        if boxes is not None:
            assert_rows_of_boxes(found, boxes[index], rows)
        else:
            assert_known(found.class_probs, rows)


def assert_known(rows, all_rows):
    distance = (rows[:, None] - all_rows).abs().amax(dim=2)
    assert len(rows) and distance.amin(dim=1).max() < 1e-6


def test_rows_of_voted_boxes():
    """PAA moves its boxes and reorders them: scores tell the prior."""
    _, mine = pair('PAAHead')
    outputs = []
    handle = mine.bbox_head.register_forward_hook(
        lambda _, args, output: outputs.extend(output))
    detections = predict(mine, *batch_of('PAAHead'))
    handle.remove()
    for index, found in enumerate(detections):
        probs, ious = (torch.cat([
            level[index].permute(1, 2, 0).reshape(-1, columns)
            for level in outputs[part]
        ]).sigmoid() for part, columns in ((0, NUM_CLASSES), (2, 1)))
        assert len(set(found.labels.tolist())) > 1
        scores = (probs * ious).sqrt()[:, found.labels]
        best = (scores - found.scores).abs().argmin(dim=0)
        assert torch.allclose(probs[best], found.class_probs)


@pytest.mark.parametrize('name', QUERY)
def test_rows_are_those_of_the_queries(name):
    _, mine = pair(name)
    images, samples = batch_of(name, scale_factor=(1.0, 1.0))
    detections = predict(mine, images, samples)
    with torch.no_grad():
        last = adapter_for(mine, 'teacher').predict(images, samples)[-1]
    for found, boxes, logits in zip(detections, last.boxes, last.logits):
        rows = logits.softmax(1) if name in SOFTMAX else logits.sigmoid()
        assert_rows_of_boxes(
            found,
            clip_to_images(boxes[None], samples[:1])[0]
            if name != 'QueryInst' else boxes, rows)
    if name not in SOFTMAX:
        # Several detections of a query share its row.
        assert len(found.class_probs.unique(dim=0)) < len(found)


@pytest.mark.parametrize('name', ['faster', 'cascade_mask', 'sabl', 'seesaw'])
def test_rows_are_those_of_the_rois(name, monkeypatch):
    """Boxes and scores without NMS tell each detection's RoI."""
    plain, mine = pair(name)
    cls = SABLHead if name == 'sabl' else BBoxHead
    own = cls._predict_by_feat_single
    raw = []

    def spy(self, *args, rcnn_test_cfg=None, **kwargs):
        raw.append(own(self, *args, rcnn_test_cfg=None, **kwargs))
        return own(self, *args, rcnn_test_cfg=rcnn_test_cfg, **kwargs)

    detections = predict(mine, *batch_of(name))
    monkeypatch.setattr(cls, '_predict_by_feat_single', spy)
    predict(plain, *batch_of(name))
    for found, all_of_image in zip(detections, raw):
        # Masks are pasted into the original images after their boxes are.
        boxes = all_of_image.bboxes
        if plain.with_mask:
            boxes = boxes / boxes.new_tensor(
                (0.5, 0.8)).repeat(boxes.shape[1] // 2)
        boxes = boxes.view(len(boxes), -1, 4)
        for box, label, row in zip(found.bboxes, found.labels,
                                   found.class_probs):
            of_label = boxes[:, label if boxes.shape[1] > 1 else 0]
            distance = (of_label - box).abs().amax(dim=1)
            nearest = distance == distance.min()
            assert distance.min() < 1e-3
            assert (all_of_image.scores[nearest] == row).all(dim=1).any()


def test_rows_of_a_cascade_are_of_its_mean_logits():
    _, mine = pair('cascade_mask')
    logits = []
    handles = [
        head.register_forward_hook(
            lambda _, args, output: logits.append(output[0]))
        for head in mine.roi_head.bbox_head
    ]
    detections = predict(mine, *batch_of('cascade_mask'))
    for handle in handles:
        handle.remove()
    assert len(logits) == 3
    expected = (sum(logits) / 3).softmax(dim=1)
    for found in detections:
        assert_known(found.class_probs, expected)


def test_equal_boxes_and_scores_keep_their_own_rows():
    """No comparison afterwards could tell them apart."""
    _, mine = pair('faster')
    head = mine.roi_head.bbox_head
    rois = torch.tensor([[0, 10., 10, 40, 40]]).repeat(2, 1)
    logits = torch.tensor([[3., 1, 0, 0, 2], [3., 0, 1, 2, 0]])
    assert torch.equal(*logits.softmax(1)[:, 0])
    with methods_replaced(kept_rows(mine).replacements):
        found = head._predict_by_feat_single(
            rois,
            logits,
            torch.zeros(2, 4 * NUM_CLASSES),
            dict(img_shape=(96, 128), scale_factor=(1., 1.)),
            rcnn_test_cfg=ConfigDict(
                score_thr=0.3,
                nms=dict(type='nms', iou_threshold=1.0),
                max_per_img=10))
    assert found.labels.tolist() == [0, 0]
    assert torch.equal(
        found.class_probs.sort(dim=0).values,
        logits.softmax(1).sort(dim=0).values)
    assert not torch.equal(*found.class_probs)


def test_equal_queries_keep_their_own_rows():
    _, mine = pair('DeformableDETR')
    head = mine.bbox_head
    logits = torch.tensor([[2., -1, -3, -4], [2., -3, -4, -1]])
    boxes = torch.full((2, 4), 0.5)
    with methods_replaced(kept_rows(mine).replacements):
        head.test_cfg.max_per_img, before = 4, head.test_cfg.max_per_img
        found = head._predict_by_feat_single(logits, boxes,
                                             dict(img_shape=(96, 128)), False)
        head.test_cfg.max_per_img = before
    assert found.labels.tolist()[:2] == [0, 0]
    assert not torch.equal(*found.class_probs[:2])
    # And two more detections of the same queries.
    assert sorted(found.labels.tolist()[2:]) == [1, 3]
    assert torch.equal(of_labels(found), found.scores)


@pytest.mark.parametrize('head, reason', [
    (CenterNetHead, 'CenterNetHead, which does not choose its detections'),
    (CornerHead, 'CornerHead, which does not choose its detections'),
    (GARetinaHead, 'GARetinaHead, which does not choose its detections'),
    (GroundingDINOHead, 'GroundingDINOHead, whose columns are words'),
    (type(None), 'has neither an RoI head'),
])
def test_heads_that_are_refused(head, reason):
    detector = SimpleNamespace(bbox_head=head.__new__(head))
    assert reason in kept_rows(detector)


def test_roi_heads_that_are_refused():
    bbox_head = MultiInstanceBBoxHead.__new__(MultiInstanceBBoxHead)
    detector = SimpleNamespace(roi_head=SimpleNamespace(bbox_head=bbox_head))
    assert 'MultiInstanceBBoxHead, which does not' in kept_rows(detector)
