"""Predictions of RoI detectors, and their answers at given boxes."""
import copy

import pytest
import torch
from mmdet.structures.bbox import bbox2roi

from tcal_det.models.head_adapters import ClassificationSamples, adapter_for
from tests.roi_cases import (NUM_CLASSES, SIZES, build_detector, case_cfg,
                             raw_batch, small)

NAMES = ('faster', 'c4', 'mask', 'cascade', 'htc', 'scnet', 'seesaw',
         'seesaw_cascade', 'sabl', 'sabl_cascade', 'double', 'grid',
         'cascade_rpn', 'fcos_rpn', 'sigmoid', 'v3det')
SIGMOID = ('sigmoid', 'v3det')


def class_specific(model):
    for head in model.roi_head.bbox_head:
        head.reg_class_agnostic = False


@pytest.fixture(scope='module')
def detector():
    """A detector by its name, in eval, and a batch of two images."""
    built = {}

    def make(name):
        if name not in built:
            if name == 'cascade_of_classes':
                cfg = small('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco',
                            class_specific)
            else:
                cfg = case_cfg(name)
            built[name] = build_detector(cfg)
            for key, weight in built[name].named_parameters():
                if key.endswith('fc_reg.weight'):
                    weight.data.normal_(0, 0.05)
        model = built[name].eval()
        data = model.data_preprocessor(raw_batch(), False)
        return model, data['inputs'], data['data_samples']

    return make


def own_detections(model, name, images, samples):
    """Of mmdet, before NMS: rows of boxes and scores of each image."""
    features = model.extract_feat(images)
    proposals = model.rpn_head.predict(features, samples, rescale=False)
    kwargs = {}
    if getattr(model.roi_head, 'with_semantic', False):
        kwargs['semantic_feat'] = model.roi_head.semantic_head(features)[1]
    if getattr(model.roi_head, 'with_glbctx', False):
        kwargs['glbctx_feat'] = model.roi_head.glbctx_head(features)[1]
    results = model.roi_head.predict_bbox(
        features, [sample.metainfo for sample in samples],
        proposals,
        rcnn_test_cfg=None,
        **kwargs)
    if name == 'grid':
        # Another head finds its boxes afterwards, in detections.
        for result, proposed in zip(results, proposals):
            result.bboxes = proposed.bboxes
    return results


@pytest.mark.parametrize('name', (*NAMES, 'cascade_of_classes'))
@torch.no_grad()
def test_predictions_are_the_detectors_own(detector, name):
    model, images, samples = detector(name)
    adapter = adapter_for(model, 'teacher')
    assert adapter.reason_against_predicting() is None
    found, = adapter.predict(images, copy.deepcopy(samples))
    assert not found.are_unique and len(found.boxes) == len(samples)
    results = own_detections(model, name, images, samples)
    for boxes, logits, result in zip(found.boxes, found.logits, results):
        assert len(boxes) > 10
        assert logits.shape == (len(boxes), adapter.cls_channels)
        if name in SIGMOID:
            # mmdet takes the softmax of them, or leaves out a column.
            best = logits[:, :NUM_CLASSES].argmax(dim=1)
        else:
            probs = logits.softmax(dim=1)
            torch.testing.assert_close(
                probs, result.scores, rtol=1e-4, atol=1e-6)
            best = result.scores[:, :NUM_CLASSES].argmax(dim=1)
        theirs = result.bboxes.view(len(boxes), -1, 4)
        if theirs.shape[1] > 1:
            # The box of the best class is that of the row.
            theirs = theirs.take_along_dim(best[:, None, None], dim=1)
            assert len(best.unique()) > 1
        torch.testing.assert_close(boxes, theirs[:, 0], rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_no_proposal(detector):
    model, images, samples = detector('cascade')
    keeps = model.test_cfg.rpn
    model.test_cfg.rpn = copy.deepcopy(keeps)
    model.test_cfg.rpn.max_per_img = 0
    try:
        found, = adapter_for(model, 'teacher').predict(images, samples)
    finally:
        model.test_cfg.rpn = keeps
    assert [one.shape for one in found.boxes] == [(0, 4), (0, 4)]
    assert [one.shape for one in found.logits] == [(0, NUM_CLASSES + 1)] * 2


def test_without_rpn_nothing_is_predicted():
    cfg = small('fast_rcnn/fast-rcnn_r50_fpn_1x_coco')
    adapter = adapter_for(build_detector(cfg), 'teacher')
    assert 'has no RPN' in adapter.reason_against_predicting()


class OtherFamily:
    """A student whose samples are no RoIs."""
    num_stages = 1


@pytest.mark.parametrize('name', ['faster', 'cascade', 'htc', 'seesaw'])
@torch.no_grad()
def test_answers_at_given_boxes(detector, name):
    """As mmdet's own head there; the mean of the logits of its stages."""
    model, images, samples = detector(name)
    adapter = adapter_for(copy.deepcopy(model), 'teacher')
    adapter.prepare_as_teacher(OtherFamily())
    generator = torch.Generator().manual_seed(0)
    boxes = []
    for _ in SIZES:
        corner = torch.rand(7, 2, generator=generator) * 40
        boxes.append(
            torch.cat([
                corner,
                corner + 10 + torch.rand(7, 2, generator=generator) * 40
            ], 1))
    # The levels of a student's pyramid, each with both of the images.
    rois = torch.cat([
        bbox2roi([one[:3] for one in boxes]),
        bbox2roi([one[3:] for one in boxes])
    ])
    group = ClassificationSamples(
        logits=torch.zeros(1, 1),
        image_index=torch.zeros(1, dtype=torch.long),
        location=rois)
    answer, = adapter.classify_groups(
        adapter.prepare_batch(images, samples), [group])
    features = model.extract_feat(images)
    roi_head = model.roi_head
    if name in ('faster', 'seesaw'):
        expected = roi_head._bbox_forward(features, rois)['cls_score']
    else:
        kwargs = {}
        if name == 'htc':
            kwargs['semantic_feat'] = roi_head.semantic_head(features)[1]
        expected = sum(
            roi_head._bbox_forward(stage, features, rois, **kwargs)
            ['cls_score'] for stage in range(3)) / 3
    if name == 'seesaw':
        probs = roi_head.bbox_head.loss_cls.get_activation(expected)
        torch.testing.assert_close(answer.softmax(1), probs)
    else:
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    group.location = rois[:0]
    answer, = adapter.classify_groups(
        adapter.prepare_batch(images, samples), [group])
    assert answer.shape == (0, NUM_CLASSES + 1)
