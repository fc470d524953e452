"""Heads that choose positives by their scores are labelled by their boxes."""
import pytest
import torch
from dense_cases import NUM_CLASSES, batch, build, tiny_model
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from tcal_det.models.head_adapters import adapter_for
from tcal_det.models.head_adapters.decoded_boxes import (decoded_boxes,
                                                         label_by_overlap)

HEADS = ['RTMDetSepBNHead', 'TOODHead', 'YOLOXHead']
EVERYTHING = ConfigDict(
    score_thr=0.0,
    nms_pre=10**6,
    min_bbox_size=-1,
    nms=dict(type='nms', iou_threshold=1.0),
    max_per_img=10**6)


@pytest.mark.parametrize('name', HEADS)
@torch.no_grad()
def test_boxes_are_those_of_the_heads_own_detections(name):
    detector = build(tiny_model(name)).eval()
    images, data_samples = batch(name)
    outputs = detector.bbox_head(detector.extract_feat(images))
    boxes = torch.cat(decoded_boxes(detector.bbox_head, outputs), dim=1)
    results = detector.bbox_head.predict_by_feat(
        *outputs,
        batch_img_metas=[sample.metainfo for sample in data_samples],
        cfg=EVERYTHING,
        rescale=False,
        with_nms=False)
    for mine, theirs, sample in zip(boxes, results, data_samples):
        if name == 'RTMDetSepBNHead':  # the others do not clip
            height, width = sample.img_shape
            mine[:, 0::2].clamp_(0, width)
            mine[:, 1::2].clamp_(0, height)
        distances = torch.cdist(
            mine,
            theirs.bboxes.unique(dim=0),
            compute_mode='donot_use_mm_for_euclid_dist')
        assert distances.min(dim=0).values.max() < 0.01
        assert distances.min(dim=1).values.max() < 0.01


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


@pytest.mark.parametrize('name', HEADS)
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
